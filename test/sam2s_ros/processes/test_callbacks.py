"""An executor that goes on when something raises, wherever it does."""

from __future__ import annotations

import threading
import time

import pytest
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from std_msgs.msg import String
from std_srvs.srv import Trigger

from sam2s_ros.processes.callbacks import MAX_NAMED, CallbackFailures, LenientExecutor, LenientMultiThreadedExecutor
from sam2s_ros.processes.runnable import RunnableNode


class Probe(RunnableNode):
    """All of it in one group, which something that raises must not leave locked."""

    def __init__(self, context):
        super().__init__("probe", context=context)
        group = MutuallyExclusiveCallbackGroup()
        self.heard, self.beats = [], 0
        self.create_subscription(String, "~/text", self._hear, 10, callback_group=group)
        self.create_timer(0.02, self._beat, callback_group=group)
        self.create_service(Trigger, "~/ask", self._ask, callback_group=group)

    def _hear(self, message: String) -> None:
        self.heard.append(message.data)
        if message.data == "bad":
            raise KeyError("the test's")

    def _beat(self) -> None:
        self.beats += 1
        raise ZeroDivisionError(f"beat {self.beats}")

    def _ask(self, request, response):
        raise OSError("out of cheese")


def broken(kind: type, bad: list) -> type:
    """An executor that cannot take a message while there is something in `bad`, as when it cannot be converted."""

    class Broken(kind):
        def _take_subscription(self, sub):
            taken = super()._take_subscription(sub)
            if bad:
                bad.pop()
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "the test's")
            return taken

    return Broken


@pytest.mark.parametrize("kind", [LenientExecutor, LenientMultiThreadedExecutor])
def test_p36_whatever_raises_the_next_callback_of_its_group_runs(monkeypatch, kind):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context, bad = Context(), []
    rclpy.init(context=context)
    node = Probe(context)
    executor = broken(kind, bad)(context=context)
    executor.add_node(node)
    done = threading.Event()
    spinning = threading.Thread(target=lambda: [executor.spin_once(0.05) for _ in iter(done.is_set, True)], daemon=True)
    spinning.start()
    other = rclpy.create_node("other", context=context)
    publisher, client = other.create_publisher(String, "/probe/text", 10), other.create_client(Trigger, "/probe/ask")

    def until(reached) -> None:
        deadline = time.monotonic() + 20
        while not reached():
            assert time.monotonic() < deadline and spinning.is_alive(), (
                node.heard,
                node.failures.count,
                node.failures.last,
            )
            time.sleep(0.02)

    def send_until_heard(text: str) -> None:
        until(lambda: publisher.publish(String(data=text)) or time.sleep(0.05) or text in node.heard)

    send_until_heard("first")
    bad.append(True)
    until(lambda: publisher.publish(String(data="taken")) or time.sleep(0.05) or not bad)
    send_until_heard("second")
    send_until_heard("bad")
    send_until_heard("third")
    assert client.wait_for_service(10)
    future = client.call_async(Trigger.Request())
    answers = LenientExecutor(context=context)
    answers.add_node(other)
    until(lambda: answers.spin_once(0.05) or future.done())
    assert not future.result().success and "OSError: out of cheese" in future.result().message
    beats = node.beats
    until(lambda: node.beats > beats + 2)
    assert node.failures.count >= node.beats + 2  # those of the timer, two messages and a request
    done.set()
    spinning.join(5)
    context.try_shutdown()


def test_p36_each_kind_is_named_once_and_all_are_counted():
    said: list[str] = []
    failures = CallbackFailures(said.append)
    for number in range(5):
        failures.add("a message on /x", ValueError(f"stamp {number}"))
    failures.add("a message on /y", ValueError("stamp 9"))
    assert failures.count == 6 and len(said) == 2
    assert said[0].startswith("a message on /x failed: ValueError: stamp 0; ")
    assert failures.news() == "6 callbacks failed, the last: a message on /y failed: ValueError: stamp 9"
    assert failures.news() == "" and failures.values() == {"callbacks_failed": "6"}
    for number in range(2 * MAX_NAMED):
        failures.add("a timer", ValueError("x" * number))
    assert len(said) == MAX_NAMED and failures.count == 6 + 2 * MAX_NAMED, (
        "whatever is sent, the log does not grow with it"
    )
