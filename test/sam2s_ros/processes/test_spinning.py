"""A thread that calls callbacks goes on when one raises, or when something is destroyed while it waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import rclpy
from rclpy.exceptions import InvalidHandle
from std_msgs.msg import Header

from sam2s_ros.processes import spinning
from sam2s_ros.processes.running_trackers import RunningTrackers
from sam2s_ros.processes.spinning import MAX_TRIES, NodeThread, spin


@pytest.fixture
def node():
    rclpy.init()
    made = rclpy.create_node("spun")
    yield made
    rclpy.try_shutdown()


def raises_first(times: int, error: Exception) -> tuple[Callable[[], None], threading.Event]:
    """Make a callback that raises at first, and an event that is set when it does not any more."""
    went_on, calls = threading.Event(), []

    def callback() -> None:
        calls.append(1)
        if len(calls) <= times:
            raise error
        went_on.set()

    return callback, went_on


@pytest.mark.parametrize("error", [InvalidHandle("destroyed meanwhile"), ValueError("of a callback")], ids=repr)
def test_what_raises_is_a_warning_and_the_callbacks_go_on(node, error, monkeypatch):
    told = []
    monkeypatch.setattr(NodeThread, "_tell", lambda self, what, error: told.append((what, error)))
    callback, went_on = raises_first(3, error)
    node.create_timer(0.01, callback)
    thread = NodeThread(node)
    assert went_on.wait(20) and told == [("the executor's wait", error)] * 3
    thread.close(5.0)
    assert not thread._thread.is_alive()


def test_publishers_can_be_destroyed_in_another_thread(node):
    callback, went_on = raises_first(0, ValueError())
    thread = NodeThread(node)
    for i in range(100):
        node.destroy_publisher(node.create_publisher(Header, f"words_{i % 5}", 1))
    node.create_timer(0.01, callback)
    assert went_on.wait(20)
    thread.close(5.0)


def test_what_follows_trackers_goes_on_too():
    callback, went_on = raises_first(1, InvalidHandle("destroyed meanwhile"))
    with RunningTrackers("goes_on") as running:
        running.node.create_timer(0.01, callback)
        assert went_on.wait(20)


def test_what_fails_again_and_again_is_raised(monkeypatch):
    error, told = InvalidHandle("for good"), []
    monkeypatch.setattr(spinning, "_spin_once", lambda executor: error)
    with pytest.raises(InvalidHandle, match="for good"):
        spin(None, threading.Event(), lambda what, error: told.append(error))
    assert told == [error] * (MAX_TRIES - 1)
