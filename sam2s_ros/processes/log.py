"""Where a part of a node that is not a node itself says what a person should know."""

from __future__ import annotations

from typing import Protocol

from rclpy.impl.rcutils_logger import RcutilsLogger

WARN_EVERY = 5.0  # s


class Logger(Protocol):
    """One sentence at a time. Any thread may call."""

    def info(self, sentence: str) -> None:
        """Say what happened."""

    def warning(self, sentence: str) -> None:
        """Say what is wrong; perhaps called for every image."""


class NodeLogger:
    """A node's log, in which warnings that come faster than one in WARN_EVERY s are left out."""

    def __init__(self, logger: RcutilsLogger):
        self._logger = logger

    def info(self, sentence: str) -> None:
        self._logger.info(sentence)

    def warning(self, sentence: str) -> None:
        self._logger.warning(sentence, throttle_duration_sec=WARN_EVERY)


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
