"""Run a node until it has ended or SIGINT or SIGTERM comes, and be gone soon after."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import cached_property

import rclpy
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.timer import Timer
from rclpy.utilities import remove_ros_args

from sam2s_model.acceleration.allocator import keep_large_buffers
from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_ros.processes.awake import ClockWatch, steady
from sam2s_ros.processes.callbacks import CallbackFailures, LenientExecutor, one_line
from sam2s_ros.processes.shared_memory import SHM, remove_orphans
from sam2s_ros.processes.unused import (
    check_environment,
    unused_files,
    unused_parameters,
    unused_remappings,
    unused_rules,
    unused_variables,
)

BAD_INPUT = 2  # exit code
SIGNALS = {signal.SIGINT, signal.SIGTERM}
POLL = 0.1  # s; how late a signal, or the end of a node or of its executor, is seen at most
CLOSE_TIMEOUT = 1.0  # s for the node to stop what it is doing
GRACE = 0.5  # s after that, when the process ends whatever still runs
MOST_TRIES = 20  # of the executor, in a row, until what it raises itself ends the process


class Runnable:
    """What `run` needs of a node. Stands before rclpy's class: `class MyNode(Runnable, Node)`."""

    exit_code: int | None = None  # None: it has not ended by itself
    _clock_stood = False

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
        """A timer that goes on when simulated time stands still or is missing. period: s"""
        return self.create_timer(period, callback, callback_group=group, clock=self._steady)

    def clock_doubt(self) -> str:
        """A sentence while simulated time stands still, to be asked for at every report; otherwise ""."""
        clock = self.get_clock()
        doubt = self._clock_watch.look(clock.now().nanoseconds, clock.ros_time_is_active, steady())
        if doubt and not self._clock_stood:
            self.get_logger().warning(doubt)
        self._clock_stood = bool(doubt)
        return doubt

    def create_publisher(self, kind, topic, *args, **how):
        """As rclpy's. Raises ConfigError when the parameters qos_overrides of the topic are none of a quality of service."""
        return _made(super().create_publisher, kind, topic, *args, **how)

    def create_subscription(self, kind, topic, *args, **how):
        """As rclpy's. Raises ConfigError likewise."""
        return _made(super().create_subscription, kind, topic, *args, **how)

    def finish(self, exit_code: int = 0) -> None:
        """End the process with this code. May be called from any thread."""
        self.exit_code = exit_code

    def parts(self) -> tuple[Node, ...]:
        """The nodes to spin: itself, unless it is made of several."""
        return (self,)

    def arguments(self, args: list[str]) -> list[str]:
        """A command line as its nodes take it, for `run` to look for what has no effect."""
        return args

    def late_topics(self) -> tuple[str, ...]:
        """Full names, after remapping, of the topics that its nodes subscribe to later than when they are made."""
        return ()

    def close(self, timeout: float | None) -> bool:
        """End threads, finish files. Return whether that is done, in `timeout` s (None: as long as it takes).

        Called when no callback begins any more, and again when those that had begun in threads of the executor have ended.
        """
        return True


def _made(create: Callable, kind: type, topic: str, *args, **how):
    try:
        return create(kind, topic, *args, **how)
    except Exception as error:  # rclpy has a class of its own for each way in which a value may be wrong
        if not how.get("qos_overriding_options"):
            raise
        raise ConfigError(f"the quality of service of {topic} (parameters qos_overrides): {one_line(error)}") from error


