"""Efficient frame pruning: Surgical SAM 2 (arXiv 2408.07931 sec. 3): attend to what differs most in the window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.tracking.memory.policy import MemorySubset
from sam2s_model.tracking.memory.view import BankView


@dataclass(frozen=True)
class FramePruning:
    """Leave out the memories of the short window that are most like its newest.

    Likeness is the cosine over channels, averaged over places (published: summed, which orders alike). Kept frames keep
    the code of their age, and pointers are not pruned. Unlike the published code, which prunes whatever lies between
    the first prompted frame and the newest, with one decision for all objects, every prompted frame is protected and
    each object is decided for by itself, on the device.

    memories: n, left of the window and the prompted frames, which count as one; published with m = 2 that are left out
        of a full window, 7
    """

    memories: int = 5

    def max_frames(self, window: int) -> int:
        return min(window, self.memories - 1)

    def prune(self, view: BankView, window: MemorySubset, prompted: MemorySubset) -> MemorySubset:
        size = window.columns.shape[1]
        kept = self.max_frames(size)
        if kept == size:
            return window
        likeness = likeness_to_newest(view, window)
        if window.allowed is not None:
            likeness = likeness.masked_fill(~window.allowed, torch.inf)
        return window.gather(likeness.topk(kept, dim=1, largest=False).indices.sort(dim=1).values)


def newest_place(window: MemorySubset) -> Tensor:
    """Find the place (N, 1) of the newest memory in a window."""
    codes = window.codes
    if window.allowed is not None:
        codes = codes.masked_fill(~window.allowed, torch.iinfo(codes.dtype).max)
    return codes.argmin(1, keepdim=True)


def likeness_to_newest(view: BankView, window: MemorySubset) -> Tensor:
    """Compare memories with the newest: (N, K) in -1..1, and -inf for the newest itself, which is never left out."""
    memories, place = view.memories(window.columns).float(), newest_place(window)
    newest = view.memories(window.columns.gather(1, place)).float()
    return F.cosine_similarity(memories, newest, dim=-1).mean(2).scatter(1, place, -torch.inf)
