"""The console's node among others, in one process."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
import rclpy  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from sam2s_ros.console.camera import TrackerLink  # noqa: E402
from sam2s_ros.console.frames import Pictures  # noqa: E402
from sam2s_ros.console.node import ConsoleNode  # noqa: E402
from sam2s_ros.interfaces.image_codec import to_jpeg  # noqa: E402
from sam2s_ros.interfaces.messages import to_time  # noqa: E402
from sam2s_ros.msg import TrackedMasks, TrackerStatus  # noqa: E402
from sam2s_ros.srv import AddPrompts  # noqa: E402

NAMESPACE = f"/timeless_{os.getpid()}"


@pytest.fixture
def without_clock():
    """Simulated time, of which nothing comes."""
    rclpy.init(args=["--ros-args", "-p", "use_sim_time:=true", "-p", "port:=0", "-r", "/clock:=/no/clock"])
    yield
    rclpy.try_shutdown()


def test_p38_without_a_clock_the_console_finds_the_trackers(without_clock):
    tracker = rclpy.create_node("tracker", namespace=NAMESPACE, use_global_arguments=False)
    tracker.create_publisher(TrackedMasks, "~/masks", 1)
    tracker.create_publisher(TrackerStatus, "~/status", 1)
    tracker.create_service(AddPrompts, "~/add_prompts", lambda request, response: response)
    console, executor = ConsoleNode(), SingleThreadedExecutor()
    executor.add_node(console)
    try:
        assert console.get_clock().now().nanoseconds == 0
        deadline = time.monotonic() + 10
        while f"{NAMESPACE}/tracker" not in console._by_name() and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
        assert f"{NAMESPACE}/tracker" in console._by_name()
    finally:
        console.close(5.0)
        executor.shutdown(1.0)
        console.destroy()
        tracker.destroy_node()


def test_a_compressed_image_is_shown_when_no_masks_come(without_clock):
    node = rclpy.create_node("console", namespace=NAMESPACE, use_global_arguments=False)
    try:
        link = TrackerLink(node, "/off", lambda: None, image="/image", image_memory=1 << 20, timeout=1.0)
        clock = iter(np.arange(5.0, 100.0))
        link.session._clock = lambda: float(next(clock))
        link.session.on_status({"state": "DISABLED", "message": ""})
        for stamp in (1, 2, 3):  # a second or more between two
            link._on_image(to_jpeg(np.zeros((24, 32, 3), np.uint8), Header(stamp=to_time(stamp)), 80))
        frame = link.session.frame()
        assert frame is not None and (frame.stamp, frame.tracked) == (3, False)
        assert Pictures().picture("/off", frame).size == (24, 32)
    finally:
        node.destroy_node()
