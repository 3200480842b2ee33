"""What the memory bank has room for: a description from which it is allocated, and its bytes follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Columns = TypeVar("Columns", int, Tensor)


@dataclass(frozen=True)
class PolicyState:
    """Something that is kept of each object, such as a Kalman filter's mean.

    shape: of one object's; dtype: None for the model's; initial: value of every entry until the policy writes it
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype | None = torch.float32
    initial: float = 0.0

    def bytes_per_object(self, element_size: int) -> int:
        return math.prod(self.shape) * (self.dtype.itemsize if self.dtype else element_size)


@dataclass(frozen=True)
class BankLayout:
    """Slots of each object, in the order of their columns: conditioning, recent, then what the policy keeps.

    conditioning: prompted frames (spatial memory and pointer), at least 2 where there are any
    recent: ring of the newest frames' spatial memories; recent_pointers: ring of their object pointers
    masks: ring of the newest frames' mask logits
    tokens: of a spatial memory; memory_dim, dim: widths of a memory and of a pointer
    logits: (h, w) of the low-resolution mask logits
    kept: name and number of the slots, each for a spatial memory and a pointer, that the policy fills as it decides
    states: numbers that it, or another part, keeps of each object from frame to frame
    key_width: channels of the keys that are kept after each token of a spatial memory, see `memory_keys`; 0: none are
    """

    conditioning: int
    recent: int
    recent_pointers: int
    masks: int
    tokens: int
    memory_dim: int
    dim: int
    logits: tuple[int, int]
    kept: tuple[tuple[str, int], ...] = ()
    states: tuple[PolicyState, ...] = ()
    key_width: int = 0

    @property
    def kept_slots(self) -> int:
        return sum(count for _, count in self.kept)

    @property
    def spatial_slots(self) -> int:
        return self.conditioning + self.recent + self.kept_slots

    @property
    def pointer_slots(self) -> int:
        return self.conditioning + self.recent_pointers + self.kept_slots

    @property
    def kept_columns(self) -> slice:
        """Columns of all kept spatial memories."""
        return slice(self.conditioning + self.recent, self.spatial_slots)

    @property
    def kept_pointers(self) -> slice:
        """Columns of all kept pointers."""
        return slice(self.conditioning + self.recent_pointers, self.pointer_slots)

    def pointer_columns(self, columns: Columns) -> Columns:
        """Map columns of kept spatial memories to those of the same frames' pointers."""
        return columns - self.kept_columns.start + self.kept_pointers.start

    def columns(self, name: str) -> slice:
        """Find the columns of the spatial memories called "conditioning", "recent" or as in `kept`. Raises KeyError."""
        begin = 0
        for known, count in (("conditioning", self.conditioning), ("recent", self.recent), *self.kept):
            if known == name:
                return slice(begin, begin + count)
            begin += count
        raise KeyError(name)

    def bytes_per_object(self, element_size: int) -> int:
        """Device bytes of one object's row: memories, keys and pointers in the model's type, the rest in its own.

        That is mask logits in fp32, a frame number in int64 for each slot, and the states.
        """
        spatial = self.spatial_slots * self.tokens * (self.memory_dim + self.key_width)
        pointers = self.pointer_slots * self.dim
        frames = 8 * (self.spatial_slots + self.pointer_slots)
        states = sum(state.bytes_per_object(element_size) for state in self.states)
        return (spatial + pointers) * element_size + 4 * self.masks * self.logits[0] * self.logits[1] + frames + states
