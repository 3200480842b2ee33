"""How well prototypes find objects in recordings with ground truth, image by image, without tracking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sam2s_model.config import TrackerConfig
from sam2s_model.device import as_tensor
from sam2s_model.discovery.build import LEAST_AREA, Confirmation, spread
from sam2s_model.discovery.discover import Proposal, proposals
from sam2s_model.discovery.learnt import LearntClasses
from sam2s_model.discovery.prototypes import PrototypeBank
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.field_of_view import endoscope_field

MATCHED = 0.5  # IoU from which a proposal is an object of the truth


@dataclass
class FindingScore:
    """Counts over frames: objects of the truth, proposals with a class, pairs of both, and pairs of the same class."""

    frames: int = 0
    objects: int = 0
    found: int = 0
    matched: int = 0
    same_class: int = 0

    @property
    def recall(self) -> float:
        return self.matched / self.objects if self.objects else float("nan")

    @property
    def precision(self) -> float:
        return self.matched / self.found if self.found else float("nan")

    @property
    def class_accuracy(self) -> float:
        return self.same_class / self.matched if self.matched else float("nan")


@torch.inference_mode()
def score_prototypes(
    model: Sam2Model,
    bank: PrototypeBank,
    confirmed: Sequence[Confirmation],
    *,
    config: TrackerConfig,
    learnt: LearntClasses | None = None,
    frames: int = 12,
    class_name: str = "",
    box_classes: Mapping[int, str] | None = None,
    on_recording: Callable[[str], Any] = lambda name: None,
) -> FindingScore:
    """Propose the objects of some frames of each recording, and compare those that have a class with the truth.

    learnt: class prompts, in place of prototypes
    class_name: a class alone is asked for, and all objects of the truth are of it; "": all classes of the bank
    Masks are compared with masks, and boxes where the truth has boxes alone. Objects that are too small to learn from
    are not counted, nor are proposals that find them.
    """
    score = FindingScore()
    for one in confirmed:
        on_recording(one.recording.name)
        for frame in spread(one, frames):
            features = model.encode_image(model.prepare_image(as_tensor(frame.image)))
            height, width = frame.image.shape[:2]
            field = endoscope_field(frame.image)
            found = proposals(model, features, (height, width), bank, config, class_name, learnt, field)
            found = [proposal for proposal in found if proposal.class_name]
            if one.boxes is not None:
                boxes = one.boxes_of(frame)
                overlaps = _box_overlaps(found, [box.corners * (width, height) for box in boxes])
                names = [(box_classes or {}).get(box.value, "") for box in boxes]
                large = np.ones(len(boxes), bool)
            else:
                assert frame.truth is not None
                shown = {value: mask for value, mask in frame.truth.masks.items() if mask.any()}
                overlaps = _mask_overlaps(found, list(shown.values()))
                names = [one.recording.classes.get(value, "") for value in shown]
                large = np.array([mask.mean() >= LEAST_AREA for mask in shown.values()], bool)
            _count(score, found, overlaps, [class_name or name for name in names], large)
            score.frames += 1
    return score


def _count(
    score: FindingScore, found: Sequence[Proposal], overlaps: np.ndarray, names: Sequence[str], large: np.ndarray
) -> None:
    """Pair proposals with objects one to one, those that overlap most first. overlaps: (proposals, objects)"""
    pairs = [(i, j) for i, j in np.argwhere(overlaps >= MATCHED)]
    pairs.sort(key=lambda pair: -overlaps[pair])
    left_out, taken_i, taken_j = 0, set(), set()
    for i, j in pairs:
        if i in taken_i or j in taken_j:
            continue
        taken_i.add(i)
        taken_j.add(j)
        if not large[j]:
            left_out += 1
            continue
        score.matched += 1
        score.same_class += found[i].class_name == names[j]
    score.objects += int(large.sum())
    score.found += len(found) - left_out


def _mask_overlaps(found: Sequence[Proposal], masks: Sequence[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(found), len(masks)))
    for i, one in enumerate(found):
        for j, mask in enumerate(masks):
            out[i, j] = (one.mask & mask).sum() / max((one.mask | mask).sum(), 1)
    return out


def _box_overlaps(found: Sequence[Proposal], corners: Sequence[np.ndarray]) -> np.ndarray:
    """corners: (2, 2) px, x y, of each"""
    out = np.zeros((len(found), len(corners)))
    for i, one in enumerate(found):
        for j, ((x0, y0), (x1, y1)) in enumerate(corners):
            width = min(x1, one.box[2]) - max(x0, one.box[0])
            height = min(y1, one.box[3]) - max(y0, one.box[1])
            common = max(width, 0.0) * max(height, 0.0)
            either = (x1 - x0) * (y1 - y0) + float(np.prod(one.box[2:] - one.box[:2])) - common
            out[i, j] = common / max(either, 1e-6)
    return out
