"""What a recorder is given in tests, and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sam2s_model.tracks import State, Tracks
from sam2s_ros.interfaces import image_codec, messages
from sam2s_ros.msg import TrackedMasks

H, W = 61, 80  # an odd height: the video leaves out a row
T0 = 1_700_000_000_000_000_000


def tracks_of(index: int) -> Tracks:
    """Two objects: a square that moves one column a frame, and one that is not visible."""
    label_map, left = np.zeros((H, W), np.uint8), 5 + index % 50
    label_map[10:30, left : left + 20] = 1
    return Tracks(
        stamp=T0 + index * 10**8, label_map=label_map, object_ids=np.array([3, 7]), labels=np.array([1, 2], np.uint8),
        class_ids=np.array([1, 2], np.uint8), class_names=("instrument", "object"),
        states=np.array([State.TRACKED, State.OCCLUDED], np.uint8), scores=np.array([0.9, 0.1], np.float32),
        predicted_ious=np.array([0.8, 0.2], np.float32),
        boxes=np.array([[left, 10, left + 20, 30], [0, 0, 0, 0]], np.int32),
        areas=np.array([400, 0]), centroids=np.array([[left + 9.5, 19.5], [np.nan, np.nan]], np.float32), revision=1,
    )  # fmt: skip


def truth_of(index: int) -> np.ndarray:
    """Label 5 is half of object 3's square; 255 is outside."""
    truth = np.where(tracks_of(index).label_map == 1, 5, 0).astype(np.uint8)
    truth[20:30] = 0
    truth[:, :2] = 255
    return truth


class Source:
    """Publishes what a camera, an annotator and a tracker would. kind: of the camera's images, None without one"""

    def __init__(self, graph, name: str, kind: type | None = Image, truth_topic: str = "mask"):
        self.images = graph.publisher(kind, f"{name}/image") if kind else None
        self.truths = graph.publisher(Image, f"{name}/{truth_topic}")
        self.masks = graph.publisher(TrackedMasks, f"{name}/tracker/masks")
        self.sent: list[TrackedMasks] = []
        self._graph, self._reports = graph, graph.collect(DiagnosticArray, "/diagnostics")
        for publisher in filter(None, (self.images, self.truths, self.masks)):
            graph.wait_until(
                publisher.get_subscription_count,
                30,
                lambda name=publisher.topic_name: f"the recorder to subscribe to {name}",
            )
        graph.known_to(f"{name}/recorder")  # what is sent before it knows the publishers is lost

    def status(self) -> DiagnosticStatus:
        """What the recorder said last."""
        told = [s for message in list(self._reports)[-1:] for s in message.status if s.name == "recorder: messages"]
        return told[0] if told else DiagnosticStatus()

    def counted(self) -> dict[str, int]:
        return {pair.key: int(pair.value) for pair in self.status().values}

    def wait_for(self, **counts: int) -> None:
        self._graph.wait_until(
            lambda: counts.items() <= self.counted().items(), 30, lambda: f"{counts}, not {self.counted()}"
        )

    @staticmethod
    def header(index: int) -> Header:
        return Header(stamp=messages.to_time(T0 + index * 10**8), frame_id="camera")

    def image(self, index: int) -> None:
        pixels = np.full((H, W, 3), (200, 40, 10 * index % 256), np.uint8)
        self.images.publish(image_codec.to_message(pixels, self.header(index), "rgb8"))

    def jpeg(self, index: int) -> None:
        _, data = cv2.imencode(".jpg", np.full((H, W, 3), (10, 40, 200), np.uint8))
        message = CompressedImage(header=self.header(index), format="jpeg", data=image_codec.to_bytes(data))
        self.images.publish(message)

    def truth(self, index: int) -> None:
        self.truths.publish(image_codec.to_message(truth_of(index), self.header(index), "mono8"))

    def noise(self, index: int) -> None:
        """An image that no codec makes small, with its ground truth and masks."""
        pixels = np.random.default_rng(index).integers(0, 256, (H, W, 3), np.uint8)
        self.images.publish(image_codec.to_message(pixels, self.header(index), "rgb8"))
        self.truth(index)
        self.mask(index)

    def mask(self, index: int, height: int = H, width: int = W) -> None:
        """height, width: of the image, whose part is what the tracker sees"""
        stamp = T0 + index * 10**8
        tracks = replace(tracks_of(index), label_map=np.ascontiguousarray(tracks_of(index).label_map[:height, :width]))
        message = messages.masks_message(
            tracks, self.header(index), sequence=len(self.sent) + 1, received_ns=stamp + 10**6,
            finished_ns=stamp + 21 * 10**6, model="test/none",
        )  # fmt: skip
        self.masks.publish(message)
        self.sent.append(message)


def frames_in(folder: Path) -> tuple[int, int, int]:
    """How many frames the video, the bag and the list have that a recorder has left."""
    with av.open(str(folder / "overlay.mp4")) as container:
        pictures = sum(1 for _ in container.decode(video=0))
    with AnyReader([folder / "masks.mcap"]) as reader:
        return pictures, len(list(reader.messages())), len((folder / "frames.jsonl").read_text().splitlines())
