"""Split-half pruning: TSMS-SAM2: the older half of the memories is compared with the first, the newer with the last."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.tracking.memory.policy import MemorySubset
from sam2s_model.tracking.memory.view import BankView


@dataclass(frozen=True)
class SplitHalfPruning:
    """Leave out one memory of each half, the one that is most like the memory at its end.

    With M = [first prompted, oldest .. newest], once len(M) + spare > full, M is split at len(M) // 2. The first half
    is compared with M[0], the second with M[-1]; both of these stay. Likeness is the cosine over places of each
    channel, summed over channels. The published index of the second half is off by one, so that the frame before the
    most similar one goes; here it is the most similar one. Every prompted frame is protected, and only the first is
    compared with.

    full, spare: 7 and 2 as published: a window of 5 or more is pruned
    """

    full: int = 7
    spare: int = 2

    def max_frames(self, window: int) -> int:
        return max(min(window, self.full - self.spare - 1), window - 2)

    def prune(self, view: BankView, window: MemorySubset, prompted: MemorySubset) -> MemorySubset:
        # A full window of 6, by ages 6 5 4 3 2 1, and the first prompted frame p: M = p 6 5 4 3 2 1, and 7 + 2 > 7.
        # M is split at 7 // 2 into p 6 5 and 4 3 2 1, so that the second half begins at place 2 of the window. Of 6 and
        # 5 the one that is most like p goes, of 4, 3 and 2 the one that is most like 1; say 5 and 3: 6 4 2 1 are left.
        size = window.columns.shape[1]
        if 1 + size + self.spare <= self.full:
            return window
        allowed = window.allowed if window.allowed is not None else torch.ones_like(window.columns, dtype=torch.bool)
        order = torch.where(allowed, window.codes, -1).argsort(dim=1, descending=True, stable=True)  # oldest first
        window, allowed = MemorySubset(window.columns, window.codes, allowed).gather(order), allowed.gather(1, order)
        count = allowed.sum(1, keepdim=True)  # (N, 1): of the window
        # an object that has nothing in the window has no last memory, and nothing that may go
        place, last = torch.arange(size, device=order.device).expand_as(order), (count - 1).clamp(min=0)
        half = (1 + count) // 2 - 1  # where the second half begins, in the window
        memories = view.memories(window.columns).float()
        to_first = _likeness(memories, view.memories(prompted.columns[:, :1]).float())
        to_last = _likeness(memories, memories.take_along_dim(last[..., None, None], dim=1))
        likest = [
            to_first.masked_fill(place >= half, -torch.inf).argmax(1, keepdim=True),
            to_last.masked_fill((place < half) | (place >= last), -torch.inf).argmax(1, keepdim=True),
        ]
        dropped = (place == likest[0]) | (place == likest[1])
        allowed = allowed & ~(dropped & (1 + count + self.spare > self.full))
        kept = torch.where(allowed, place, size + place).topk(self.max_frames(size), dim=1, largest=False).indices
        return MemorySubset(window.columns, window.codes, allowed).gather(kept)


def _likeness(memories: Tensor, other: Tensor) -> Tensor:
    """Compare memories (N, K, tokens, C) with one, (N, 1, tokens, C) -> (N, K)."""
    return F.cosine_similarity(memories, other, dim=2).sum(2)
