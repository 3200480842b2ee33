"""What every memory policy is: a small object without tensors that says what to attend to and what to keep.

A policy fills in up to four methods. `select` is asked before a frame is decoded, `choose` when there are several masks
to choose from, `remember` after each tracked frame and `prompted` after each prompt. All are batched over the objects,
work on the device and never wait for it: each object's decision is data, the shapes are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from sam2s_model.acceleration.constants import constant
from sam2s_model.config import ModelConfig
from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.memory.evidence import Evidence
from sam2s_model.tracking.memory.layout import PolicyState
from sam2s_model.tracking.memory.matching import Matching
from sam2s_model.tracking.memory.view import BankView


@dataclass(frozen=True)
class MemorySubset:
    """Some spatial memories of each of N objects.

    columns, codes: (N, K), where they are in the bank and which temporal code each gets, see `Sam2Model.with_memory`
    allowed: (N, K) bool, False where an object has fewer; None where the host knows that none has
    """

    columns: Tensor
    codes: Tensor
    allowed: Tensor | None

    def gather(self, places: Tensor) -> MemorySubset:
        """Gather each object's memories at places (N, k)."""
        allowed = None if self.allowed is None else self.allowed.gather(1, places)
        return MemorySubset(self.columns.gather(1, places), self.codes.gather(1, places), allowed)


@dataclass(frozen=True)
class Selection:
    """What N objects attend to on a frame.

    spatial: memories; short: those that a second, short-term attention sees, for models that have one
    pointer_columns: (N, P), ages: (N, P) frames since each; pointer_allowed: as in `MemorySubset`
    """

    spatial: MemorySubset
    pointer_columns: Tensor
    ages: Tensor
    pointer_allowed: Tensor | None
    short: MemorySubset | None = None

    @property
    def allowed(self) -> Tensor | None:
        """(N, K + P) bool, of memories and then pointers; None when all are allowed."""
        parts = (self.spatial.allowed, self.pointer_allowed)
        if parts == (None, None):
            return None
        columns = (self.spatial.columns, self.pointer_columns)
        full = [torch.ones_like(c, dtype=torch.bool) if a is None else a for a, c in zip(parts, columns, strict=True)]
        return torch.cat(full, dim=1)


class Pruning(Protocol):
    """Which memories of the short window are left out when a frame is attended to. Nothing is evicted by it."""

    def max_frames(self, window: int) -> int:
        """Say how many memories of a window of that many frames are left at most."""

    def prune(self, view: BankView, window: MemorySubset, prompted: MemorySubset) -> MemorySubset:
        """Leave memories out of a window. prompted: the prompted frames, to compare with."""


