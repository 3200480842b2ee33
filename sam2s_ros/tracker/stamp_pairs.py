"""Match items of two sides by stamp, within a tolerance: images of a stereo camera, or what was made of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

GAPS = 5  # of a side's stamps, of which the least says how soon its next item may come

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Waiting(Generic[Item]):
    stamp: int
    item: Item


class StampPairs(Generic[Item]):
    """Matches items whose stamps differ by `tolerance` at most: the nearest first, each item once, in order.

    Each side's come in the order of their stamps, and some do not come at all. One whose stamp is out of order is given
    up with the next pair of what came after it. The ApproximateTimeSynchronizer of
    message_filters takes the first that fits instead, and an item may be in no pair or in a wrong one. This one also
    counts what finds no partner, and forgets it at once.

    pending: items of a side that wait at most; tolerance: ns
    paired: pairs so far; unpaired: items of each side that were given up
    nearest: least difference of two stamps of both sides, ns, since `forget_nearest`; None: there were not two
    """

    def __init__(self, pending: int, tolerance: int = 0):
        self._pending, self._tolerance = pending, tolerance
        self._waiting: tuple[deque[_Waiting[Item]], ...] = (deque(), deque())
        self._newest = [0, 0]
        self._gaps: tuple[deque[int], ...] = (deque(maxlen=GAPS), deque(maxlen=GAPS))
        self.paired, self.unpaired = 0, [0, 0]
        self.nearest: int | None = None

    def add(self, side: int, stamp: int, item: Item) -> list[tuple[Item, Item]]:
        """Return the pairs that are certain now, with the item of side 0 first: none, one, seldom two.

        A pair is certain when what may come next on either side cannot be nearer; with a camera whose two images differ
        by less than half a period it is so at once. What came before a pair is given up, since the sides are in order.
        """
        others = self._waiting[1 - side]
        gap = stamp - self._newest[side]
        if gap > 0 and self._newest[side]:
            self._gaps[side].append(gap)
        self._newest[side] = stamp
        self._waiting[side].append(_Waiting(stamp, item))
        away = min((abs(other.stamp - stamp) for other in others), default=None)
        if away is not None:
            self.nearest = away if self.nearest is None else min(away, self.nearest)
        found = []
        while (pair := self._next()) is not None:
            found.append(pair)
        for own, waiting in enumerate(self._waiting):
            while len(waiting) > self._pending:
                self._give_up(own)
        return found

    def waits(self, side: int, stamp: int) -> bool:
        """Tell whether an item of that very stamp waits for its partner."""
        return any(one.stamp == stamp for one in self._waiting[side])

    def forget_nearest(self) -> None:
        self.nearest = None

    def _next(self) -> tuple[Item, Item] | None:
        """Take the first pair of two that are each other's nearest, if it is certain."""
        left, right = self._waiting
        for i, one in enumerate(left):
            j = _nearest(right, one.stamp)
            if j is None or _nearest(left, right[j].stamp) != i or abs(right[j].stamp - one.stamp) > self._tolerance:
                continue
            if not self._certain(i, j):
                return None
            self.paired += 1
            other = right[j]
            for side, count in ((0, i), (1, j)):
                for _ in range(count):
                    self._give_up(side)
                self._waiting[side].popleft()
            return one.item, other.item
        return None

    def _certain(self, i: int, j: int) -> bool:
        """Tell whether no later item of the earlier one's side can be nearer to the other than it is."""
        places = (i, j)
        stamps = [waiting[place].stamp for waiting, place in zip(self._waiting, places, strict=True)]
        earlier = 0 if stamps[0] <= stamps[1] else 1
        away = abs(stamps[1] - stamps[0])
        if away == 0 or places[earlier] < len(self._waiting[earlier]) - 1:
            return True
        return bool(self._gaps[earlier]) and min(self._gaps[earlier]) >= 2 * away

    def _give_up(self, side: int) -> None:
        self._waiting[side].popleft()
        self.unpaired[side] += 1


def _nearest(waiting: deque[_Waiting], stamp: int) -> int | None:
    """Find the place of the item with the nearest stamp, the first of several; None when there is none."""
    return min(range(len(waiting)), key=lambda place: abs(waiting[place].stamp - stamp), default=None)
