"""Motion-aware memory: SAMURAI (arXiv 2411.11922 sec. 4): a Kalman filter helps to choose masks and memories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sam2s_model.tracking.memory import kalman
from sam2s_model.tracking.memory.evidence import Evidence, box_iou, boxes
from sam2s_model.tracking.memory.layout import PolicyState
from sam2s_model.tracking.memory.policy import Policy, Selection
from sam2s_model.tracking.memory.view import BankView


@dataclass(frozen=True)
class Samurai(Policy):
    """The prompted frames, the frame before, and the newest of those frames that passed three gates, six in all.

    While an object has been followed stably for `stable_frames`, its mask is the candidate with the greatest
    `motion_weight` x IoU of its box with the predicted box + (1 - `motion_weight`) x predicted IoU. A frame passes when
    its predicted IoU is above `min_iou`, its object score above 0 and, once stable, its box overlaps the predicted one.
    Frames are coded by their order, as published. Bounded unlike the published code, which searches all past frames:
    the newest six that passed are kept. A prompt starts the motion anew.

    stable_iou: predicted IoU below which an object is not followed stably; its motion is then started anew
    """

    stable_frames: int = 15
    stable_iou: float = 0.3
    motion_weight: float = 0.25
    min_iou: float = 0.5

    uses_candidates: ClassVar[bool] = True

    @property
    def kept(self) -> tuple[tuple[str, int], ...]:
        return (("passed", self.window),)

    @property
    def states(self) -> tuple[PolicyState, ...]:
        return PolicyState("stable", (), torch.int64), PolicyState("mean", (4, 2)), PolicyState("covariance", (4, 3))

    def select(self, view: BankView, now: int) -> Selection:
        return self.selection(view, now, self.prompted_frames(view, now), *self.newest_and_kept(view, now, "passed"))

    def choose(self, view: BankView, candidates: Tensor, predicted_iou: Tensor) -> Tensor:
        mean, _ = kalman.predict(view.state("mean"), view.state("covariance"))
        motion = box_iou(boxes(candidates > 0), kalman.box(mean)[:, None])
        both = self.motion_weight * motion + (1 - self.motion_weight) * predicted_iou
        return torch.where(self._stable(view)[:, None], both, predicted_iou).argmax(1)

    def remember(self, view: BankView, evidence: Evidence) -> None:
        mean, covariance = kalman.predict(view.state("mean"), view.state("covariance"))
        motion = box_iou(evidence.box, kalman.box(mean))
        sure = evidence.outputs.iou > self.min_iou
        passed = (
            sure & evidence.outputs.present & (evidence.outputs.object_logit > 0) & ((motion > 0) | ~self._stable(view))
        )
        view.keep("passed", view.frames("passed").argmin(1), passed, evidence)
        self._follow(view, evidence, mean, covariance)

    def prompted(self, view: BankView, evidence: Evidence) -> None:
        view.start_states(self.states)
        self._follow(view, evidence, view.state("mean"), view.state("covariance"))

    def _follow(self, view: BankView, evidence: Evidence, mean: Tensor, covariance: Tensor) -> None:
        """Correct the predicted motion where the object is followed, and start it where it was not."""
        stable = view.state("stable")
        seen = evidence.outputs.present & (evidence.area > 0)
        followed = seen & (evidence.outputs.iou > self.stable_iou)
        begins = seen & (stable == 0)
        states = kalman.start(evidence.box), kalman.update(mean, covariance, evidence.box), (mean, covariance)
        for name, started, updated, predicted in zip(("mean", "covariance"), *states, strict=True):
            value = torch.where(followed[:, None, None], updated, predicted)
            view.write_state(name, torch.where(begins[:, None, None], started, value))
        view.write_state("stable", torch.where(followed | begins, stable + 1, 0))

    def _stable(self, view: BankView) -> Tensor:
        return view.state("stable") >= self.stable_frames
