"""How far a run has come, as a line now and then, for logs and pipes, where no bar can be drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

EVERY = 10.0  # s


class ProgressLines:
    """Say every 10 s which frame it is, how many a second, and how long it still takes.

    say: gets the lines; clock: s
    """

    def __init__(self, say: Callable[[str], Any], clock: Callable[[], float] = time.monotonic):
        self._say, self._clock = say, clock
        self._what, self._done, self._passed = "", 0, 0  # passed: frames since the last line, of all recordings
        self._since: float | None = None

    def __call__(self, done: int, total: int | None, what: str = "") -> None:
        """Take note of the frames done, and of their number, None where it is not known. what: the recording's name"""
        now = self._clock()
        if self._since is None:  # the first frame waits for the model: the rate is that of those after it
            self._since = now
        else:
            self._passed += done - self._done if what == self._what and done >= self._done else done
        self._what, self._done = what, done
        seconds = now - self._since
        if seconds < EVERY:
            return
        fps = self._passed / seconds
        of = "" if total is None else f" of {total}"
        left = "" if total is None or not fps else f", {duration((total - done) / fps)} left"
        self._say(f"{what}{': ' * bool(what)}frame {done}{of}, {fps:.3g} frames/s{left}")
        self._passed, self._since = 0, now


class ArchiveLines:
    """Say after recordings, every 10 s at most, how many are done, how fast it goes, and how long it still takes.

    say: gets the lines; clock: s
    """

    def __init__(self, say: Callable[[str], Any], clock: Callable[[], float] = time.monotonic):
        self._say, self._clock = say, clock
        self._began: float | None = None
        self._there, self._last = 0, 0.0

    def __call__(self, done: int, total: int, frames: int) -> None:
        """Take note of the recordings done, of their number, and of the frames tracked since the first call."""
        now = self._clock()
        if self._began is None:
            self._began, self._there, self._last = now, done, now
            return
        if now - self._last < EVERY and done < total:
            return
        self._last, passed = now, now - self._began
        new = done - self._there
        left = f", {duration(passed / new * (total - done))} left" if new and done < total else ""
        rate = f", {frames / passed:.3g} frames/s" if frames and passed else ""
        self._say(f"{done} of {total} recordings are done{rate}{left}")


def duration(seconds: float) -> str:
    """Write a time as 0:07, 12:30 or 2:03:00."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
