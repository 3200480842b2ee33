"""Frames of a recording in order, each with the one after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def with_next(items: Iterable[Item]) -> Iterator[tuple[Item, Item | None]]:
    """Yield each item with the next one, None after the last.

    An error in place of an item is raised after the item before it was delivered.
    """
    iterator = iter(items)
    item = next(iterator, None)
    while item is not None:
        following = problem = None
        try:
            following = next(iterator, None)
        except Exception as raised:
            problem = raised
        yield item, following
        if problem is not None:
            raise problem
        item = following
