"""The memory bank: fixed slots for each object, allocated once and overwritten in place.

Nothing here grows with the length of a video. All that policies decide with is on the model's device: which frame is in
which slot, and what they keep of each object. Of what the host decides itself, prompted frames and the ring of the
newest ones, it has a copy of the frame numbers, so that it knows how many slots can hold something without asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2s_model.tracking.memory.layout import BankLayout, PolicyState
from sam2s_model.tracking.memory.step_time import StepTime

EMPTY = -1  # frame index of a slot that holds nothing
OF_SLOTS = ("labels", "label_frames", "label_trust")  # states of which there is one for each conditioning slot

Rows = slice | list[int]
"""Which objects: a slice of rows that follow one another, which copies nothing and waits for no device, or a list."""


class MemoryBank:
    """Rows of slots. An object's row moves when another object goes; its id does not, and only the bank knows both.

    spatial: (capacity, spatial_slots, tokens, memory_dim + key_width), each memory, and its keys where they are kept
    pointers: (capacity, pointer_slots, dim)
    logits: (capacity, masks, h, w) fp32
    frames: (capacity, spatial_slots) int64, frame index in each slot or EMPTY; pointer_frames: the same for pointers
    states: name -> (capacity, ...), what is kept of each object between frames, by policies and others
    host_frames, host_pointer_frames, mask_frames: on the host, of conditioning and ring slots and of the mask logits
    aside: (object id, frame) -> memory, pointer and labels of prompted frames that are to be `put_back`
    generation: counts allocations; what was captured with another writes to memory that is no longer this bank's

    Where a method takes a `step`, that is the time of a step that may be captured; None: frames are host numbers.
    """

    def __init__(self, layout: BankLayout, device: torch.device, dtype: torch.dtype):
        self.layout = layout
        self.ids: list[int] = []
        self.aside: dict[tuple[int, int], tuple[Tensor, Tensor, dict[str, Tensor]]] = {}
        self.device, self.dtype = device, dtype
        self.generation = 0
        self._allocate(0)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def capacity(self) -> int:
        return len(self.host_frames)

    @property
    def memories(self) -> Tensor:
        """Spatial memories without their keys: (capacity, spatial_slots, tokens, memory_dim)."""
        return self.spatial[..., : self.layout.memory_dim]

    @property
    def keys(self) -> Tensor:
        """Keys of the spatial memories: (capacity, spatial_slots, tokens, key_width)."""
        return self.spatial[..., self.layout.memory_dim :]

    @property
    def _stores(self) -> list:
        tensors = [self.spatial, self.pointers, self.logits, self.frames, self.pointer_frames, *self.states.values()]
        return [self.host_frames, self.host_pointer_frames, self.mask_frames, *tensors]

    def row(self, object_id: int) -> int:
        """Find an object's row. Raises ValueError for an id that is not in the bank."""
        return self.ids.index(object_id)

    def rows(self, object_ids: Sequence[int]) -> Rows:
        """Find the rows of some objects, in their order."""
        rows = [self.row(i) for i in object_ids]
        follow = bool(rows) and rows == list(range(rows[0], rows[0] + len(rows)))
        return slice(rows[0], rows[0] + len(rows)) if follow else rows

    def add(self, object_id: int) -> int:
        """Give an object an empty row."""
        self.reserve(len(self) + 1)
        row = len(self)
        self.ids.append(object_id)
        for frames in (self.host_frames, self.host_pointer_frames, self.mask_frames, self.frames, self.pointer_frames):
            frames[row] = EMPTY
        self.start_states(slice(row, row + 1), self.layout.states)
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
        self.aside.clear()

    def save(self, object_ids: Sequence[int]) -> Saved:
        """Copy who is in the bank and these objects' rows, for `restore`."""
        rows = [self.row(i) for i in object_ids]
        copies = [
            [s[row].copy() if isinstance(s, np.ndarray) else s[row].clone() for row in rows] for s in self._stores
        ]
        return Saved(list(self.ids), rows, copies)

    def restore(self, saved: Saved) -> None:
        """Go back to `save`, when only its objects were written to and others added since. Allocates nothing."""
        self.ids[:] = saved.ids
        self.aside.clear()
        for store, copy in zip(self._stores, saved.copies, strict=True):
            for row, values in zip(saved.rows, copy, strict=True):
                store[row] = values

    def copy_objects_from(self, other: MemoryBank, states: Sequence[PolicyState], *, prompted: bool = False) -> None:
        """Copy another bank's objects: prompted frames, rings, masks and some states, not what its policy kept.

        Of rings of another length the newest frames are copied, as many as there is room for. Where either bank has
        none, memories are of another kind and stay there.
        prompted: copy which frames are prompted also then, since some state is kept of them
        """
        for object_id in other.ids:
            self.add(object_id)
        n, own, source = len(other), self.layout, other.layout
        self.logits[:n], self.mask_frames[:n] = other.logits[:n], other.mask_frames[:n]
        for state in states:
            self.states[state.name][:n] = other.states[state.name][:n]
        if source.recent and own.recent:
            spatial = (other.spatial, other.frames, other.host_frames)
            pointers = (other.pointers, other.pointer_frames, other.host_pointer_frames)
            _copy(spatial, (self.spatial, self.frames, self.host_frames), n, own.conditioning, own.recent)
            _copy(
                pointers, (self.pointers, self.pointer_frames, self.host_pointer_frames), n, own.conditioning,
                own.recent_pointers,
            )  # fmt: skip
        elif prompted:
            first = own.conditioning
            self.frames[:n, :first] = other.frames[:n, :first]
            self.host_frames[:n, :first] = other.host_frames[:n, :first]
            self.pointer_frames[:n, :first] = other.pointer_frames[:n, :first]
            self.host_pointer_frames[:n, :first] = other.host_pointer_frames[:n, :first]

    # ---- what is remembered of every frame

    def prompted_frames(self, row: int) -> list[int]:
        """List the prompted frames of one object, in the order of their slots."""
        return [int(frame) for frame in self.host_frames[row, : self.layout.conditioning] if frame != EMPTY]

    def write_recent(
        self, rows: Rows, frame: int, spatial: Tensor, pointers: Tensor, step: StepTime | None = None
    ) -> None:
        """Remember one frame of N objects, in place of their oldest.

        spatial: (N, tokens, memory_dim + key_width); pointers: (N, dim)
        """
        layout, time = self.layout, self.time(frame, step).expand(len(spatial))
        for values, frames, ring, new in (
            (self.spatial, self.frames, layout.recent, spatial),
            (self.pointers, self.pointer_frames, layout.recent_pointers, pointers),
        ):
            self._write(values, rows, frame, ring, new, step, layout.conditioning)
            self._write(frames, rows, frame, ring, time, step, layout.conditioning)
        self._mark_recent(rows, frame)

    def write_conditioning(self, row: int, frame: int, spatial: Tensor, pointer: Tensor) -> int:
        """Remember a prompted frame of one object: the first stays, the oldest of the others gives way.

        Before a later one, it is the newest that gives way, until `put_back` comes to it: as if each came in time.

        spatial: (tokens, memory_dim + key_width); pointer: (dim,). The same frame as a recent memory is forgotten: it
        is this one now. Returns its slot.
        """
        layout = self.layout
        slot = self._conditioning_slot(row, frame)
        if (held := int(self.host_frames[row, slot])) > frame and held != EMPTY:
            of_slot = {name: self.states[name][row, slot].clone() for name in OF_SLOTS if name in self.states}
            self.aside[self.ids[row], held] = self.spatial[row, slot].clone(), self.pointers[row, slot].clone(), of_slot
        self.spatial[row, slot] = spatial.to(self.dtype)
        self.pointers[row, slot] = pointer.to(self.dtype)
        rings = (
            (self.host_frames, self.frames, layout.recent),
            (self.host_pointer_frames, self.pointer_frames, layout.recent_pointers),
        )
        for host_frames, frames, ring in rings:
            host_frames[row, slot] = frame
            frames[row, slot].fill_(frame)  # an assignment of a number to one place would be a copy that is waited for
            same = layout.conditioning + frame % ring if ring else slot
            if same != slot and host_frames[row, same] == frame:
                host_frames[row, same] = EMPTY
                frames[row, same].fill_(EMPTY)
        return slot

    def put_back(self, frame: int) -> None:
        """Remember a frame again that has given way to an earlier one, now that objects are tracked up to it."""
        for object_id in [i for i, held in self.aside if held == frame]:
            spatial, pointer, of_slot = self.aside.pop((object_id, frame))
            row = self.row(object_id)
            slot = self.write_conditioning(row, frame, spatial, pointer)
            for name, value in of_slot.items():
                self.states[name][row, slot] = value

    def conditioning_slot_of(self, row: int, frame: int) -> int | None:
        """Find the slot of a prompted frame of one object; None: it is not remembered."""
        found = np.flatnonzero(self.host_frames[row, : self.layout.conditioning] == frame)
        return int(found[0]) if len(found) else None

    def write_mask(self, rows: Rows, frame: int, logits: Tensor, step: StepTime | None = None) -> None:
        """Remember the mask logits (N, 1, h, w) of one frame."""
        self._write(self.logits, rows, frame, self.layout.masks, logits[:, 0], step)
        self.mask_frames[rows, frame % self.layout.masks] = frame

    def mask(self, rows: Rows, frame: int, step: StepTime | None = None) -> Tensor:
        """Read the mask logits of a frame, (N, 1, h, w). Raises ValueError when an object has none there."""
        if not self.has_mask(rows, frame):
            raise ValueError(f"there are no masks of frame {frame}: {self.mask_frames[rows].tolist()} are remembered")
        if step is None:
            return self.logits[rows, frame % self.layout.masks][:, None]
        return self.logits[rows].index_select(1, step.slot(frame, self.layout.masks))

    def has_mask(self, rows: Rows, frame: int) -> bool:
        """Tell whether each of the objects has a mask on the frame."""
        return bool((self.mask_frames[rows, frame % self.layout.masks] == frame).all())

    def forget(self, frame: int) -> None:
        """Empty what a step that failed may have written of its frame, which no other frame needs.

        The values go, too: slots that hold nothing are attended to with weight 0, and NaN times 0 is NaN.
        """
        layout, n = self.layout, len(self)
        rings = (
            (self.spatial, self.frames, self.host_frames),
            (self.pointers, self.pointer_frames, self.host_pointer_frames),
        )
        for (values, frames, host_frames), ring in zip(rings, (layout.recent, layout.recent_pointers), strict=True):
            if ring:
                slot = layout.conditioning + frame % ring
                values[:n, slot], frames[:n, slot], host_frames[:n, slot] = 0, EMPTY, EMPTY
        self.mask_frames[:n, frame % layout.masks] = EMPTY
        for (values, frames, _), kept in zip(rings, (layout.kept_columns, layout.kept_pointers), strict=True):
            of_it = frames[:n, kept] >= frame
            values[:n, kept][of_it] = 0
            frames[:n, kept][of_it] = EMPTY

    # ---- time

    def time(self, frame: int, step: StepTime | None = None) -> Tensor:
        """Put a frame's index on the device, 0-d int64."""
        if step is not None:
            return step.of(frame)
        return torch.full((), frame, dtype=torch.int64, device=self.device)

    def mark_written(self, rows: Rows, frame: int) -> None:
        """Know on the host what a step has written to the rings of a frame: for a step that was replayed."""
        if self.layout.recent:
            self._mark_recent(rows, frame)
        self.mask_frames[rows, frame % self.layout.masks] = frame

    def _mark_recent(self, rows: Rows, frame: int) -> None:
        layout = self.layout
        self.host_frames[rows, layout.conditioning + frame % layout.recent] = frame
        self.host_pointer_frames[rows, layout.conditioning + frame % layout.recent_pointers] = frame

    def _write(
        self,
        store: Tensor,
        rows: Rows,
        frame: int,
        ring: int,
        values: Tensor,
        step: StepTime | None,
        first: int = 0,
    ) -> None:
        """Write values (N, ...) to the frame's slot of a ring, which begins with slot `first`."""
        if step is None:
            store[rows, first + frame % ring] = values.to(store.dtype)
        else:
            store[rows].index_copy_(1, step.slot(frame, ring, first), values[:, None].to(store.dtype))

    # ---- what policies keep

    def drop_kept(self, rows: Rows, frame: int, step: StepTime | None = None) -> None:
        """Forget what policies kept of a frame and of later ones, since it is about to be decided anew."""
        if not self.layout.kept_slots:
            return
        for frames, kept in ((self.frames, self.layout.kept_columns), (self.pointer_frames, self.layout.kept_pointers)):
            held = frames[rows, kept]
            frames[rows, kept] = torch.where(held >= self.time(frame, step), EMPTY, held)

    def start_states(self, rows: Rows, states: Sequence[PolicyState]) -> None:
        """Set what is noted of some objects to its initial values."""
        for state in states:
            self.states[state.name][rows] = state.initial

    def write_state_ring(self, name: str, rows: Rows, frame: int, values: Tensor, step: StepTime | None = None) -> None:
        """Write values (N, ...) to a frame's place in a state whose first dimension is a ring of frames."""
        self._write(self.states[name], rows, frame, self.states[name].shape[1], values, step)

    def memory_bytes(self) -> int:
        """Count the bytes allocated on the device: capacity x `BankLayout.bytes_per_object`."""
        return sum(store.numel() * store.element_size() for store in self._stores if isinstance(store, Tensor))

    def _conditioning_slot(self, row: int, frame: int) -> int:
        held = self.host_frames[row, : self.layout.conditioning]
        for wanted in (frame, EMPTY):
            if (held == wanted).any():
                return int(np.argmax(held == wanted))
        order = np.argsort(held)
        return int(order[-1] if held[order[-1]] > frame else order[1])

    def _allocate(self, capacity: int) -> None:
        layout, n = self.layout, len(self.ids)
        old = self._stores if n else None
        device, dtype = self.device, self.dtype
        spatial = torch.zeros(
            capacity,
            layout.spatial_slots,
            layout.tokens,
            layout.memory_dim + layout.key_width,
            device=device,
            dtype=dtype,
        )
        pointers = torch.zeros(capacity, layout.pointer_slots, layout.dim, device=device, dtype=dtype)
        logits = torch.zeros(capacity, layout.masks, *layout.logits, device=device)
        slots = (layout.spatial_slots, layout.pointer_slots)
        frames = [torch.full((capacity, count), EMPTY, device=device, dtype=torch.int64) for count in slots]
        states = {
            state.name: torch.full((capacity, *state.shape), state.initial, device=device, dtype=state.dtype or dtype)
            for state in layout.states
        }
        # from here on nothing can fail for want of memory
        self.generation += 1
        self.spatial, self.pointers, self.logits, self.states = spatial, pointers, logits, states
        self.frames, self.pointer_frames = frames
        self.host_frames, self.host_pointer_frames, self.mask_frames = (
            np.full((capacity, count), EMPTY, np.int64)
            for count in (
                layout.conditioning + layout.recent,
                layout.conditioning + layout.recent_pointers,
                layout.masks,
            )
        )
        if old is not None:
            for target, source in zip(self._stores, old, strict=True):
                target[:n] = source[:n]


def _copy(source: Sequence[Any], target: Sequence[Any], rows: int, first: int, ring: int) -> None:
    """Copy the first slots and the ring behind them of some rows.

    source, target: stores of which the last is on the host and has the frame of each slot; ring: the target's length
    """
    slots = source[-1].shape[1]
    same = slots == first + ring
    held = slots if same else first
    for to, of in zip(target, source, strict=True):
        to[:rows, :held] = of[:rows, :held]
    if same:
        return
    for row in range(rows):
        frames = source[-1][row, first:]
        for slot in np.argsort(frames):  # the newest last: it takes the place of one that there is no room for
            if frames[slot] != EMPTY:
                for to, of in zip(target, source, strict=True):
                    to[row, first + frames[slot] % ring] = of[row, first + slot]


@dataclass(frozen=True)
class Saved:
    """ids: of all objects, in row order; rows: of the saved ones; copies: of their values in each store."""

    ids: list[int]
    rows: list[int]
    copies: list
