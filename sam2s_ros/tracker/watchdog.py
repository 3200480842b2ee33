"""Ends a process whose tracker does not come back, so that whoever launched it can start another."""

from __future__ import annotations

from collections.abc import Callable

HUNG, BROKEN = 3, 4  # exit codes


class Watchdog:
    """Compares how long a step or a request has taken with what is allowed, and sees whether only a new process helps.

    busy: s, None between steps; broken: a sentence, "" while it is not; limit: s, 0 for none, whatever happens
    give_up: called once, with a sentence and the exit code
    """

    def __init__(
        self,
        busy: Callable[[], float | None],
        broken: Callable[[], str],
        limit: Callable[[], float],
        give_up: Callable[[str, int], None],
    ):
        self._busy, self._broken, self._limit, self._give_up = busy, broken, limit, give_up
        self._gave_up = False

    def check(self) -> None:
        """To be called every now and then, by a thread that does not wait for the tracker."""
        busy, broken, limit = self._busy() or 0.0, self._broken(), self._limit()
        if limit <= 0 or self._gave_up or not (broken or busy > limit):
            return
        self._gave_up = True
        spent = f"a step or a request has taken {busy:.1f} s so far (hang_exit is {limit:g} s)"
        self._give_up(f"{broken or spent}: the process ends", BROKEN if broken else HUNG)
