"""The frames that labels are propagated from: their features, once for all objects, in slots allocated once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration.constants import constant
from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.memory.evidence import SIGNATURE_GRID
from sam2s_model.tracking.memory.matching import Matching


@dataclass(frozen=True)
class Entries:
    """The E frames that a frame is matched with: prompted ones, then older ones, then the window.

    tokens: (E, places, dim); frames: (E,) int64, EMPTY or later ones for slots that hold nothing to match
    columns: (older + newest,) where an object's label maps of the last two kinds are; the prompted ones it has itself
    """

    tokens: Tensor
    frames: Tensor
    columns: Tensor


class FrameStore:
    """Tokens of frames: a ring of the newest ones, a few older ones, and those that any object was prompted on.

    What is in a slot is decided for all objects at once, so that one affinity serves them all, and with nothing but the
    images and whether any object is there: on the device, without waiting for it. Slots of prompted frames are given by
    the host; there are 1, 2, 4, ... of them, as many as different frames are prompted, at most `max_conditioning` an
    object.

    newest: index of the newest frame that was remembered, -1 before the first
    generation: counts allocations; what was captured with another writes to memory that is no longer this one's
    """

    def __init__(
        self,
        matching: Matching,
        ring: int,
        conditioning: int,
        places: int,
        dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ):
        """ring: newest frames that are kept; conditioning: columns of label maps that come before those of the ring."""
        self.matching, self.ring, self.conditioning = matching, ring, conditioning
        self.newest = -1
        self.generation = 0
        self.device = device
        self._tokens = torch.zeros(ring, places, dim, device=device, dtype=dtype)
        self._older = torch.zeros(matching.older, places, dim, device=device, dtype=dtype)
        self._signatures = torch.zeros(matching.older, SIGNATURE_GRID**2 * dim, device=device)
        self._ring_frames = self._empty(ring)
        self.older_frames = self._empty(matching.older)
        self._prompted: list[int] = []  # frame in each slot, on the host
        self._prompted_tokens = self._tokens[:0]
        self._prompted_frames = self._empty(0)
        self._aside: dict[int, Tensor] = {}  # frame -> tokens, of prompted ones that are to be `put_back`
        self._overwritten: list[tuple[Tensor, int, Tensor]] | None = None  # since `save`: store, slot, its tokens

    # ---- what is remembered

    def remember(self, index: int, time: Tensor, tokens: Tensor, anything: Tensor) -> None:
        """Keep a frame in the ring and, every so often, among the older ones, where a frame tracked again is already.

        time: 0-d int64, its index on the device; tokens: (places, dim); anything: 0-d bool, whether any object is there
        """
        slot = time.remainder(self.ring)[None]
        self._tokens.index_copy_(0, slot, tokens[None].to(self._tokens.dtype))
        self._ring_frames.index_copy_(0, slot, time[None])
        if index > self.newest:
            self.newest = index
            if self.matching.older:
                self._consider(time, tokens, anything)

    def prompted(self, frame: int, tokens: Tensor, needed: Iterable[int], later: Iterable[int] = ()) -> None:
        """Keep a prompted frame.

        needed: all prompted frames that any object still has
        later: prompted frames after this one that objects are now tracked up to. Nothing before them is compared with
            them: where no slot is free, the newest gives way until it is `put_back`, so that none is added for it
        """
        needed = {*needed, frame} - {EMPTY}  # objects have slots without a frame, and so have these
        if frame not in self._prompted:
            later = {*later} & {*self._prompted}
            free = [slot for slot, held in enumerate(self._prompted) if held not in needed | later]
            if not free and later:
                newest = max(later)
                free = [self._prompted.index(newest)]
                self._aside[newest] = self._prompted_tokens[free[0]].clone()
            if not free:
                free = [len(self._prompted)]
                self._grow()
            if self._overwritten is not None and self._prompted[free[0]] != EMPTY:
                held = self._prompted_tokens
                self._overwritten.append((held, free[0], held[free[0]].clone()))
            self._prompted[free[0]] = frame
            self._prompted_frames[free[0]].fill_(frame)  # assigned, it would be a copy that is waited for
        self._prompted_tokens[self._prompted.index(frame)] = tokens.to(self._tokens.dtype)

    def put_back(self, frame: int, needed: Iterable[int], later: Iterable[int]) -> None:
        """Keep a prompted frame again that has given way, if it has; arguments as of `prompted`."""
        tokens, needed = self._aside.pop(frame, None), {*needed}
        if tokens is not None and frame in needed:
            self.prompted(frame, tokens, needed, later)

    def tokens_of(self, frame: int) -> Tensor:
        """Read the tokens (places, dim) of a prompted frame. Raises ValueError for one that is not kept."""
        return self._prompted_tokens[self._prompted.index(frame)]

    def save(self) -> tuple:
        """Copy which frames are in the slots of prompted ones, for `restore`; tokens are copied when they give way."""
        self._overwritten = []
        frames = self._prompted_frames, self._prompted_frames.clone()
        return list(self._prompted), self._prompted_tokens, *frames, self._overwritten

    def restore(self, saved: tuple) -> None:
        """Go back to `save`, when only frames were prompted since. Allocates nothing."""
        prompted, tokens, self._prompted_frames, frames, overwritten = saved
        self._prompted = list(prompted)
        self._aside.clear()
        self.generation += tokens is not self._prompted_tokens
        self._prompted_tokens = tokens
        self._prompted_frames.copy_(frames)
        for store, slot, values in reversed(overwritten):
            store[slot] = values

    def forget(self, frame: int) -> None:
        """Empty what a step that failed may have written of its frame."""
        self.newest = min(self.newest, frame - 1)
        self._tokens[frame % self.ring], self._ring_frames[frame % self.ring] = 0, EMPTY
        of_it = self.older_frames >= frame
        self._older[of_it], self._signatures[of_it], self.older_frames[of_it] = 0, 0, EMPTY

    def clear(self) -> None:
        """Forget all frames; the memory stays allocated."""
        self.newest = -1
        for frames in (self._ring_frames, self.older_frames, self._prompted_frames):
            frames.fill_(EMPTY)
        self._prompted = [EMPTY] * len(self._prompted)
        self._aside.clear()

    # ---- what is matched

    @property
    def slots(self) -> int:
        """Count what `entries` has: prompted frames, older ones, and the window."""
        return len(self._prompted) + self.matching.older + self.matching.newest

    def entries(self, time: Tensor) -> Entries:
        """Collect what a frame is matched with. time: 0-d int64, its index on the device."""
        window = (time - _ages(self.matching.newest, device=self.device)).remainder(self.ring)
        tokens = torch.cat((self._prompted_tokens, self._older, self._tokens.index_select(0, window)))
        frames = torch.cat((self._prompted_frames, self.older_frames, self._ring_frames.index_select(0, window)))
        older = older_columns(self.matching.older, self.conditioning + self.ring, device=self.device)
        return Entries(tokens, frames, torch.cat((older, window + self.conditioning)))

    def memory_bytes(self) -> int:
        """Count the bytes on the device."""
        stores = (self._tokens, self._older, self._signatures, self._prompted_tokens)
        frames = (self._ring_frames, self.older_frames, self._prompted_frames)
        return sum(t.numel() * t.element_size() for t in (*stores, *frames))

    def _consider(self, time: Tensor, tokens: Tensor, anything: Tensor) -> None:
        """Take a frame in, every `every` frames, in place of an empty slot, or of the oldest.

        Diverse: in place of what is most like another one, so that what remains differs most. That may be the frame
        itself.
        """
        new, own = signature_of(tokens), self._signatures
        due = (time.remainder(self.matching.every) == 0) & anything
        slot = self.older_frames.argmin()  # empty ones first
        if self.matching.keep == "diverse":
            every = torch.cat((own, new[None]))
            likeness = (every @ every.T).fill_diagonal_(-torch.inf)
            pair = likeness.amax(1)
            full = (self.older_frames != EMPTY).all()
            # of the two that are most alike the older one goes; the frame itself is the last row
            redundant = torch.where(pair == pair.max(), 1, 0).argmax()
            slot = torch.where(full, redundant, slot)
            due = due & (slot < len(own))
            slot = slot.clamp(max=len(own) - 1)
        slot = slot[None]
        for store, value in ((self._older, tokens), (own, new), (self.older_frames, time)):
            kept = store.index_select(0, slot)
            store.index_copy_(0, slot, torch.where(due, value[None].to(store.dtype), kept))

    def _grow(self) -> None:
        n = len(self._prompted)
        capacity = max(1, 2 * n)
        tokens = torch.zeros(capacity, *self._tokens.shape[1:], device=self.device, dtype=self._tokens.dtype)
        frames = self._empty(capacity)
        tokens[:n], frames[:n] = self._prompted_tokens, self._prompted_frames
        self.generation += 1
        self._prompted_tokens, self._prompted_frames = tokens, frames
        self._prompted += [EMPTY] * (capacity - n)

    def _empty(self, slots: int) -> Tensor:
        return torch.full((slots,), EMPTY, dtype=torch.int64, device=self.device)


def signature_of(tokens: Tensor) -> Tensor:
    """Shorten tokens (h w, dim) of a square grid to (16 dim,) of length 1, as `evidence.signature`."""
    side = round(len(tokens) ** 0.5)
    grid = tokens.float().T.unflatten(1, (side, side))[None]
    places = F.normalize(F.adaptive_avg_pool2d(grid, SIGNATURE_GRID), dim=1)
    return places.flatten() / SIGNATURE_GRID


@constant
def older_columns(count: int, first: int, device=None) -> Tensor:
    """(count,) columns of an object's label maps of the older frames, which begin with `first`."""
    return torch.arange(count, device=device) + first


@constant
def _ages(newest: int, device=None) -> Tensor:
    """(newest,): 1, 2, ..."""
    return torch.arange(1, newest + 1, device=device)
