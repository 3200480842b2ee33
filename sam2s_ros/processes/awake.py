"""Two steady clocks, of which one goes on while the machine sleeps, one stands while this process does; ClockWatch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STANDS = 2.0  # s that simulated time may stand still unnamed, as between two steps of a slow simulator
LONGEST = 0.5  # s; an AwakeClock that is read less often than that was stopped in between


def steady() -> float:
    """Read, in s, a clock that nothing sets, for ages.

    It goes on while the machine is suspended: what is old then is old after it.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class AwakeClock:
    """S in which this process ran, for how long something takes: Ctrl-Z, `docker pause` and a debugger are no hang.

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


class ClockWatch:
    """Sees that simulated time does not pass. `look` is called every second or more often, by one thread."""

    def __init__(self):
        self._time, self._since = -1, 0.0

    def look(self, now_ns: int, simulated: bool, at: float) -> str:
        """Return a sentence when simulated time has stood still for longer than STANDS, otherwise "".

        now_ns: of the node's clock; at: s, of `steady`
        """
        if now_ns != self._time or not simulated:
            self._time, self._since = now_ns, at
        stood = at - self._since
        if stood <= STANDS:
            return ""
        why = (
            "is /clock paused, or has its publisher ended?"
            if now_ns
            else "nothing is on /clock: set it to false without a simulator"
        )
        return f"use_sim_time is true, and the clock has stood at {now_ns / 1e9:.3f} s for {stood:.0f} s: {why}"
