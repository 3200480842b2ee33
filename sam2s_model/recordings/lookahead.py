"""Frames of a recording in order, each with the one after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def with_next(items: Iterable[Item]) -> Iterator[tuple[Item, Item | None]]:
    """Each item and the next, None after the last. What is raised instead of an item is raised after the one before it."""
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
