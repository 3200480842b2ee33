"""A node without images says who publishes its input, and what to change."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PointStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from sam2s_ros.msg import TrackerStatus

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture
def status(graph):
    statuses = graph.collect(TrackerStatus, "/silent/tracker/status")
    return lambda: statuses[-1] if statuses else TrackerStatus()


@contextmanager
def other_node(kind: type, topic: str, profile: QoSProfile) -> Iterator[None]:
    """A publisher in a context of its own: one participant has one type for a topic."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("other_node", context=context)
    node.create_publisher(kind, topic, profile)
    yield
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_p43_status_log_and_diagnostics_say_why_no_image_comes(graph, start_tracker, status):
    """One node, whose graph changes: nobody, another type, best effort where reliable is asked for, two cameras."""
    reliable = {"qos_overrides./silent/image.subscription.reliability": "reliable"}
    tracker = start_tracker(remap=("__ns:=/silent",), warm_up=False, **reliable)
    reports = graph.collect(DiagnosticArray, "/diagnostics")

    def input_report():
        entries = [
            entry for report in list(reports) for entry in report.status if entry.name == "/silent/tracker: input"
        ]
        return entries[-1] if entries else None

    def said(*parts: str) -> bool:
        entry, message = input_report(), status().message
        return (
            entry is not None
            and entry.level == DiagnosticStatus.WARN
            and all(p in message and p in entry.message for p in parts)
        )

    def wait_for(*parts: str) -> None:
        graph.wait_until(lambda: said(*parts), 40, lambda: f"{parts}: {status().message}\n{tracker.output}")

    wait_for("nobody publishes /silent/image", "-r image:=TOPIC")
    tracker.wait_for_output("no image comes: nobody publishes /silent/image")

    with other_node(CompressedImage, "/silent/image", BEST_EFFORT):
        wait_for("sensor_msgs/msg/CompressedImage by /other_node", "set the parameter compressed to true")

    best_effort = graph.publisher(Image, "/silent/image", BEST_EFFORT)
    wait_for("best effort where reliable is asked for", "qos_overrides./silent/image.subscription.reliability")

    cameras = [graph.publisher(Image, "/silent/image") for _ in range(2)]
    wait_for("2 publishers of /silent/image")
    for publisher in (best_effort, *cameras):
        graph.node.destroy_publisher(publisher)


def test_p43_two_cameras_are_a_warning_while_images_come(graph, start_tracker, new_camera):
    camera = new_camera()
    other = graph.publisher(Image, camera.topic)
    tracker = start_tracker(remap=("__ns:=/mixed", f"image:={camera.topic}"), warm_up=False)
    statuses, reports = (
        graph.collect(TrackerStatus, "/mixed/tracker/status"),
        graph.collect(DiagnosticArray, "/diagnostics"),
    )

    def warned() -> bool:
        camera.send()
        time.sleep(0.05)
        entries = [
            entry for report in list(reports) for entry in report.status if entry.name == "/mixed/tracker: input"
        ]
        running = bool(statuses) and statuses[-1].state == TrackerStatus.STATE_RUNNING
        return running and any(
            "2 publishers of" in entry.message and entry.level == DiagnosticStatus.WARN for entry in entries
        )

    graph.wait_until(warned, 40, lambda: tracker.output)
    graph.node.destroy_publisher(other)


def test_p43_clicks_of_another_type_are_a_warning(graph, start_tracker):
    """As RViz publishes them: a PointStamped, where ~/click is without a stamp."""
    tracker = start_tracker(remap=("__ns:=/clicks", "~/click:=/clicks/clicked_point"), warm_up=False)
    reports = graph.collect(DiagnosticArray, "/diagnostics")
    with other_node(PointStamped, "/clicks/clicked_point", RELIABLE):

        def warned() -> bool:
            entries = [
                entry
                for report in list(reports)
                for entry in report.status
                if entry.name == "/clicks/tracker: tracking"
            ]
            said = (
                "geometry_msgs/msg/PointStamped by /other_node, and geometry_msgs/msg/Point is subscribed to: "
                "remap `~/point` to it"
            )
            return any(entry.level == DiagnosticStatus.WARN and said in entry.message for entry in entries)

        graph.wait_until(warned, 40, lambda: tracker.output)
    assert "remap `~/point` to it" in tracker.output


def test_p43_the_console_says_that_its_topic_has_no_images(graph, start):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
    given = dict(port=0, trackers="/nobody", image="/no_images")
    arguments = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    graph.publisher(Image, "/a_camera")
    said = "/nobody: no images: nobody publishes /no_images, which the parameter image names; images are on /"
    for _ in range(3):  # on a busy machine it may know a tracker that has just ended before it knows the camera
        console = start([sys.executable, "-m", "sam2s_ros.console.node", "--ros-args", *arguments])
        console.wait_for_output(said)
        if f"{said}a_camera" in console.output:
            break
        console.stop()
    assert f"{said}a_camera" in console.output, console.output
    time.sleep(1.5)
    assert console.output.count("no images: nobody") == 1, console.output
    graph.publisher(Image, "/no_images")
    console.wait_for_output("/nobody: images of /no_images")
