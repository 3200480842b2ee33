"""Tracked frames as a bag that RViz and Foxglove show."""

from __future__ import annotations

from pathlib import Path

import cv2
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from sam2s_model.evaluation.follow import Step
from sam2s_model.semantics import GENERIC
from sam2s_ros.interfaces.messages import masks_message, to_time
from sam2s_ros.overlay import draw_overlay
from sam2s_ros.recorder.masks_bag import MasksBag

MASKS, LABEL_IMAGE, OVERLAY = "/tracker/masks", "/tracker/label_image", "/tracker/overlay/compressed"


class ShownBag:
    """The tracker's topics for each frame: TrackedMasks, their label image (mono8), and the overlay (JPEG) for viewers.

    Stamps are those of the recording, so that a bag of masks and the bag that they were made from can be played
    together.
    """

    def __init__(self, path: Path, model: str):
        """Open the bag. Raises ConfigError when the package's message definitions are not installed."""
        self._bag, self._model = MasksBag(path, MASKS), model

    def write(self, step: Step) -> None:
        stamp = step.frame.stamp_ns
        header = Header(stamp=to_time(stamp), frame_id="camera")
        masks = masks_message(
            step.tracks, header, sequence=self._bag.messages + 1, received_ns=stamp,
            finished_ns=stamp + round(step.seconds * 1e9), model=self._model,
        )  # fmt: skip
        self._bag.write(stamp, serialize_message(masks))
        self._bag.write_other(stamp, LABEL_IMAGE, "sensor_msgs/msg/Image", serialize_message(masks.label_image))
        drawn = cv2.cvtColor(draw_overlay(step.frame.image, step.tracks, GENERIC), cv2.COLOR_RGB2BGR)
        encoded, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 85])
        if not encoded:
            raise OSError(f"frame {step.frame.name} could not be encoded as JPEG")
        overlay = CompressedImage(header=header, format="jpeg", data=data.tobytes())
        self._bag.write_other(stamp, OVERLAY, "sensor_msgs/msg/CompressedImage", serialize_message(overlay))

    def close(self) -> None:
        self._bag.close()
