"""The memory bank: fixed slots for each object, allocated once and overwritten in place.

Nothing here grows with the length of a video. The tensors are on the model's device; which frame is in which slot is
kept on the host, where the policies decide, so that a step needs no synchronisation with the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EMPTY = -1  # frame index of a slot that holds nothing


@dataclass(frozen=True)
class BankLayout:
    """Slots of each object.

    conditioning: prompted frames (spatial memory and pointer), at least 2 where there are any
    recent: ring of the newest frames' spatial memories; recent_pointers: ring of their object pointers
    area: positions of a spatial memory (h x w); memory_dim, dim: widths of a memory and of a pointer
    logits: (h, w) of the low-resolution mask logits
    """

    conditioning: int
    recent: int
    recent_pointers: int
    area: int
    memory_dim: int
    dim: int
    logits: tuple[int, int]

    @property
    def spatial_slots(self) -> int:
        return self.conditioning + self.recent

    @property
    def pointer_slots(self) -> int:
        return self.conditioning + self.recent_pointers

    def bytes_per_object(self, element_size: int) -> int:
        """Device bytes of one object's row: memories and pointers in the model's type, logits in fp32."""
        spatial = self.spatial_slots * self.area * self.memory_dim
        pointers = self.pointer_slots * self.dim
        return (spatial + pointers) * element_size + 4 * self.logits[0] * self.logits[1]


class MemoryBank:
    """Rows of slots. An object's row moves when another object goes; its id does not, and only the bank knows both.

    frames: (capacity, spatial_slots) int64 on the host, frame index in each slot or EMPTY; conditioning slots first
    pointer_frames: (capacity, pointer_slots), the same for the pointers
    spatial: (capacity, spatial_slots, area, memory_dim); pointers: (capacity, pointer_slots, dim)
    logits: (capacity, 1, h, w) fp32, each object's mask logits on the newest frame it was seen
    """

    def __init__(self, layout: BankLayout, device: torch.device, dtype: torch.dtype):
        self.layout = layout
        self.ids: list[int] = []
        self.device, self.dtype = device, dtype
        self._allocate(0)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def capacity(self) -> int:
        return len(self.frames)

    def row(self, object_id: int) -> int:
        """Raises ValueError for an id that is not in the bank."""
        return self.ids.index(object_id)

    def add(self, object_id: int) -> int:
        """Give an object an empty row."""
        self.reserve(len(self) + 1)
        row = len(self)
        self.ids.append(object_id)
        self.frames[row] = EMPTY
        self.pointer_frames[row] = EMPTY
        return row

    def reserve(self, rows: int) -> None:
        """Make room for as many objects. Capacity doubles when it is full: 1, 2, 4, ... rows."""
        capacity = max(1, self.capacity)
        while capacity < rows:
            capacity *= 2
        if rows > self.capacity:
            self._allocate(capacity)

    def remove(self, object_id: int) -> None:
        """Free an object's row; the last row takes its place."""
        row, last = self.row(object_id), len(self) - 1
        for store in (self.frames, self.pointer_frames, self.spatial, self.pointers, self.logits):
            store[row] = store[last]
        self.ids[row] = self.ids[last]
        self.ids.pop()

    def clear(self) -> None:
        """Forget all objects; the memory stays allocated."""
        self.ids.clear()

    def write_recent(self, frame: int, spatial: Tensor, pointers: Tensor) -> None:
        """Remember one frame of all objects, in place of the oldest. spatial (N, area, memory_dim), pointers (N, dim)."""
        n, layout = len(self), self.layout
        slot = layout.conditioning + frame % layout.recent
        self.spatial[:n, slot] = spatial.to(self.dtype)
        self.frames[:n, slot] = frame
        slot = layout.conditioning + frame % layout.recent_pointers
        self.pointers[:n, slot] = pointers.to(self.dtype)
        self.pointer_frames[:n, slot] = frame

    def write_conditioning(self, row: int, frame: int, spatial: Tensor, pointer: Tensor) -> None:
        """Remember a prompted frame of one object: the first stays, the oldest of the others gives way.

        spatial (area, memory_dim), pointer (dim,). The same frame as a recent memory is forgotten: it is this one now.
        """
        layout = self.layout
        slot = self._conditioning_slot(row, frame)
        self.spatial[row, slot] = spatial.to(self.dtype)
        self.pointers[row, slot] = pointer.to(self.dtype)
        self.frames[row, slot] = self.pointer_frames[row, slot] = frame
        for frames in (self.frames, self.pointer_frames):
            recent = frames[row, layout.conditioning :]
            recent[recent == frame] = EMPTY

    def memory_bytes(self) -> int:
        """Bytes allocated on the device: capacity x `BankLayout.bytes_per_object`."""
        return sum(t.numel() * t.element_size() for t in (self.spatial, self.pointers, self.logits))

    def _conditioning_slot(self, row: int, frame: int) -> int:
        held = self.frames[row, : self.layout.conditioning]
        for wanted in (frame, EMPTY):
            if (held == wanted).any():
                return int(np.argmax(held == wanted))
        order = np.argsort(held)
        return int(order[1])

    def _allocate(self, capacity: int) -> None:
        layout, n = self.layout, len(self.ids)
        old = None if capacity == 0 else (self.frames, self.pointer_frames, self.spatial, self.pointers, self.logits)
        zeros = dict(device=self.device, dtype=self.dtype)
        self.frames = np.full((capacity, layout.spatial_slots), EMPTY, np.int64)
        self.pointer_frames = np.full((capacity, layout.pointer_slots), EMPTY, np.int64)
        self.spatial = torch.zeros(capacity, layout.spatial_slots, layout.area, layout.memory_dim, **zeros)
        self.pointers = torch.zeros(capacity, layout.pointer_slots, layout.dim, **zeros)
        self.logits = torch.zeros(capacity, 1, *layout.logits, device=self.device)
        if old is not None:
            new = (self.frames, self.pointer_frames, self.spatial, self.pointers, self.logits)
            for target, source in zip(new, old):
                target[:n] = source[:n]
