"""What `process.run` runs: a node, or several in one executor."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType, ROSClock
from rclpy.node import Node
from rclpy.timer import Timer

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.awake import ClockWatch, steady
from sam2s_ros.processes.callbacks import CallbackFailures


def said_by_rcl(error: Exception) -> str:
    """Return what an error of rclpy says, without the place in rcl's sources."""
    return re.sub(r", at \S+:\d+$", "", str(error)) or type(error).__name__


class Runnable:
    """What `process.run` needs to know of what it runs."""

    @property
    def exit_code(self) -> int | None:
        """The code to end the process with; None while it has not ended by itself."""
        raise NotImplementedError

    def parts(self) -> Sequence[RunnableNode]:
        """Return the nodes to spin, at least one."""
        raise NotImplementedError

    def arguments(self, args: list[str]) -> list[str]:
        """Return a command line as its nodes take it, for `run` to look for what has no effect."""
        return args

    def late_topics(self) -> tuple[str, ...]:
        """Return full names, after remapping, of the topics that its nodes subscribe to later than in __init__."""
        return ()

    def close(self, timeout: float | None) -> bool:
        """End threads, finish files. Return whether that is done, in `timeout` s (None: as long as it takes).

        Called when no callback begins any more, and again when those that had begun in the executor's threads have
        ended.
        """
        return True

    def destroy(self) -> None:
        """Take its nodes out of the graph."""
        for part in self.parts():
            part.destroy_node()


class RunnableNode(Runnable, Node):
    """A node that `process.run` runs. A lifecycle node has this first: `class MyNode(RunnableNode, LifecycleNode)`."""

    _exit_code: int | None = None
    _clock_stood = False

    @property
    def exit_code(self) -> int | None:
        return self._exit_code

    @cached_property
    def failures(self) -> CallbackFailures:
        """What raised in the node's callbacks."""
        return CallbackFailures(lambda sentence: self.get_logger().error(sentence))

    @cached_property
    def _steady(self) -> Clock:
        return Clock(clock_type=ClockType.STEADY_TIME)

    @cached_property
    def _clock_watch(self) -> ClockWatch:
        return ClockWatch()

    def steady_timer(self, period: float, callback: Callable[[], None], group: CallbackGroup | None = None) -> Timer:
        """Make a timer that goes on when simulated time stands still or is missing. period: s"""
        return self.create_timer(period, callback, callback_group=group, clock=self._steady)

    def clock_warning(self) -> str:
        """Return a sentence while simulated time stands still, otherwise "". Call it at every report."""
        clock = self.get_clock()
        simulated = isinstance(clock, ROSClock) and clock.ros_time_is_active
        warning = self._clock_watch.look(clock.now().nanoseconds, simulated, steady())
        if warning and not self._clock_stood:
            self.get_logger().warning(warning)
        self._clock_stood = bool(warning)
        return warning

    def full_topic_name(self, parameter: str, topic: str) -> str:
        """Return the full name, after remapping, of a topic that a parameter names.

        Raises ConfigError for what is none, where rclpy raises as if it had failed itself.
        """
        try:
            return self.resolve_topic_name(topic)
        except RuntimeError as error:
            why = said_by_rcl(error)
            raise ConfigError(f"parameter {parameter} is {topic!r}, which names no topic: {why}") from error

    def finish(self, exit_code: int = 0) -> None:
        """End the process with this code. May be called from any thread."""
        self._exit_code = exit_code

    def parts(self) -> Sequence[RunnableNode]:
        return (self,)
