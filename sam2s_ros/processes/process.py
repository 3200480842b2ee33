"""Run a node until it has ended or SIGINT or SIGTERM comes, and be gone soon after."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from sam2s_model.acceleration.allocator import keep_large_buffers
from sam2s_model.errors import ConfigError, Sam2sError

BAD_INPUT = 2  # exit code
SIGNALS = {signal.SIGINT, signal.SIGTERM}
POLL = 0.1  # s; how late the end of a node, or of its executor, is seen at most
CLOSE_TIMEOUT = 1.0  # s for the node to stop what it is doing
GRACE = 0.5  # s after that, when the process ends whatever still runs


class Runnable:
    """What `run` needs of a node. Stands before rclpy's class: `class MyNode(Runnable, Node)`."""

    exit_code: int | None = None  # None: it has not ended by itself

    def finish(self, exit_code: int = 0) -> None:
        """End the process with this code. May be called from any thread."""
        self.exit_code = exit_code

    def parts(self) -> tuple[Node, ...]:
        """The nodes to spin: itself, unless it is made of several."""
        return (self,)

    def close(self, timeout: float | None) -> bool:
        """End threads, finish files. Return whether that is done, in `timeout` s (None: as long as it takes).

        Called when no callback begins any more, and again when those that had begun in threads of the executor have ended.
        """
        return True


def run(
    make_node: Callable[[], Runnable],
    args: list[str] | None = None,
    *,
    make_executor: Callable[[], Executor] = SingleThreadedExecutor,
    close_timeout: float | None = CLOSE_TIMEOUT,
) -> int:
    """Initialise ROS, make a node and spin it in a thread; at the end close it and end the process.

    make_node: makes the node; may raise Sam2sError
    args: as sys.argv, which is the default
    close_timeout: s that the node has to close; None: as long as it takes

    Returns 2, with a sentence on stderr, for wrong arguments or when the node could not be made for a reason that it
    names, and 0 when a signal was there before. Otherwise the process ends here, with the code the node has given to
    `finish`, 0 after a signal, or 1 when a callback raised. A callback or a step that does not end in time is not
    waited for, and the interpreter is not taken apart, which takes 1 to 2 s once torch is loaded.

    Call it in the main thread. The signals are blocked from here on, also in child processes.
    """
    _block_signals()
    keep_large_buffers()
    if signal.sigpending() & SIGNALS:
        return 0
    try:
        _check_arguments(sys.argv if args is None else args)
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node, executor = make_node(), make_executor()
    except Sam2sError as error:
        print(error, file=sys.stderr)
        rclpy.try_shutdown()
        return BAD_INPUT
    for part in node.parts():
        executor.add_node(part)
    leaving = threading.Event()
    spinning = threading.Thread(target=_spin, args=(executor, leaving), name="executor", daemon=True)
    spinning.start()

    while spinning.is_alive() and node.exit_code is None and signal.sigtimedwait(SIGNALS, POLL) is None:
        pass

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


def _block_signals() -> None:
    """Let SIGINT and SIGTERM wait until `sigtimedwait` asks for them: they raise nowhere and are not lost.

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


def _spin(executor: Executor, leaving: threading.Event) -> None:
    """As executor.spin(), but it ends between two callbacks: an executor that is shut down while it waits raises."""
    while not leaving.is_set():
        executor.spin_once(POLL)  # executor.wake() would not end it


def _leave_in(seconds: float, code: int) -> None:
    timer = threading.Timer(seconds, _leave, (code,))
    timer.daemon = True
    timer.start()


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
