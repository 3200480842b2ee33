"""Distractor-aware memory: DAM4SAM (arXiv 2411.17576 sec. 3): remember how the object differs from look-alikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.memory.evidence import Evidence, box_iou, boxes
from sam2s_model.tracking.memory.layout import PolicyState
from sam2s_model.tracking.memory.policy import Policy, Selection
from sam2s_model.tracking.memory.view import BankView


@dataclass(frozen=True)
class DistractorAware(Policy):
    """The prompted frames, distractor frames that are treated like them, and the newest frames with the object.

    A frame becomes a distractor frame when its predicted IoU is above `min_iou`, its area is within `area_tolerance` of
    the median of the last `areas`, more than `interval` frames have passed since the last one or the last prompt, and
    the box of its mask has an IoU of at most `max_box_iou` with that of the mask and the largest alternative together.
    The alternative is what another candidate has more, without specks (an opening by 3 x 3, where the published code
    looks for connected components on the host). The newest `distractors` are kept; published: all.

    The newest frame is attended to even without the object. A prompt starts areas and interval anew.
    """

    distractors: int = 3
    min_iou: float = 0.8
    areas: int = 10
    area_tolerance: float = 0.2
    interval: int = 5
    max_box_iou: float = 0.7

    uses_candidates: ClassVar[bool] = True

    @property
    def kept(self) -> tuple[tuple[str, int], ...]:
        return ("visible", self.window), ("distractors", self.distractors)

    @property
    def states(self) -> tuple[PolicyState, ...]:
        return PolicyState("areas", (self.areas,), initial=torch.nan), PolicyState("last_added", (), torch.int64)

    @property
    def max_frames(self) -> int:
        return super().max_frames + self.distractors

    def select(self, view: BankView, now: int) -> Selection:
        prompted = self.prompted_frames(view, now)
        added = view.max_tracked(now) // (self.interval + 1)  # the host's bound
        frames = view.frames("distractors")
        order = torch.where(view.time(now) - frames > 1, frames, EMPTY)  # the frame before is the window's
        distractors = self.kept_frames(view, "distractors", order, added, self.prompted_code)
        window = self.newest_and_kept(view, now, "visible")
        return self.selection(view, now, prompted, distractors, *window, pointed=distractors)

    def remember(self, view: BankView, evidence: Evidence) -> None:
        seen = evidence.outputs.present & (evidence.area > 0)
        median = _median(view.state("areas"))  # NaN as long as there is none, and then nothing is like it
        usual = (evidence.area - median).abs() <= self.area_tolerance * median
        due = view.time(evidence.frame) - view.state("last_added") > self.interval
        distracted = self._alternative_iou(evidence) <= self.max_box_iou
        added = seen & (evidence.outputs.iou > self.min_iou) & usual & due & distracted
        view.keep("distractors", view.frames("distractors").argmin(1), added, evidence)
        view.keep("visible", view.frames("visible").argmin(1), seen & ~added, evidence)
        view.write_state("last_added", torch.where(added, view.time(evidence.frame), view.state("last_added")))
        slot = self._area_slot(view, evidence)
        view.write_state_slot("areas", slot, evidence.area, seen)

    def prompted(self, view: BankView, evidence: Evidence) -> None:
        view.start_states(self.states)
        slot = self._area_slot(view, evidence)
        view.write_state_slot("areas", slot, evidence.area, evidence.area > 0)
        view.write_state("last_added", view.time(evidence.frame).expand_as(view.index))

    def _area_slot(self, view: BankView, evidence: Evidence) -> Tensor:  # -> (N,)
        return (view.time(evidence.frame) % self.areas).expand_as(view.index)

    def _alternative_iou(self, evidence: Evidence) -> Tensor:
        """Compute (N,) IoUs of the mask's box with that of the mask and the largest alternative."""
        taken = evidence.outputs.logits > 0
        more = _opened((evidence.choices > 0) & ~taken)
        largest = more.flatten(2).sum(2).argmax(1)
        together = taken[:, 0] | more.take_along_dim(largest[:, None, None, None], dim=1)[:, 0]
        return box_iou(boxes(taken[:, 0]), boxes(together))


def _median(values: Tensor) -> Tensor:
    """Take the lower median (N,) of (N, K) values, NaN where there is none.

    torch's own median has no deterministic form on CUDA.
    """
    ordered = values.sort(dim=1).values  # NaN comes last
    middle = (values.isfinite().sum(1, keepdim=True) - 1).clamp(min=0) // 2
    return ordered.gather(1, middle)[:, 0]


def _opened(masks: Tensor) -> Tensor:
    """Remove from masks (N, K, h, w) bool what is narrower than 3 px."""
    outside = F.max_pool2d((~masks).float(), 3, stride=1, padding=1)
    return F.max_pool2d(1 - outside, 3, stride=1, padding=1) > 0
