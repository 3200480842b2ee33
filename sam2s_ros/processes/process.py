"""Run a node until it has ended or a signal that ends it comes, and be gone soon after."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import rclpy
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import Executor
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from sam2s_model.acceleration.allocator import keep_large_buffers
from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_model.paths import readable
from sam2s_ros.processes.arguments import NO_UTF8
from sam2s_ros.processes.callbacks import LenientExecutor
from sam2s_ros.processes.ending import drop_lost_terminal, ending_signals
from sam2s_ros.processes.runnable import Runnable, said_by_rcl
from sam2s_ros.processes.shared_memory import SHM, remove_orphans
from sam2s_ros.processes.spinning import POLL, spin
from sam2s_ros.processes.unused import (
    check_environment,
    unused_files,
    unused_parameters,
    unused_remappings,
    unused_rules,
    unused_variables,
)

BAD_INPUT = 2  # exit code
CLOSE_TIMEOUT = 1.0  # s for the node to stop what it is doing
GRACE = 0.5  # s after that, when the process ends whatever still runs


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
    `finish`, 0 after a signal, or 1 when the executor itself fails again and again. A callback that raises is counted
    in the node's `failures`, and costs nothing else. A callback or a step that does not end in time is not waited for,
    and the interpreter is not taken apart, which takes 1 to 2 s once torch is loaded.

    Call it in the main thread. The signals are blocked from here on, also in child processes.
    """
    signals = _block_signals()
    keep_large_buffers()
    if signal.sigpending() & signals:
        return 0
    args = sys.argv if args is None else args
    try:
        check_arguments(args)
        # 64 MiB of each process that was killed; a respawned node would fill a container with them
        removed = remove_orphans()
        initialise(args)
        node, executor = make_node(), make_executor()
    except (Sam2sError, NameValidationException, ParameterException) as error:
        print(error, file=sys.stderr)
        rclpy.try_shutdown()
        return BAD_INPUT
    _say_what_is_unused(node, args)
    if removed.count:
        get_logger("sam2s_ros").info(f"removed what killed processes had left in {SHM}: {removed}")
    for part in node.parts():
        executor.add_node(part)
    leaving = threading.Event()
    spinning = threading.Thread(
        target=spin, args=(executor, leaving, node.parts()[0].failures.add), name="executor", daemon=True
    )  # which forgets them when it ends: what still knew the node would keep it in the graph
    spinning.start()

    # signal.sigtimedwait would do both, but in a process that is stopped and continued it returns as if a signal came.
    while spinning.is_alive() and node.exit_code is None and not signal.sigpending() & signals:
        time.sleep(POLL)

    if signal.SIGHUP in signal.sigpending():
        drop_lost_terminal()
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
        node.destroy()
        rclpy.try_shutdown()
        del node, part, executor
        gc.unfreeze()
        gc.collect()  # tells the other participants that this one is gone
    _leave(code)
    raise AssertionError("the process has ended")


def initialise(args: Sequence[str] = ()) -> None:
    """Initialise ROS without signal handlers. Raises ConfigError where the environment does not let it.

    args: as sys.argv, of a node; none for a command, whose own arguments are not for ROS
    """
    check_environment()
    try:
        rclpy.init(args=list(args), signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy's own, or whatever its middleware raises
        reason = said_by_rcl(error)
        helps = ""
        if "logging" in reason or "log directory" in reason:
            helps = (
                ": set ROS_LOG_DIR to a folder that can be written, or add --disable-external-lib-logs after --ros-args"
            )
        elif os.environ.get("RMW_IMPLEMENTATION"):
            helps = f": RMW_IMPLEMENTATION is {os.environ['RMW_IMPLEMENTATION']}; is it installed?"
        raise ConfigError(f"ROS cannot start, {reason}{helps}") from error


def _block_signals() -> set[signal.Signals]:
    """Let the signals that end it wait until `run` asks for them: they raise nowhere and are not lost. Return them.

    Threads that are made later inherit it. The installed programs have blocked them before their imports.
    """
    signals = ending_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    # A thread that a library made before (numpy and OpenCV do) may still take one. Python calls the handler in the
    # main thread, where the signal now has to wait.
    for number in signals:
        signal.signal(number, lambda number, _: signal.raise_signal(number))
    return signals


def check_arguments(args: list[str]) -> None:
    """Raise ConfigError for what no node takes. args: as sys.argv"""
    for arg in args:
        if re.search(NO_UTF8, arg):
            raise ConfigError(f"argument {readable(arg)} is no UTF-8, and ROS takes no other: rename it")
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


def _leave_in(seconds: float, code: int) -> None:
    timer = threading.Timer(seconds, _leave, (code,))
    timer.daemon = True
    timer.start()


def _leave(code: int) -> NoReturn:
    for output in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a terminal that is gone, a pipe that nobody reads
            output.flush()
    os._exit(code)
