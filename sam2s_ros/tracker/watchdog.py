"""Ends a process whose tracker does not come back, so that whoever launched it can start another."""

from __future__ import annotations

from collections.abc import Callable

HUNG = 3  # exit code


class Watchdog:
    """Compares how long a step or a request has taken with what is allowed.

    busy: s, None between steps; limit: s, 0 for none
    give_up: called once, with a sentence and the exit code
    """

    def __init__(
        self,
        busy: Callable[[], float | None],
        limit: Callable[[], float],
        give_up: Callable[[str, int], None],
    ):
        self._busy, self._limit, self._give_up = busy, limit, give_up
        self._gave_up = False

    def check(self) -> None:
        """To be called every now and then, by a thread that does not wait for the tracker."""
        busy, limit = self._busy() or 0.0, self._limit()
        if 0 < limit < busy and not self._gave_up:
            self._gave_up = True
            spent = f"a step or a request has taken {busy:.1f} s so far (hang_exit is {limit:g} s)"
            self._give_up(f"{spent}: the process ends", HUNG)
