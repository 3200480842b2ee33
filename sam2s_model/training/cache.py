"""A bounded cache for what is slow to read or draw. It changes speed only: what falls out is made again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np


class ByteCache:
    """Least recently used first out; limit: bytes of the arrays in it. Threads may share it."""

    def __init__(self, limit: int):
        self.limit = limit
        self.bytes = 0
        self._held: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of a key, made if it is not there.

        Values are arrays, or tuples or lists of them, which nobody may change.
        """
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key][0]
        value = make()  # two threads may make the same at once: they make equal values
        size = _size(value)
        with self._lock:
            if key not in self._held and size <= self.limit:
                self._held[key] = value, size
                self.bytes += size
                while self.bytes > self.limit:
                    self.bytes -= self._held.popitem(last=False)[1][1]
        return value


def _size(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    return sum(_size(part) for part in value) if isinstance(value, (tuple, list)) else 0
