"""The console's node among others, in one process."""

from __future__ import annotations

import os
import time

import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
import rclpy  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402

from sam2s_ros.console.node import ConsoleNode  # noqa: E402
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
