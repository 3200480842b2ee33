"""Two steady clocks: one that goes on while the machine sleeps, and one that stands while this process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LONGEST = 0.5  # s; an AwakeClock that is read less often than that was stopped in between


def steady() -> float:
    """s of a clock that nothing sets, for ages. It goes on while the machine is suspended: what is old then is old after it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class AwakeClock:
    """s in which this process ran, for how long something takes: Ctrl-Z, `docker pause` and a debugger are no hang.

    Whoever owns it reads it at least every 0.1 s, also when there is nothing to measure. Any thread may.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now, self._lock = now, threading.Lock()
        self._last, self._ran = now(), 0.0

    def __call__(self) -> float:
        with self._lock:
            now = self._now()
            self._ran += min(now - self._last, LONGEST)
            self._last = now
            return self._ran
