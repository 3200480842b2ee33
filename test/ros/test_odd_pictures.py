"""Pictures that a camera sends in a way that nobody names, and pictures of nothing, in a real graph."""

from __future__ import annotations

import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import Image

from sam2s_ros.interfaces import image_codec, messages
from sam2s_ros.msg import TrackerStatus


def twelve_bits(pixels: np.ndarray) -> Image:
    """The red channel of a picture as mono16 of which the lowest 12 bits are significant."""
    samples = np.ascontiguousarray(pixels[..., 0].astype(np.uint16) << 4)
    message = Image(height=samples.shape[0], width=samples.shape[1], encoding="mono16", step=samples.strides[0])
    message.header.stamp, message.header.frame_id = messages.to_time(time.time_ns()), "endoscope"
    message.data = image_codec.to_bytes(samples.view(np.uint8))
    return message


def test_p46_a_camera_of_12_bits_is_tracked_and_a_cap_is_a_warning(graph, start_tracker, own_camera):
    tracker = start_tracker(remap=("__ns:=/odd", f"image:={own_camera.topic}"), warm_up=False, warn_empty=0.5)
    statuses, reports = (
        graph.collect(TrackerStatus, "/odd/tracker/status"),
        graph.collect(DiagnosticArray, "/diagnostics"),
    )
    overlays = graph.collect(Image, "/odd/tracker/overlay")
    own_camera.wait_for_subscriber()

    def send_until(picture: np.ndarray, done) -> None:
        def sent_and_done() -> bool:
            own_camera.publisher.publish(twelve_bits(picture))
            time.sleep(0.05)
            return done()

        graph.wait_until(sent_and_done, 40, lambda: f"{statuses[-1:]}\n{tracker.output}")

    def levels() -> list[tuple[bytes, str]]:
        entries = [entry for report in list(reports) for entry in report.status if entry.name == "/odd/tracker: input"]
        return [(entry.level, entry.message) for entry in entries]

    picture = own_camera.picture(0)
    send_until(picture, lambda: overlays and image_codec.to_rgb(overlays[-1]).max() == picture[..., 0].max())
    assert "taken for 12 significant bits; set the parameter significant_bits" in tracker.output, tracker.output
    assert not any("next to empty" in message for _, message in levels())

    cap = np.zeros_like(picture)
    send_until(
        cap, lambda: any(level == DiagnosticStatus.WARN and "next to empty" in message for level, message in levels())
    )
    assert statuses[-1].state == TrackerStatus.STATE_RUNNING and "next to empty" in tracker.output
