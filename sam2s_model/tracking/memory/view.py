"""Some objects' rows of the bank, as a policy sees them: batched, on the device, without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sam2s_model.acceleration.constants import constant
from sam2s_model.tracking.memory.bank import EMPTY, MemoryBank, Rows
from sam2s_model.tracking.memory.evidence import Evidence
from sam2s_model.tracking.memory.layout import PolicyState
from sam2s_model.tracking.memory.step_time import StepTime

EVER = 1 << 30  # frames
LENGTH = 256  # of numbers that are made at a time: as many as objects, slots or frames of a window, as a rule


class BankView:
    """N rows of a bank. What is read is a copy, so that it stays what it was when something is written.

    step: the time of a step that may be captured; None: frames are numbers of the host, and shapes are those of now
    """

    def __init__(self, bank: MemoryBank, rows: Rows, step: StepTime | None = None):
        self.bank, self.rows, self.layout, self.step = bank, rows, bank.layout, step

    def __len__(self) -> int:
        return len(self.bank.host_frames[self.rows])

    @cached_property
    def index(self) -> Tensor:
        """(N,) the rows as a tensor."""
        if isinstance(self.rows, slice):
            return _numbers(self.rows.start, self.rows.stop, device=self.bank.device)
        return torch.tensor(self.rows, device=self.bank.device)

    @property
    def complete(self) -> bool:
        """Whether this step may be captured, all windows are full, and all objects have as many prompted frames.

        Those are then in the first slots, and each frame of a window is where its age says: nothing is to be looked
        for.
        """
        return self.step is not None and self.step.complete

    def numbers(self, first: int, end: int) -> Tensor:
        """Count up, (N, end - first) int64: first .. end - 1."""
        return _numbers(first, end, device=self.bank.device).expand(len(self), -1)

    def codes(self, code: int, count: int) -> Tensor:
        """Repeat one code, (N, count) int64."""
        return _codes(code, count, device=self.bank.device).expand(len(self), -1)

    def places(self, now: int, window: int, ring: int) -> Tensor:
        """Find the slots (N, window) of a ring of the frames that are 1 .. window old."""
        return (self.time(now) - _numbers(1, window + 1, device=self.bank.device)).remainder(ring).expand(len(self), -1)

    def full_windows(self, now: int, window: int, pointers: int) -> tuple[Tensor, Tensor]:
        """Find all prompted frames and full windows of a step that is `complete`.

        Returns columns (N, prompted + window) of spatial memories and (N, prompted + pointers) of pointers. The slots
        that the step will write to are found along with them.
        """
        step, layout = self.step, self.layout
        assert step is not None and step.complete
        prompted = tuple((0, 0, 1, slot) for slot in range(step.prompted))
        rings = ((layout.recent, layout.conditioning), (layout.recent_pointers, layout.conditioning), (layout.masks, 0))
        windows = [(1, size, *ring) for size, ring in zip((window, pointers), rings, strict=False)]
        found = step.find(*prompted, windows[0], *prompted, windows[1], *((0, 0, *ring) for ring in rings))
        sizes = step.prompted + window, step.prompted + pointers, 1, 1, 1
        columns, of_pointers, *slots = found.split(sizes)
        for ring, slot in zip(rings, slots, strict=True):
            step.know(now, *ring, slot)
        return columns.expand(len(self), -1), of_pointers.expand(len(self), -1)

    # ---- reading

    def frames(self, name: str) -> Tensor:
        """Read the frame in each slot of a kind, (N, slots), see `BankLayout.columns`, or EMPTY."""
        return self.bank.frames[self.rows, self.layout.columns(name)].clone()

    def pointer_frames(self) -> Tensor:
        """Read the frame of each prompted and recent pointer, (N, conditioning + recent_pointers), or EMPTY."""
        return self.bank.pointer_frames[self.rows, : self.layout.kept_pointers.start].clone()

    def state(self, name: str) -> Tensor:
        """Read a state, (N, ...)."""
        return self.bank.states[name][self.rows].clone()

    def memories(self, columns: Tensor) -> Tensor:
        """Gather spatial memories: (N, K) columns -> (N, K, tokens, memory_dim)."""
        return self.bank.memories[self.index[:, None], columns]

    def pointers(self, columns: Tensor) -> Tensor:
        """Gather pointers: (N, K) columns -> (N, K, dim)."""
        return self.bank.pointers[self.index[:, None], columns]

    def memory_frames(self, columns: Tensor) -> Tensor:
        """Gather frames (N, K) of spatial memories, or EMPTY: (N, K) columns."""
        return self.bank.frames[self.index[:, None], columns]

    def frames_of_pointers(self, columns: Tensor) -> Tensor:
        """Gather frames (N, K) of pointers, or EMPTY: (N, K) columns."""
        return self.bank.pointer_frames[self.index[:, None], columns]

    def prompted_frames(self, most: int) -> Tensor:
        """Read the frames of the first `most` prompted slots, (N, most), or EMPTY."""
        return self.bank.pointer_frames[self.rows, :most]

    def time(self, frame: int) -> Tensor:
        """Put a frame's index on the device, 0-d int64."""
        return self.bank.time(frame, self.step)

    def first(self, allowed: Tensor, counts: np.ndarray, most: int) -> tuple[Tensor, Tensor | None]:
        """Find each object's allowed slots: their columns, (N, greatest count), and which of those count.

        allowed: (N, slots) bool; counts: (N,), how many are True for each object; most: of any object at any time. A
        step that may be captured takes as many columns, so that its shapes are those of the frames to come. Columns
        ascend. Where all objects have as many, all count: None.
        """
        if self.step is None:
            most = int(counts.max(initial=0))
        full = (counts == most).all() if self.step is None else self.step.complete
        slots = allowed.shape[1]
        # Allowed slots come first, each half in the order of its columns. Two objects of 4 slots, counts 2 and 1:
        #   allowed [[T F T F], [F T F F]] -> order [[0 5 2 7], [4 1 6 7]] -> columns [[0 2], [1 0]], of which
        #   [[T T], [T F]] count. With most = 3 in a step that may be captured: [[0 2 1], [1 0 2]], [[T T F], [T F F]].
        order = torch.arange(slots, device=allowed.device) + torch.where(allowed, 0, slots)
        columns = order.topk(most, dim=1, largest=False).indices
        return columns, None if full else allowed.gather(1, columns)

    # ---- what the host knows: numbers of slots that hold a frame before `now`, for each object

    def count_prompted(self, now: int) -> np.ndarray:
        """Count prompted frames (N,)."""
        return _count(self.bank.host_frames[self.rows, : self.layout.conditioning], now)

    def max_prompted(self, now: int) -> int:
        """Give the greatest number of prompted frames of any of the objects."""
        return int(self.count_prompted(now).max(initial=0)) if self.step is None else self.step.prompted

    def remembers(self, now: int) -> bool:
        """Whether anything is remembered of any of the objects before `now`: not at an object's first prompt."""
        return self.max_prompted(now) > 0 or bool(_count(self.bank.host_frames[self.rows], now).any())

    def count_recent(self, now: int, window: int) -> np.ndarray:
        """Count spatial memories (N,) in the ring that are at most `window` frames old."""
        return _count(self.bank.host_frames[self.rows, self.layout.conditioning :], now, window)

    def count_pointers(self, now: int, window: int) -> np.ndarray:
        """Count pointers (N,) in the ring that are at most `window` frames old."""
        return _count(self.bank.host_pointer_frames[self.rows, self.layout.conditioning :], now, window)

    def max_tracked(self, now: int) -> int:
        """Bound how many frames any of the objects was tracked on, after its first prompted one and before `now`.

        Enough for all that is kept when the step may be captured, and serve later frames.
        """
        if self.step is not None:
            return EVER
        prompted = self.bank.host_frames[self.rows, : self.layout.conditioning]
        first = np.where((prompted == EMPTY) | (prompted >= now), now - 1, prompted).min(initial=now - 1)
        return int(now - 1 - first)

    def first_prompted(self) -> np.ndarray:
        """Give each object's first prompted frame (N,); it has one."""
        prompted = self.bank.host_frames[self.rows, : self.layout.conditioning]
        return np.where(prompted == EMPTY, np.iinfo(np.int64).max, prompted).min(1)

    # ---- writing

    def write_state(self, name: str, value: Tensor) -> None:
        """Write a state, (N, ...)."""
        self.bank.states[name][self.rows] = value.to(self.bank.states[name].dtype)

    def keep(self, name: str, slot: Tensor, accepted: Tensor, evidence: Evidence) -> None:
        """Keep a frame in one slot of a kind: slot (N,), within its kind, and for which objects, accepted (N,) bool."""
        bank, (column, pointer) = self.bank, self._places(name, slot)
        time = self.time(evidence.frame).expand_as(slot)
        _overwrite(bank.frames, self.index, column, time, accepted)
        _overwrite(bank.pointer_frames, self.index, pointer, time, accepted)
        kept = evidence.spatial if evidence.kept is None else evidence.kept
        _overwrite(bank.spatial, self.index, column, kept, accepted)
        _overwrite(bank.pointers, self.index, pointer, evidence.outputs.pointers, accepted)

    def move(self, source: tuple[str, Tensor], target: tuple[str, Tensor], accepted: Tensor) -> None:
        """Copy one kept slot of each accepted object over another; each is a kind and the slot (N,) within it."""
        (column, pointer), (to_column, to_pointer) = self._places(*source), self._places(*target)
        bank = self.bank
        for store, here, there in (
            (bank.frames, column, to_column),
            (bank.pointer_frames, pointer, to_pointer),
            (bank.spatial, column, to_column),
            (bank.pointers, pointer, to_pointer),
        ):
            _overwrite(store, self.index, there, store[self.index, here], accepted)

    def start_states(self, states: Sequence[PolicyState]) -> None:
        """Set some states to their initial values."""
        self.bank.start_states(self.rows, states)

    def write_state_slot(self, name: str, slot: Tensor, value: Tensor, accepted: Tensor) -> None:
        """Write one entry (N, ...) of a state whose first dimension is a slot, slot (N,), for the accepted objects."""
        _overwrite(self.bank.states[name], self.index, slot, value, accepted)

    def empty(self, name: str, dropped: Tensor) -> None:
        """Forget kept slots of a kind: dropped (N, slots) bool."""
        columns = self.layout.columns(name)
        pointers = slice(*map(self.layout.pointer_columns, (columns.start, columns.stop)))
        for frames, place in ((self.bank.frames, columns), (self.bank.pointer_frames, pointers)):
            frames[self.rows, place] = frames[self.rows, place].masked_fill(dropped, EMPTY)

    def _places(self, name: str, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Map slots within a kind to columns of its spatial memories and of its pointers."""
        column = self.layout.columns(name).start + slot
        return column, self.layout.pointer_columns(column)


def _numbers(first: int, end: int, device=None) -> Tensor:
    """Count up, (end - first,) int64: a part of a constant, so that another part is there at once."""
    return _counted(_room(end), device=device)[first:end]


def _codes(code: int, count: int, device=None) -> Tensor:
    return _repeated(code, _room(count), device=device)[:count]


def _room(length: int) -> int:
    return max(LENGTH, 1 << (length - 1).bit_length())


@constant
def _counted(length: int, device=None) -> Tensor:
    return torch.arange(length, device=device)


@constant
def _repeated(code: int, length: int, device=None) -> Tensor:
    return torch.full((length,), code, device=device)


def _count(frames: np.ndarray, now: int, window: int | None = None) -> np.ndarray:
    age = now - frames
    there = (frames != EMPTY) & (age > 0)
    return (there if window is None else there & (age <= window)).sum(1)


def _overwrite(store: Tensor, rows: Tensor, columns: Tensor, values: Tensor, accepted: Tensor) -> None:
    """Set store[rows, columns] = values (N, ...), where accepted (N,)."""
    accepted = accepted.reshape(-1, *[1] * (values.dim() - 1))
    store[rows, columns] = torch.where(accepted, values.to(store.dtype), store[rows, columns])
