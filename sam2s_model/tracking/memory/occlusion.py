"""Memories of relevance and of occlusion: the idea of MA-SAM2 and ReMeDI-SAM3, whose constants are not public."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.memory.evidence import Evidence
from sam2s_model.tracking.memory.policy import Policy, Selection
from sam2s_model.tracking.memory.view import BankView


@dataclass(frozen=True)
class OcclusionAware(Policy):
    """The prompted frames, a complete window of three, and older frames by how relevant they are.

    The relevance of a frame is object score x predicted IoU. Frames of at least `relevant` fill up the window to its
    usual six; frames below that but of at least `partly`, on which the object is partly hidden, are kept beside them.
    While an object is seen well this is FIFO, frame by frame. When it is hidden, the last good views and the last
    partly hidden ones stay, however long it lasts, and the window says that it is gone now. Whether what comes back is
    the same object is asked by `reidentification`, for every policy.

    newest: complete part of the window; partly_hidden: slots for frames of that kind
    relevant, partly: the thresholds tau_rel and tau_occ, ours
    """

    newest: int = 3
    partly_hidden: int = 2
    relevant: float = 0.7
    partly: float = 0.4

    @property
    def kept(self) -> tuple[tuple[str, int], ...]:
        return ("relevant", self.window), ("partly_hidden", self.newest + self.partly_hidden)

    @property
    def max_frames(self) -> int:
        return self.window + self.partly_hidden

    def select(self, view: BankView, now: int) -> Selection:
        prompted = self.prompted_frames(view, now)
        window = self.short_window(view, now, self.newest)
        older = max(0, view.max_tracked(now) - self.newest)  # the host's bound
        parts = []
        for name, most, codes in (
            ("relevant", self.window - self.newest, torch.arange(self.newest, self.window, device=window.codes.device)),
            ("partly_hidden", self.partly_hidden, self.long_term_code),
        ):
            frames = view.frames(name)
            order = torch.where(view.time(now) - frames > self.newest, frames, EMPTY)
            parts.append(self.kept_frames(view, name, order, min(most, older), codes))
        return self.selection(view, now, prompted, window, *parts)

    def remember(self, view: BankView, evidence: Evidence) -> None:
        relevance = evidence.outputs.object_logit.sigmoid() * evidence.outputs.iou * evidence.outputs.present
        good = relevance >= self.relevant
        view.keep("relevant", view.frames("relevant").argmin(1), good, evidence)
        view.keep("partly_hidden", view.frames("partly_hidden").argmin(1), ~good & (relevance >= self.partly), evidence)
