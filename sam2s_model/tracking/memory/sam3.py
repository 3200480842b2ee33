"""SAM 3's memory selection (arXiv 2511.16719), for each object as in SAM3-DMS (arXiv 2601.09699)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.memory.evidence import Evidence
from sam2s_model.tracking.memory.layout import PolicyState
from sam2s_model.tracking.memory.policy import Policy, Selection
from sam2s_model.tracking.memory.view import BankView


@dataclass(frozen=True)
class Sam3Selection(Policy):
    """The prompted frames, the frame before, and the newest that were seen well, `num_memories - 1` in all.

    The paper calls it temporal disambiguation. A frame counts as seen well when max(0, 2 sigmoid(object logit) - 1) x
    predicted IoU is above `min_score`. Memories are coded by their order, and so are pointers: those of the frames that
    were seen well among the newest `max_pointers - 1`, and of the memories. Unlike the published code, which takes the
    mean over all objects, and looks for pointers in all past frames, too.
    """

    min_score: float = 0.01

    @property
    def kept(self) -> tuple[tuple[str, int], ...]:
        return (("seen", self.window),)

    @property
    def states(self) -> tuple[PolicyState, ...]:
        return (PolicyState("seen_frames", (self.pointer_window,), torch.int64, EMPTY),)

    def select(self, view: BankView, now: int) -> Selection:
        newest, seen = self.newest_and_kept(view, now, "seen")
        chosen = self.selection(view, now, self.prompted_frames(view, now), newest, seen, pointed=seen)
        return self._pointers_in_order(view, now, chosen)

    def remember(self, view: BankView, evidence: Evidence) -> None:
        seen = score(evidence) > self.min_score
        view.keep("seen", view.frames("seen").argmin(1), seen, evidence)
        time = view.time(evidence.frame)
        frames = view.state("seen_frames")
        # a frame that is done again, after a prompt on an earlier one, is not there twice
        frames = torch.where(frames >= time, EMPTY, frames)
        view.write_state("seen_frames", frames)
        view.write_state_slot("seen_frames", frames.argmin(1), time.expand(len(view)), seen)

    def prompted(self, view: BankView, evidence: Evidence) -> None:
        frames = view.state("seen_frames")
        view.write_state("seen_frames", torch.where(frames >= view.time(evidence.frame), EMPTY, frames))

    def _pointers_in_order(self, view: BankView, now: int, chosen: Selection) -> Selection:
        """Allow the newest frames' pointers where the frame was seen well or is the one before, coded by order."""
        prompted = chosen.pointer_columns < view.layout.conditioning
        there = torch.ones_like(prompted) if chosen.pointer_allowed is None else chosen.pointer_allowed
        frames = view.frames_of_pointers(chosen.pointer_columns)
        seen = (frames[:, :, None] == view.state("seen_frames")[:, None]).any(2) | (frames == view.time(now) - 1)
        allowed = there & (prompted | seen)
        own = allowed & ~prompted
        newer = (frames[:, None] > frames[:, :, None]) & own[:, None]  # than each, among those that count
        order = (newer.sum(2) + 1).float()
        return replace(chosen, ages=torch.where(own, order, chosen.ages), pointer_allowed=allowed)


def score(evidence: Evidence) -> Tensor:
    """Score (N,) 0..1 how well an object was seen."""
    return (2 * evidence.outputs.object_logit.sigmoid() - 1).clamp(min=0) * evidence.outputs.iou
