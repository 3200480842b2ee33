"""The memory bank: fixed slots for each object, allocated once and overwritten in place.

Nothing here grows with the length of a video. The tensors are on the model's device; which frame is in which slot is
kept on the host, where the policies decide, so that a step needs no synchronisation with the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EMPTY = -1  # frame index of a slot that holds nothing

Rows = slice | list[int]
"""Which objects: all of them as `slice(0, len(bank))`, which copies nothing, or a list of rows."""


@dataclass(frozen=True)
class BankLayout:
    """Slots of each object.

    conditioning: prompted frames (spatial memory and pointer), at least 2 where there are any
    recent: ring of the newest frames' spatial memories; recent_pointers: ring of their object pointers
    masks: ring of the newest frames' mask logits
    tokens: of a spatial memory; memory_dim, dim: widths of a memory and of a pointer
    logits: (h, w) of the low-resolution mask logits
    """

    conditioning: int
    recent: int
    recent_pointers: int
    masks: int
    tokens: int
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
        """Device bytes of one object's row: memories and pointers in the model's type, mask logits in fp32."""
        spatial = self.spatial_slots * self.tokens * self.memory_dim
        pointers = self.pointer_slots * self.dim
        return (spatial + pointers) * element_size + 4 * self.masks * self.logits[0] * self.logits[1]


class MemoryBank:
    """Rows of slots. An object's row moves when another object goes; its id does not, and only the bank knows both.

    frames: (capacity, spatial_slots) int64 on the host, frame index in each slot or EMPTY; conditioning slots first
    pointer_frames: (capacity, pointer_slots), mask_frames: (capacity, masks), the same for pointers and mask logits
    spatial: (capacity, spatial_slots, tokens, memory_dim); pointers: (capacity, pointer_slots, dim)
    logits: (capacity, masks, h, w) fp32
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

    @property
    def _stores(self) -> tuple:
        return self.frames, self.pointer_frames, self.mask_frames, self.spatial, self.pointers, self.logits

    def row(self, object_id: int) -> int:
        """Raises ValueError for an id that is not in the bank."""
        return self.ids.index(object_id)

    def rows(self, object_ids: Sequence[int]) -> Rows:
        """The rows of some objects, in their order."""
        return slice(0, len(self)) if list(object_ids) == self.ids else [self.row(i) for i in object_ids]

    def add(self, object_id: int) -> int:
        """Give an object an empty row."""
        self.reserve(len(self) + 1)
        row = len(self)
        self.ids.append(object_id)
        for frames in (self.frames, self.pointer_frames, self.mask_frames):
            frames[row] = EMPTY
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
        for store in self._stores:
            store[row] = store[last]
        self.ids[row] = self.ids[last]
        self.ids.pop()

    def clear(self) -> None:
        """Forget all objects; the memory stays allocated."""
        self.ids.clear()

    def save(self, object_ids: Sequence[int]) -> Saved:
        """A copy of who is in the bank and of these objects' rows, for `restore`."""
        rows = [self.row(i) for i in object_ids]
        copies = [s[rows].copy() if isinstance(s, np.ndarray) else s[rows].clone() for s in self._stores]
        return Saved(list(self.ids), rows, copies)

    def restore(self, saved: Saved) -> None:
        """Be as at `save`, when only its objects were written to and others added since. Allocates nothing."""
        self.ids[:] = saved.ids
        for store, copy in zip(self._stores, saved.copies):
            for row, values in zip(saved.rows, copy):
                store[row] = values

    def write_recent(self, rows: Rows, frame: int, spatial: Tensor, pointers: Tensor) -> None:
        """Remember one frame of N objects, in place of their oldest. spatial (N, tokens, memory_dim), pointers (N, dim)."""
        layout = self.layout
        slot = layout.conditioning + frame % layout.recent
        self.spatial[rows, slot] = spatial.to(self.dtype)
        self.frames[rows, slot] = frame
        slot = layout.conditioning + frame % layout.recent_pointers
        self.pointers[rows, slot] = pointers.to(self.dtype)
        self.pointer_frames[rows, slot] = frame

    def write_conditioning(self, row: int, frame: int, spatial: Tensor, pointer: Tensor) -> None:
        """Remember a prompted frame of one object: the first stays, the oldest of the others gives way.

        spatial (tokens, memory_dim), pointer (dim,). The same frame as a recent memory is forgotten: it is this one now.
        """
        layout = self.layout
        slot = self._conditioning_slot(row, frame)
        self.spatial[row, slot] = spatial.to(self.dtype)
        self.pointers[row, slot] = pointer.to(self.dtype)
        self.frames[row, slot] = self.pointer_frames[row, slot] = frame
        for frames in (self.frames, self.pointer_frames):
            recent = frames[row, layout.conditioning :]
            recent[recent == frame] = EMPTY

    def write_mask(self, rows: Rows, frame: int, logits: Tensor) -> None:
        """Remember the mask logits (N, 1, h, w) of one frame."""
        slot = frame % self.layout.masks
        self.logits[rows, slot] = logits[:, 0]
        self.mask_frames[rows, slot] = frame

    def mask(self, rows: Rows, frame: int) -> Tensor:
        """(N, 1, h, w): the mask logits of a frame. Raises ValueError when an object has none there."""
        slot = frame % self.layout.masks
        if not self.has_mask(rows, frame):
            raise ValueError(f"there are no masks of frame {frame}: {self.mask_frames[rows].tolist()} are remembered")
        return self.logits[rows, slot][:, None]

    def has_mask(self, rows: Rows, frame: int) -> bool:
        """Whether each of the objects has a mask on the frame."""
        return bool((self.mask_frames[rows, frame % self.layout.masks] == frame).all())

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
        old = self._stores if n else None
        zeros = dict(device=self.device, dtype=self.dtype)
        spatial = torch.zeros(capacity, layout.spatial_slots, layout.tokens, layout.memory_dim, **zeros)
        pointers = torch.zeros(capacity, layout.pointer_slots, layout.dim, **zeros)
        logits = torch.zeros(capacity, layout.masks, *layout.logits, device=self.device)
        # from here on nothing can fail for want of memory
        self.spatial, self.pointers, self.logits = spatial, pointers, logits
        self.frames, self.pointer_frames, self.mask_frames = (
            np.full((capacity, slots), EMPTY, np.int64)
            for slots in (layout.spatial_slots, layout.pointer_slots, layout.masks)
        )
        if old is not None:
            for target, source in zip(self._stores, old):
                target[:n] = source[:n]


@dataclass(frozen=True)
class Saved:
    """ids: of all objects, in row order; rows: of the saved ones; copies: of their values in each store."""

    ids: list[int]
    rows: list[int]
    copies: list
