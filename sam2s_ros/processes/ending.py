"""The signals that end a program in order: Ctrl-C, `kill`, and a hang-up, as when its terminal is closed."""

from __future__ import annotations

import errno
import os
import signal
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ending_signals() -> set[signal.Signals]:
    """Return those of SIGNALS that end this process: all, or all but a hang-up that `nohup` has it ignore."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return {number for number in SIGNALS if not (ignored and number == signal.SIGHUP)}


def drop_lost_terminal() -> None:
    """Let what is written to a terminal that is gone go nowhere: each write would raise, and files stay unfinished."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        if _is_lost(output):
            os.dup2(nowhere, output)
    os.close(nowhere)


def _is_lost(output: int) -> bool:
    try:
        termios.tcgetattr(output)
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)  # others say that it is no terminal
    return False


@contextmanager
def interrupted_by_ending_signals() -> Iterator[None]:
    """Within the context SIGTERM and a hang-up raise KeyboardInterrupt, as SIGINT does: programs end in one way.

    Does nothing in another thread than the main one, where signals are not handled.
    """
    numbers = ending_signals() - {signal.SIGINT} if threading.current_thread() is threading.main_thread() else set()
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    if number == signal.SIGHUP:
        drop_lost_terminal()
    raise KeyboardInterrupt
