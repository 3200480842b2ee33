"""Discovery on one image: what may be an object, where, and of which class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.config import TrackerConfig
from sam2s_model.device import as_tensor, upload
from sam2s_model.discovery.class_head import class_scores
from sam2s_model.discovery.features import masked_features, place_features
from sam2s_model.discovery.learnt import LearntClasses
from sam2s_model.discovery.prototypes import Likeness, PrototypeBank
from sam2s_model.discovery.regions import MAP_THRESHOLD, Regions, distinct, inside_field, propose, propose_like
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.field_of_view import endoscope_field

INSIDE = 0.7  # share of a region, above which it is a part of a better one of its class
REST_MARGIN = 0.8  # least margin of a region that the map of likeness alone has found
MOST_PROPOSALS = 64  # of an image, the best ones


@dataclass(frozen=True, eq=False)
class Proposal:
    """A region of an image that may be an object.

    mask: (H, W) bool, not empty; box: (4,) int32 x0 y0 x1 y1 of its pixels, px, x1 and y1 exclusive
    score: 0..1, the mask's predicted IoU; stability: 0..1, share of its area that hardly depends on the threshold
    class_name: what it is most like, "" for nothing that is known
    class_score: -1..1, cosine with its nearest prototype, or 0..1 of the class head or, of learnt class prompts, the
        predicted IoU; NaN without any
    margin: at most 1, see `Likeness`; NaN where the class head says the class
    proposal_id: of those that a tracker remembers, else 0; object_id: of the tracked object that it covers, else 0
    """

    mask: np.ndarray
    box: np.ndarray
    score: float
    stability: float
    class_name: str = ""
    class_score: float = math.nan
    margin: float = math.nan
    proposal_id: int = 0
    object_id: int = 0

    @property
    def area(self) -> int:
        """Px."""
        return int(self.mask.sum())


@torch.inference_mode()
def discover(
    model: Sam2Model, image: np.ndarray, bank: PrototypeBank | None = None, config: TrackerConfig | None = None
) -> list[Proposal]:
    """Propose the objects of an image, (H, W, 3) uint8 RGB, the best first.

    bank: prototypes by which they are named; without any, the class head does where the model has one
    """
    features = model.encode_image(model.prepare_image(as_tensor(image)))
    height, width = image.shape[:2]
    return proposals(model, features, (height, width), bank, config or TrackerConfig(), field=endoscope_field(image))


def proposals(
    model: Sam2Model,
    features: ImageFeatures,
    size: tuple[int, int],
    bank: PrototypeBank | None,
    config: TrackerConfig,
    class_name: str = "",
    learnt: LearntClasses | None = None,
    field: np.ndarray | None = None,
) -> list[Proposal]:
    """Propose the objects of a frame that is encoded already, as `discover` does.

    size: (H, W) of its image; class_name: only those of a class that has prototypes, "": all
    learnt: class prompts that were trained, which find the classes that they know, in place of prototypes and grid
    field: (H, W) bool, the endoscope's field: what is mostly outside is left out, masks end there; None: everywhere
    """
    if field is not None and field.all():
        field = None
    places = None if field is None else upload(field, model.device)
    if learnt is not None and class_name in learnt.names:
        found = inside_field(learnt.regions(model, features, class_name), places)
        # the frozen IoU head does not know such prompts
        return _described(found, size, field, [(class_name, iou, math.nan) for iou in found.iou.tolist()])
    found = inside_field(propose(model, features, config), places)
    if bank is None or not bank.class_names:
        found = found.taken(_indices(distinct(found.masks, found.score, config.discovery_overlap), found))
        return _described(found, size, field, _by_head(model, features, found, config))
    likeness = bank.compare(masked_features(features.coarse, found.masks))
    if class_name:
        found, likeness = _of_class(found, likeness, class_name, config)
        apart = distinct(found.masks, found.score, config.discovery_overlap, INSIDE)
        found = _with_rest(model, features, bank, class_name, found.taken(_indices(apart, found)), config, places)
        return _described(
            found, size, field, _named(bank.compare(masked_features(features.coarse, found.masks)), config)
        )
    named = likeness.margins >= config.discovery_min_margin
    # what is like a class comes before what is like none, whatever the latter's mask is worth
    chosen = distinct(found.masks, found.score + named, config.discovery_overlap)
    kept = _indices(_without_parts(found.masks, named, chosen), found)
    return _described(found.taken(kept), size, field, _named(likeness.taken(kept), config))


def _of_class(found: Regions, likeness: Likeness, class_name: str, config: TrackerConfig) -> tuple[Regions, Likeness]:
    same = torch.tensor([name == class_name for name in likeness.names], dtype=torch.bool, device=found.iou.device)
    chosen = (same & (likeness.margins >= config.discovery_min_margin)).nonzero()[:, 0]
    return found.taken(chosen), likeness.taken(chosen)


def _with_rest(
    model: Sam2Model,
    features: ImageFeatures,
    bank: PrototypeBank,
    class_name: str,
    found: Regions,
    config: TrackerConfig,
    places: Tensor | None,
) -> Regions:
    """Add what is like a class and lies in no region: the map of likeness there is its prompt."""
    likeness = bank.likeness(class_name, place_features(features.coarse)).unflatten(0, features.grid)
    covered = F.adaptive_max_pool2d(found.masks.any(0)[None, None].float(), features.grid)[0, 0]
    rest = torch.where(covered > 0, 0.0, likeness.to(covered.device))
    if not (rest > MAP_THRESHOLD).any():
        return found
    more = inside_field(propose_like(model, features, rest), places)
    more = more.taken((more.iou >= config.discovery_min_iou) & (more.stability >= config.discovery_min_stability))
    stricter = replace(config, discovery_min_margin=max(REST_MARGIN, config.discovery_min_margin))
    more, _ = _of_class(more, bank.compare(masked_features(features.coarse, more.masks)), class_name, stricter)
    both = found.joined(more)
    order = torch.cat((found.score + 1, more.score))  # the grid's were found apart from one another
    return both.taken(_indices(distinct(both.masks, order, config.discovery_overlap, INSIDE), both))


def _without_parts(masks: Tensor, named: Tensor, chosen: Sequence[int]) -> list[int]:
    """Leave out regions that lie inside better ones, where both are like a class: they are parts of an object."""
    of_class = [i for i in chosen if named[i]]
    order = torch.arange(len(of_class), 0, -1, device=masks.device).float()
    whole = {of_class[k] for k in distinct(masks[of_class], order, 1.0, INSIDE)} if of_class else set()
    return [i for i in chosen if not named[i] or i in whole]


def _indices(chosen: Sequence[int], regions: Regions) -> Tensor:
    return torch.tensor(chosen[:MOST_PROPOSALS], dtype=torch.int64, device=regions.iou.device)


Named = list[tuple[str, float, float]]  # class name, class score and margin of each region


def _named(likeness: Likeness, config: TrackerConfig) -> Named:
    rows = zip(likeness.names, likeness.scores.tolist(), likeness.margins.tolist(), strict=True)
    least = config.discovery_min_margin
    return [(name if margin >= least else "", score, margin) for name, score, margin in rows]


def _by_head(model: Sam2Model, features: ImageFeatures, regions: Regions, config: TrackerConfig) -> Named:
    scores = class_scores(model, features, regions.logits, regions.tokens) if len(regions) else None
    if scores is None:
        return [("", math.nan, math.nan)] * len(regions)
    best, rows = scores.max(1)
    least = config.min_class_score
    pairs = zip(best.tolist(), rows.tolist(), strict=True)
    return [(model.class_names[row] if score >= least else "", score, math.nan) for score, row in pairs]


def _described(regions: Regions, size: tuple[int, int], field: np.ndarray | None, named: Named) -> list[Proposal]:
    """Bring regions to the host, at the image's size and within its field, in their order, without what vanishes."""
    out = []
    rows = zip(regions.logits, regions.iou.tolist(), regions.stability.tolist(), named, strict=True)
    for logits, iou, stability, told in rows:
        mask = (F.interpolate(logits[None, None], size=size, mode="bilinear")[0, 0] > 0).cpu().numpy()
        if field is not None:
            mask &= field
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        if width:
            box = np.array([x, y, x + width, y + height], np.int32)
            out.append(Proposal(mask, box, iou, stability, *told))
    return out