@dataclass(frozen=True)
class Policy:
    """The common part: all prompted frames, the short window, and their pointers.

    config: of the model; pruning: of the short window, None to attend to all of it
    match: how labels are propagated by correspondence, None where they are not
    """

    config: ModelConfig
    pruning: Pruning | None = None
    match: Matching | None = None

    uses_memory: ClassVar[bool] = True
    uses_candidates: ClassVar[bool] = False  # `choose` takes one of the candidate masks, and `Evidence` has them

    @property
    def window(self) -> int:
        """Age, in frames, of the oldest memory of the short window."""
        return self.config.num_memories - 1

    @property
    def pointer_window(self) -> int:
        """Age, in frames, of the oldest pointer that is attended to, but for those of prompted frames."""
        return self.config.max_pointers - 1

    @property
    def prompted_code(self) -> int:
        return self.config.num_memories - 1

    @property
    def long_term_code(self) -> int:
        """A model without an embedding of long-term memories gives them the one of prompted frames (ReSurgSAM2)."""
        return self.config.num_memories if self.config.long_term_embedding else self.prompted_code

    @property
    def kept(self) -> tuple[tuple[str, int], ...]:
        """Name and number of the slots that the policy fills by itself."""
        return ()

    @property
    def states(self) -> tuple[PolicyState, ...]:
        """What the policy keeps of each object between frames."""
        return ()

    @property
    def max_frames(self) -> int:
        """Most spatial memories besides the prompted ones that are attended to on a frame."""
        return self.pruning.max_frames(self.window) if self.pruning else self.window

    def select(self, view: BankView, now: int) -> Selection:
        """Choose what to attend to on frame `now`."""
        if view.complete and self.pruning is None:
            return self._all_there_is(view, now)
        prompted = self.prompted_frames(view, now)
        return self.selection(view, now, prompted, self.pruned_window(view, now, prompted))

    def choose(self, view: BankView, candidates: Tensor, predicted_iou: Tensor) -> Tensor:
        """Choose each object's mask (N,) from candidates, logits (N, K, h, w). Only asked with `uses_candidates`."""
        return predicted_iou.argmax(1)

    def remember(self, view: BankView, evidence: Evidence) -> None:
        """Decide what else to keep of a tracked frame, which is in the ring of the newest already."""

    def prompted(self, view: BankView, evidence: Evidence) -> None:
        """Learn of a prompted frame, which is in a conditioning slot already."""

    def _all_there_is(self, view: BankView, now: int) -> Selection:
        """Choose as `select` does where nothing is missing, and the time alone says where it is."""
        columns, pointers = view.full_windows(now, self.window, self.pointer_window)
        codes = _codes(view.max_prompted(now), self.prompted_code, self.window, device=columns.device)
        return Selection(
            MemorySubset(columns, codes.expand_as(columns), None), pointers, self._full_ages(view, now), None
        )

    # ---- what policies are made of

    def prompted_frames(self, view: BankView, now: int) -> MemorySubset:
        """Choose all prompted frames before `now`."""
        if view.complete:
            columns = view.numbers(0, view.max_prompted(now))
            return MemorySubset(columns, view.codes(self.prompted_code, columns.shape[1]), None)
        frames = view.frames("conditioning")
        past = (frames != EMPTY) & (frames < view.time(now))
        columns, allowed = view.first(past, view.count_prompted(now), view.max_prompted(now))
        return MemorySubset(columns, torch.full_like(columns, self.prompted_code), allowed)

    def pruned_window(self, view: BankView, now: int, prompted: MemorySubset) -> MemorySubset:
        """Choose the short window, or what its pruning leaves of it."""
        part = self.short_window(view, now, self.window)
        return self.pruning.prune(view, part, prompted) if self.pruning else part

    def short_window(self, view: BankView, now: int, window: int) -> MemorySubset:
        """Choose the newest frames, at most `window` old; their codes are their ages."""
        if view.complete:
            ring = view.layout.columns("recent")
            return MemorySubset(
                view.places(now, window, view.layout.recent) + ring.start, view.numbers(0, window), None
            )
        frames = view.frames("recent")
        age = view.time(now) - frames
        inside = (frames != EMPTY) & (age > 0) & (age <= window)
        columns, allowed = view.first(inside, view.count_recent(now, window), window)
        codes = (age.gather(1, columns) - 1).clamp(0, window - 1)
        return MemorySubset(columns + view.layout.columns("recent").start, codes, allowed)

    def kept_frames(self, view: BankView, name: str, order: Tensor, most: int, codes: Tensor | int) -> MemorySubset:
        """Choose kept slots of a kind: each object's of the greatest order (N, slots), where it is not negative.

        most: how many at most; codes: one, or (most,) by their place in the order
        """
        values, slots = order.topk(min(most, order.shape[1]), dim=1)
        if isinstance(codes, int):
            codes = torch.full((slots.shape[1],), codes, device=slots.device)
        return MemorySubset(
            slots + view.layout.columns(name).start, codes[: slots.shape[1]].expand_as(slots), values >= 0
        )

    def newest_and_kept(self, view: BankView, now: int, name: str) -> tuple[MemorySubset, MemorySubset]:
        """Choose the frame before, whatever it shows, and the newest older ones of a kind, coded by their order."""
        newest = self.short_window(view, now, 1)
        frames = view.frames(name)
        order = torch.where(view.time(now) - frames > 1, frames, EMPTY)
        most = min(self.window - 1, max(0, view.max_tracked(now) - 1))  # the host's bound
        codes = torch.arange(1, self.window, device=order.device)
        return newest, self.kept_frames(view, name, order, most, codes)

    def selection(
        self, view: BankView, now: int, *parts: MemorySubset, pointed: MemorySubset | None = None
    ) -> Selection:
        """Attend to some memories, with the pointers of the prompted and of the newest frames.

        pointed: kept memories whose pointers are attended to as well, once they are older than those
        """
        # Now is 9, frame 0 was prompted, 1 .. 8 were tracked, and 2 is kept. A window of 3 in a ring of 4, pointers of
        # 5 frames in a ring of 6, 2 slots of prompted frames and 1 of kept ones:
        #   spatial: 0 and 1 prompted, 2 .. 5 ring, 6 kept; pointers: 0 and 1 prompted, 2 .. 7 ring, 8 kept
        # The parts are the prompted frame, the kept one and the window, frames 8 6 7 in the order of their columns:
        #   columns 0 6 2 4 5, codes 3 3 0 2 1 (3: of a prompted frame; otherwise the age less 1)
        #   pointers: frames 0, 6 7 8, 4 5, columns 0 2 3 4 6 7, ages 9 3 2 1 5 4
        # The kept frame's pointer, column 6 - 6 + 8, is attended to as well, since its age, 7, is beyond the window.
        pointers = self._pointers(view, now)
        if pointed is not None:
            ages = view.time(now) - view.memory_frames(pointed.columns)
            places = view.layout.pointer_columns(pointed.columns)
            older = ages > self.pointer_window
            if pointed.allowed is not None:
                older = pointed.allowed & older
            pointers = _joined((pointers, MemorySubset(places, ages.float(), older)))
        return Selection(_joined(parts), pointers.columns, pointers.codes, pointers.allowed)

    def _pointers(self, view: BankView, now: int) -> MemorySubset:
        """Choose the pointers of the prompted and of the newest frames, coded by their ages, as floats."""
        layout = view.layout
        if view.complete:
            most, window = view.max_prompted(now), self.pointer_window
            newest = view.places(now, window, layout.recent_pointers) + layout.conditioning
            columns = torch.cat((view.numbers(0, most), newest), dim=1)
            return MemorySubset(columns, self._full_ages(view, now).float(), None)
        frames = view.pointer_frames()
        age = view.time(now) - frames
        prompted = torch.arange(frames.shape[1], device=frames.device) < layout.conditioning
        past = (frames != EMPTY) & (age > 0) & (prompted | (age <= self.pointer_window))
        counts = view.count_prompted(now) + view.count_pointers(now, self.pointer_window)
        columns, allowed = view.first(past, counts, view.max_prompted(now) + self.pointer_window)
        ages = torch.where(past, age, 0).gather(1, columns).float()
        return MemorySubset(columns, ages, allowed)

    def _full_ages(self, view: BankView, now: int) -> Tensor:
        """(N, prompted + pointer window): ages of the prompted frames, then of the newest ones."""
        ages = view.time(now) - view.prompted_frames(view.max_prompted(now))
        return torch.cat((ages, view.numbers(1, self.pointer_window + 1)), dim=1)


@constant
def _codes(prompted: int, code: int, window: int, device=None) -> Tensor:
    """(prompted + window,): one code of all prompted frames, then the ages of the newest less 1."""
    return torch.tensor([code] * prompted + list(range(window)), device=device)


def _joined(parts: tuple[MemorySubset, ...]) -> MemorySubset:
    columns, codes = torch.cat([p.columns for p in parts], 1), torch.cat([p.codes for p in parts], 1)
    if all(p.allowed is None for p in parts):
        return MemorySubset(columns, codes, None)
    full = [torch.ones_like(p.columns, dtype=torch.bool) if p.allowed is None else p.allowed for p in parts]
    return MemorySubset(columns, codes, torch.cat(full, 1))
