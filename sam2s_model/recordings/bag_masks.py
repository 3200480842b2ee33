"""The masks of a bag, for images that come in another part of it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

WAITING_MASKS = 64  # that are held for images that come later


class MaskStream:
    """Messages of masks by the stamp of their image, read as far as the images need them.

    messages: (topic, stamp, message) of the masks, in the order of the bag; stamps: how many masks have which
    """

    def __init__(self, messages: Iterator[tuple[str, int, Any]], stamps: Counter[int]):
        self._messages, self._to_come = messages, Counter(stamps)
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._lost: list[int] = []

    def take(self, stamp: int) -> Any | None:
        """Return the mask of an image, by its stamp in ns; None where there is none."""
        while stamp not in self._held and self._to_come[stamp] > 0 and self._read():
            while len(self._held) > WAITING_MASKS:
                self._lost.append(self._held.popitem(last=False)[0])
        return self._held.pop(stamp, None)

    def rest(self) -> Iterator[int]:
        """Yield the stamps of the masks that no image has taken, in the order of the bag."""
        yield from self._lost
        yield from self._held
        self._held.clear()
        while self._read():
            yield self._held.popitem()[0]

    def _read(self) -> bool:
        found = next(self._messages, None)
        if found is None:
            self._to_come.clear()
            return False
        _, stamp, message = found
        self._to_come[stamp] -= 1
        self._held[stamp] = message
        return True
