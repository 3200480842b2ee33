"""Which frames a sweep goes to, and what it is given there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from sam2s_model.annotation.tracking import AnnotationSweep

REMEMBERED = 4  # prompts before the frames that are tracked which a new sweep is given, beside the first


@dataclass(frozen=True)
class SweepPlan:
    """anew: whether it begins with a tracker that knows nothing; visited: positions, ascending

    wanted: position -> objects that are tracked there; known: position -> objects whose masks are given there
    last: of each object the last position that is wanted
    """

    anew: bool
    visited: list[int]
    wanted: dict[int, set[int]]
    known: dict[int, set[int]] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)

    def given(self, position: int) -> set[int]:
        return self.known.get(position, set())

    def over(self, position: int) -> list[int]:
        """Return the objects of which nothing more is wanted from this position on."""
        return [number for number, last in self.last.items() if last < position]


def to_track(table: np.ndarray, numbers: Iterable[int], end: int) -> dict[int, np.ndarray]:
    """Return number -> positions without a mask, or with a stale one, from an object's first prompt to `end`.

    table: of `AnnotationStore.table`
    """
    found = {}
    for number in numbers:
        own = table[table[:, 1] == number]
        first = own[own[:, 4] > 0, 0].min(initial=end)
        missing = np.arange(end) >= first
        fresh = own[own[:, 5] == 0, 0].astype(int)
        missing[fresh[fresh < end]] = False
        if missing.any():
            found[number] = np.flatnonzero(missing)
    return found


def plan_sweep(table: np.ndarray, todo: Mapping[int, np.ndarray], sweep: AnnotationSweep | None) -> SweepPlan:
    """Plan a sweep over what `to_track` says.

    Objects are tracked together. A sweep that stands just before what is to be done goes on; a new one is first given
    prompted frames of before, and where an object goes on in the middle, its mask of the frame before.
    """
    wanted: dict[int, set[int]] = {}
    for number, positions in todo.items():
        for position in positions.tolist():
            wanted.setdefault(position, set()).add(number)
    if not wanted:
        return SweepPlan(False, [], {})
    begin = min(wanted)
    prompted = {n: table[(table[:, 1] == n) & (table[:, 4] > 0), 0].astype(int).tolist() for n in todo}
    known: dict[int, set[int]] = {}
    # Those which go on without a prompt of a person just before, at the beginning of each stretch of theirs.
    resumed = {
        (number, position)
        for number, positions in todo.items()
        for position, before in zip(positions.tolist(), [-2, *positions.tolist()], strict=False)
        if position - 1 != before and position - 1 not in prompted[number]
    }
    goes_on = sweep is not None and sweep.position == begin - 1
    goes_on = goes_on and all(
        number in sweep.numbers for number, positions in todo.items() if positions[0] == begin and sweep is not None
    )
    for number, positions in todo.items():
        for position in prompted[number]:
            if begin <= position < positions[-1]:
                known.setdefault(position, set()).add(number)
        before = [position for position in prompted[number] if position < min(begin, positions[0])]
        if not goes_on:
            for position in {*before[:1], *before[-REMEMBERED:]}:
                known.setdefault(position, set()).add(number)
    for number, position in resumed:
        if not (goes_on and position == begin):
            known.setdefault(position - 1, set()).add(number)
    visited = sorted({*wanted, *known})
    if goes_on:
        visited = [position for position in visited if position >= begin]
    last = {number: int(positions[-1]) for number, positions in todo.items()}
    return SweepPlan(not goes_on, visited, wanted, known, last)
