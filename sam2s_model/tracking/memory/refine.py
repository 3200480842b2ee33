"""Refine before write: candidate masks of several frames make short tracklets, and the consistent one is remembered.

After the idea of SENTRY, by this project's own rule; its constants were not tuned on anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.tracking.memory.evidence import Evidence
from sam2s_model.tracking.memory.layout import PolicyState
from sam2s_model.tracking.memory.policy import Policy, Selection
from sam2s_model.tracking.memory.view import BankView

HYPOTHESES = 3  # candidate masks of a frame
SIDE = 64  # cells of the masks that are compared, whatever the size of the features


@dataclass(frozen=True)
class Refine(Policy):
    """The prompted frames, the frame before, and the newest whose mask continues a consistent tracklet, six in all.

    A tracklet ends in each of a frame's candidate masks. Its consistency is the greatest, over the candidates of the
    frame before, of the IoU of both masks times (1 - `memory` + `memory` x the consistency of the tracklet that ended
    there). A prompted mask begins one, of 1. An object's mask is the candidate with the greatest `weight` x consistency
    + (1 - `weight`) x predicted IoU; its frame is kept when the object is there, with a predicted IoU above `min_iou`
    and a consistency above `min_consistency`. While an object is absent its tracklets stay as they are. Frames are
    coded by their order.
    """

    weight: float = 0.25
    memory: float = 0.8
    min_iou: float = 0.5
    min_consistency: float = 0.3

    uses_candidates: ClassVar[bool] = True

    @property
    def kept(self) -> tuple[tuple[str, int], ...]:
        return (("consistent", self.window),)

    @property
    def states(self) -> tuple[PolicyState, ...]:
        return PolicyState("hypotheses", (HYPOTHESES, SIDE * SIDE), None), PolicyState(
            "consistency", (HYPOTHESES,), torch.float32, 1.0
        )

    def select(self, view: BankView, now: int) -> Selection:
        return self.selection(
            view, now, self.prompted_frames(view, now), *self.newest_and_kept(view, now, "consistent")
        )

    def choose(self, view: BankView, candidates: Tensor, predicted_iou: Tensor) -> Tensor:
        linked = self._linked(view, _cells(candidates))
        return (self.weight * linked + (1 - self.weight) * predicted_iou).argmax(1)

    def remember(self, view: BankView, evidence: Evidence) -> None:
        taken = self._linked(view, _cells(evidence.outputs.logits))[:, 0]
        sure = evidence.outputs.present & (evidence.outputs.iou > self.min_iou)
        view.keep("consistent", view.frames("consistent").argmin(1), sure & (taken > self.min_consistency), evidence)
        cells = _cells(evidence.choices.expand(-1, HYPOTHESES, -1, -1))
        linked = self._linked(view, cells)
        there = evidence.outputs.present[:, None]
        view.write_state("consistency", torch.where(there, linked, view.state("consistency")))
        view.write_state("hypotheses", torch.where(there[..., None], cells, view.state("hypotheses").float()))

    def prompted(self, view: BankView, evidence: Evidence) -> None:
        view.start_states(self.states)
        view.write_state("hypotheses", _cells(evidence.outputs.logits).expand(-1, HYPOTHESES, -1))

    def _linked(self, view: BankView, cells: Tensor) -> Tensor:
        """Link masks (N, K, cells): how consistent the tracklet is that ends in each, (N, K)."""
        before = view.state("hypotheses").float()
        # one candidate of the frame before after the other, since all pairs of masks at once are many numbers
        overlaps = [_iou(cells, before[:, j : j + 1]) for j in range(HYPOTHESES)]
        held = 1 - self.memory + self.memory * view.state("consistency")
        return (torch.stack(overlaps, dim=2) * held[:, None]).amax(2)


def _cells(logits: Tensor) -> Tensor:
    """(N, K, h, w) -> (N, K, SIDE^2) fp32 in 0..1: how much of each cell is inside."""
    return F.adaptive_avg_pool2d((logits > 0).float(), SIDE).flatten(2)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the IoU of masks (..., cells) in 0..1; 0 where both are empty."""
    shared, total = torch.minimum(a, b).sum(-1), torch.maximum(a, b).sum(-1)
    return torch.where(total > 0, shared / total.clamp(min=1e-6), 0.0)
