"""Where a part of a node that is not a node itself says what a person should know."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Protocol

from rclpy.impl.rcutils_logger import RcutilsLogger

WARN_EVERY = 5.0  # s
MAX_KINDS = 100  # of warnings in so many s
NUMBER = re.compile(r"\d+(\.\d+)?")


class Logger(Protocol):
    """One sentence at a time. Any thread may call."""

    def info(self, sentence: str) -> None:
        """Say what happened."""

    def warning(self, sentence: str) -> None:
        """Say what is wrong; perhaps called for every image."""


def kind_of(sentence: str) -> str:
    """Return what a sentence has in common with those that differ from it by their numbers alone."""
    return NUMBER.sub("#", sentence)


class NodeLogger:
    """A node's log, in which a warning is left out that was there, with whatever numbers, less than WARN_EVERY s ago.

    One of another kind is never left out for it, but where there are MAX_KINDS in that time. Any thread may call.
    clock: s, one that nobody sets
    """

    def __init__(self, logger: RcutilsLogger, clock: Callable[[], float] = time.monotonic):
        self._logger, self._clock, self._lock = logger, clock, threading.Lock()
        self._said: dict[str, float] = {}  # when each kind was said, the oldest first

    def info(self, sentence: str) -> None:
        self._logger.info(sentence)

    def warning(self, sentence: str) -> None:
        if self._may(kind_of(sentence)):
            self._logger.warning(sentence)

    def _may(self, kind: str) -> bool:
        with self._lock:
            now = self._clock()
            for old in [one for one, at in self._said.items() if now - at >= WARN_EVERY]:
                del self._said[old]
            if kind in self._said or len(self._said) >= MAX_KINDS:
                return False
            self._said[kind] = now
            return True


class UnthrottledLogger:
    """A node's log for lines that are counted elsewhere.

    rclpy ties a severity to the line of code that logs: the two have to be two.
    """

    def __init__(self, logger: RcutilsLogger):
        self._logger = logger

    def info(self, sentence: str) -> None:
        self._logger.info(sentence)

    def warning(self, sentence: str) -> None:
        self._logger.warning(sentence)
