"""Class images of another network on ~/semantic_in, in a real graph: merged with the objects of the same image."""

from __future__ import annotations

import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2s_ros.interfaces import image_codec, messages
from sam2s_ros.msg import Prompt, TrackedMasks, TrackerStatus
from sam2s_ros.srv import AddPrompts

NAME = "/mapped/tracker"
SIZE = (48, 64)  # of the camera's pictures


class Mapped:
    """A tracker that takes class images, a camera, and a network that makes them."""

    def __init__(self, graph, camera, process):
        self.graph, self.camera, self.process = graph, camera, process
        self.masks = graph.collect(TrackedMasks, f"{NAME}/masks")
        self.images = graph.collect(Image, f"{NAME}/semantic_image")
        self.diagnostics = graph.collect(DiagnosticArray, "/diagnostics")
        self.publisher = graph.publisher(Image, f"{NAME}/semantic_in")
        camera.first(lambda: self.masks)
        graph.wait_until(self.publisher.get_subscription_count, 60, lambda: "a subscriber of ~/semantic_in")

    def show(self) -> int:
        stamp = self.camera.send()
        self.graph.wait_until(lambda: self.masks.of(stamp), 60, lambda: self.process.output)
        return stamp

    def send(self, stamp: int, base: np.ndarray, encoding: str = "mono8") -> None:
        header = Header(stamp=messages.to_time(stamp), frame_id="network")
        self.publisher.publish(image_codec.to_message(base, header, encoding))

    def merged(self, value: int) -> tuple[Image, int]:
        """Show a picture and its class image, all of one class; return what comes of both, and the stamp.

        What is sent before the subscription knows its publisher is lost: it is sent for a picture after another.
        """
        for _ in range(20):
            stamp = self.show()
            self.send(stamp, np.full(SIZE, value, np.uint8))
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                if image := self.images.of(stamp):
                    return image, stamp
                time.sleep(0.01)
        pytest.fail(f"nothing was merged:\n{self.process.output}")

    def counts(self) -> dict[str, int]:
        before = len(self.diagnostics)

        def newest() -> dict[str, int]:
            entries = [s for m in self.diagnostics[before:] for s in m.status if s.name == f"{NAME}: tracking"]
            return {v.key: int(v.value) for v in entries[-1].values if v.key.startswith("semantic_")} if entries else {}

        return self.graph.wait_until(newest, 30, lambda: "the diagnostics")


@pytest.fixture(scope="module")
def mapped(graph, start_tracker, new_camera) -> Mapped:
    camera = new_camera()
    process = start_tracker(
        ("__ns:=/mapped", f"image:={camera.topic}"), semantic_in=True, semantic_max_age=30.0, input_timeout=60.0
    )
    statuses = graph.collect(TrackerStatus, f"{NAME}/status")
    graph.wait_until(
        lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING or not process.running(),
        120,
        lambda: process.output,
    )
    return Mapped(graph, camera, process)


def pixels(image: Image) -> np.ndarray:
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width)


def test_p49_maps_are_merged_under_the_images_header(graph, mapped):
    image, stamp = mapped.merged(7)
    assert image.encoding == "mono8" and image.header == mapped.masks.of(stamp).header
    assert image.header.frame_id == "endoscope" and (pixels(image) == 7).all()

    box = Prompt(box=[4.0, 12.0, 28.0, 36.0])
    answer = graph.call(AddPrompts, f"{NAME}/add_prompts", AddPrompts.Request(prompts=[box]))
    assert answer.success, answer.message
    for _ in range(2):
        mapped.merged(7)
    image, stamp = mapped.merged(5)  # one frame says otherwise
    labels = pixels(mapped.masks.of(stamp).label_image)
    assert (pixels(image)[labels == 0] == 5).all() and (pixels(image)[labels > 0] == 7).all()

    before = len(mapped.images)
    mapped.send(stamp + 1, np.full(SIZE, 3, np.uint8))  # of no image
    mapped.send(stamp + 2, np.zeros((*SIZE, 3), np.uint8), "rgb8")
    mapped.merged(7)
    counts = mapped.counts()
    assert counts["semantic_merged"] >= 5 and counts["semantic_without_masks"] >= 1
    assert counts["semantic_refused"] == 1 and counts["semantic_late"] == 0
    assert "~/semantic_in refused: encoding 'rgb8'" in mapped.process.output
    assert {messages.to_ns(image.header.stamp) for image in mapped.images[before:]} <= {
        messages.to_ns(one.header.stamp) for one in mapped.masks
    }