def run(
    make_node: Callable[[], Runnable],
    args: list[str] | None = None,
    *,
    make_executor: Callable[[], Executor] = LenientExecutor,
    close_timeout: float | None = CLOSE_TIMEOUT,
) -> int:
    """Initialise ROS, make a node and spin it in a thread; at the end close it and end the process.

    make_node: makes the node; may raise Sam2sError
    args: as sys.argv, which is the default
    close_timeout: s that the node has to close; None: as long as it takes

    Returns 2, with a sentence on stderr, for wrong arguments or when the node could not be made for a reason that it
    names, and 0 when a signal was there before. Otherwise the process ends here, with the code the node has given to
    `finish`, 0 after a signal, or 1 when the executor itself fails again and again. A callback that raises is counted in the
    node's `failures`, and costs nothing else. A callback or a step that does not end in time is not
    waited for, and the interpreter is not taken apart, which takes 1 to 2 s once torch is loaded.

    Call it in the main thread. The signals are blocked from here on, also in child processes.
    """
    _block_signals()
    keep_large_buffers()
    if signal.sigpending() & SIGNALS:
        return 0
    try:
        _check_arguments(sys.argv if args is None else args)
        # 64 MiB of each process that was killed; a respawned node would fill a container with them
        removed = remove_orphans()
        initialise(args)
        node, executor = make_node(), make_executor()
    except (Sam2sError, NameValidationException, ParameterException) as error:
        print(error, file=sys.stderr)
        rclpy.try_shutdown()
        return BAD_INPUT
    _say_what_is_unused(node, sys.argv if args is None else args)
    if removed.count:
        get_logger("sam2s_ros").info(f"removed what killed processes had left in {SHM}: {removed}")
    for part in node.parts():
        executor.add_node(part)
    leaving = threading.Event()
    spinning = threading.Thread(
        target=_spin, args=(executor, leaving, node.parts()[0].failures.add), name="executor", daemon=True
    )  # which forgets them when it ends: what still knew the node would keep it in the graph
    spinning.start()

    # signal.sigtimedwait would do both, but when the process is stopped and continued it returns as if a signal had come.
    while spinning.is_alive() and node.exit_code is None and not signal.sigpending() & SIGNALS:
        time.sleep(POLL)

    code = 0 if spinning.is_alive() else 1  # then its traceback is on stderr
    if close_timeout is not None:
        _leave_in(close_timeout + GRACE, node.exit_code or code)
    leaving.set()
    spinning.join()
    closed = node.close(close_timeout)
    if closed and hasattr(executor, "_executor"):  # callbacks in its pool must end before what they use is destroyed
        executor._executor.shutdown()
        closed = node.close(close_timeout)  # one of them may have configured the node meanwhile
    code = node.exit_code or code
    if closed:
        executor.shutdown()  # otherwise the garbage collector may destroy its parts twice, with a traceback
        node.destroy_node()
        rclpy.try_shutdown()
        del node, part, executor
        gc.unfreeze()
        gc.collect()  # tells the other participants that this one is gone
    _leave(code)


def initialise(args: list[str] | None = None) -> None:
    """Initialise ROS without signal handlers. Raises ConfigError, in a sentence, where the environment does not let it."""
    check_environment()
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy's own, or whatever its middleware raises
        reason = re.sub(r", at \S+:\d+$", "", str(error)) or type(error).__name__
        helps = ""
        if "logging" in reason or "log directory" in reason:
            helps = (
                ": set ROS_LOG_DIR to a folder that can be written, or add --disable-external-lib-logs after --ros-args"
            )
        elif os.environ.get("RMW_IMPLEMENTATION"):
            helps = f": RMW_IMPLEMENTATION is {os.environ['RMW_IMPLEMENTATION']}; is it installed?"
        raise ConfigError(f"ROS cannot start, {reason}{helps}") from error


def _block_signals() -> None:
    """Let SIGINT and SIGTERM wait until `run` asks for them: they raise nowhere and are not lost.

    Threads that are made later inherit it. The installed programs have blocked them before their imports.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # A thread that a library made before (numpy and OpenCV do) may still take one. Python calls the handler in the
    # main thread, where the signal now has to wait.
    for number in SIGNALS:
        signal.signal(number, lambda number, _: signal.raise_signal(number))


def _check_arguments(args: list[str]) -> None:
    try:
        unknown = remove_ros_args(args)[1:]
    except RuntimeError as error:  # what all of rclpy's exceptions for this are
        raise ConfigError(f"the arguments after --ros-args are not valid: {error}") from error
    if unknown:
        raise ConfigError(f"argument {unknown[0]!r} is not known: parameters are given as --ros-args -p name:=value")


def _say_what_is_unused(node: Runnable, args: list[str]) -> None:
    """Log what was given and has no effect, once."""
    parts, late, args = node.parts(), node.late_topics(), node.arguments(args)
    names = [part.get_fully_qualified_name() for part in parts]
    sentences = [
        *unused_variables(),
        *(unused_parameters(part, late) for part in parts),
        *unused_files(args, names),
        *unused_rules(args, names),
        *unused_remappings(args, parts, late),
    ]
    for sentence in filter(None, sentences):
        parts[0].get_logger().warning(sentence)


def _spin(executor: Executor, leaving: threading.Event, tell: Callable[[str, Exception], str]) -> None:
    """As executor.spin(), but it ends between two callbacks: an executor that is shut down while it waits raises.

    Callbacks raise nothing here. What the executor raises itself, as when something it waits for is destroyed by a
    callback in another thread, does not come again when it waits anew; when it does, it is raised.
    """
    tries = 0
    while not leaving.is_set():
        try:
            executor.spin_once(POLL)  # executor.wake() would not end it
        except ExternalShutdownException:
            raise
        except Exception as error:
            tries += 1
            if tries == MOST_TRIES:
                raise
            tell("the executor's wait", error)
        else:
            tries = 0


def _leave_in(seconds: float, code: int) -> None:
    timer = threading.Timer(seconds, _leave, (code,))
    timer.daemon = True
    timer.start()


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
