"""Regions of a frame that may be objects: masks from a grid of points, coarse first, and from a map of likeness.

The grid is TinySAM's hierarchical everything (arXiv 2312.13789 sec. 3.4): a coarse grid is decoded as one batch,
what is surely covered is left out, and a finer grid is decoded elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.config import TrackerConfig
from sam2s_model.device import upload
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.mask_decoder import Candidates
from sam2s_model.network.model import LOGITS_PER_PLACE, Sam2Model
from sam2s_model.network.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, POSITIVE

BATCH = 64  # points that are decoded at once: the coarse grid is one batch
SURE_LOGIT = 8.5  # of a pixel that is surely covered, as published
STABILITY_OFFSET = 1.0  # logits above and below 0, between which the area of a mask should hardly change, as published
LEAST_SHOWN = 0.5  # share of a region that lies inside the endoscope's field
LEAST_CELLS = 12  # of a mask, of low resolution
MAP_THRESHOLD = 0.5  # of a map of likeness, from which a place is inside
MAP_GAIN = 20.0  # logits of the dense prompt for each unit of the map
MOST_PARTS = 16  # connected parts of a map or a mask, the largest ones


@dataclass(frozen=True)
class Regions:
    """N masks on one frame.

    logits: (N, h, w) fp32, at 1/4 of the input; iou: (N,) 0..1, predicted; stability: (N,) 0..1
    tokens: (N, decoder_width), output tokens of the masks
    """

    logits: Tensor
    iou: Tensor
    stability: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.iou)

    @property
    def masks(self) -> Tensor:
        """(N, h, w) bool."""
        return self.logits > 0

    @property
    def score(self) -> Tensor:
        """(N,) 0..1, how good the masks are, whatever they show."""
        return self.iou * self.stability

    def taken(self, chosen: Tensor) -> Regions:
        """Return some of them: chosen (K,) int, or (N,) bool."""
        return Regions(self.logits[chosen], self.iou[chosen], self.stability[chosen], self.tokens[chosen])

    def joined(self, other: Regions) -> Regions:
        return Regions(
            torch.cat((self.logits, other.logits)),
            torch.cat((self.iou, other.iou)),
            torch.cat((self.stability, other.stability)),
            torch.cat((self.tokens, other.tokens)),
        )


def grid_points(side: int, image_size: int) -> Tensor:
    """(side^2, 2) px of the model input, x y: the middles of the cells of a grid, row by row."""
    places = (torch.arange(side) + 0.5) * image_size / side - 0.5
    y, x = torch.meshgrid(places, places, indexing="ij")
    return torch.stack((x, y), dim=-1).flatten(0, 1)


def inside_field(regions: Regions, field: Tensor | None) -> Regions:
    """Leave out regions that lie mostly outside the endoscope's field, as the black corners do, which are no objects.

    field: (H, W) bool, or None for everywhere
    """
    if field is None or not len(regions):
        return regions
    shown = F.interpolate(field[None, None].float(), size=regions.logits.shape[1:], mode="area")[0, 0]
    masks = regions.masks
    return regions.taken((masks * shown).flatten(1).sum(1) > LEAST_SHOWN * masks.flatten(1).sum(1))


def propose(model: Sam2Model, features: ImageFeatures, config: TrackerConfig) -> Regions:
    """Masks of a frame's objects and parts without prompts, as good as the configuration asks."""
    found = _at_points(model, features, grid_points(config.discovery_grid, model.image_size).to(model.device), config)
    if not config.discovery_fine_grid:
        return found
    fine = grid_points(config.discovery_fine_grid, model.image_size).to(model.device)
    if len(found):
        sure = (found.logits > SURE_LOGIT).any(0)
        x, y = (fine.round().long() * sure.shape[0] // model.image_size).T
        fine = fine[~sure[y, x]]
    return found.joined(_at_points(model, features, fine, config)) if len(fine) else found


def _at_points(model: Sam2Model, features: ImageFeatures, points: Tensor, config: TrackerConfig) -> Regions:
    """Good masks at points (P, 2), px of the model input."""
    parts = []
    for batch in points.split(BATCH):
        labels = torch.full((len(batch), 1), POSITIVE, device=batch.device)
        conditioned = model.without_memory(features, len(batch))
        parts.append(_good(model.candidates(conditioned, features, batch[:, None], labels), config))
    out = parts[0]
    for part in parts[1:]:
        out = out.joined(part)
    return out


def _good(made: Candidates, config: TrackerConfig) -> Regions:
    regions = _regions(made.logits.flatten(0, 1), made.iou.flatten(), made.tokens.flatten(0, 1))
    area = regions.masks.flatten(1).sum(1)
    whole = regions.logits.shape[1] * regions.logits.shape[2]
    fits = (area >= LEAST_CELLS) & (area <= config.max_area_fraction * whole)
    good = (regions.iou >= config.discovery_min_iou) & (regions.stability >= config.discovery_min_stability)
    return regions.taken(fits & good)


def _regions(logits: Tensor, iou: Tensor, tokens: Tensor) -> Regions:
    return Regions(logits, iou, stability(logits), tokens)


def stability(logits: Tensor) -> Tensor:
    """(N, h, w) -> (N,) 0..1: share of a mask's area that hardly depends on the threshold; 0 of an empty one."""
    inner, outer = ((logits > edge).flatten(1).sum(1) for edge in (STABILITY_OFFSET, -STABILITY_OFFSET))
    return inner / outer.clamp(min=1)


def propose_like(model: Sam2Model, features: ImageFeatures, likeness: Tensor) -> Regions:
    """Masks of the connected parts of a map of likeness, which is the dense prompt; the part's box is the sparse one.

    likeness: (h, w) fp32 of the features' grid, 0 for the background and 1 for the class
    Of each part's candidate masks the one is taken that agrees most with the map and that the decoder expects most of.
    """
    size = [LOGITS_PER_PLACE * side for side in features.grid]
    soft = F.interpolate(likeness[None, None].float(), size=size, mode="bilinear")[0, 0].clamp(0, 1)
    parts = upload(connected_parts((soft > MAP_THRESHOLD).cpu().numpy()), model.device)
    if not len(parts):
        width = model.config.decoder_width
        return Regions(soft.new_zeros(0, *size), soft.new_zeros(0), soft.new_zeros(0), soft.new_zeros(0, width))
    of_part = soft * F.max_pool2d(parts[:, None].float(), 5, stride=1, padding=2)[:, 0]
    corners = torch.stack([_corners(part) for part in parts]) * (model.image_size / size[0])
    labels = torch.tensor([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]], device=model.device).expand(len(parts), -1)
    dense = (of_part - MAP_THRESHOLD) * MAP_GAIN
    made = model.candidates(model.without_memory(features, len(parts)), features, corners, labels, dense[:, None])
    masks = (made.logits > 0).float()
    common = (masks * of_part[:, None]).flatten(2).sum(2)
    either = masks.flatten(2).sum(2) + of_part.flatten(1).sum(1)[:, None] - common
    decoded = made.taken((common / either.clamp(min=1) * made.iou).argmax(1))
    return _regions(decoded.logits[:, 0], decoded.iou, decoded.token)


def connected_parts(inside: np.ndarray) -> np.ndarray:
    """(h, w) bool -> (N, h, w) bool: its largest connected parts."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= LEAST_CELLS]
    large.sort(key=lambda i: -stats[i, cv2.CC_STAT_AREA])
    return np.stack([labels == i for i in large[:MOST_PARTS]]) if large else np.zeros((0, *inside.shape), bool)


def _corners(part: Tensor) -> Tensor:
    """(h, w) bool, not empty -> (2, 2) fp32 x y, in cells, the far ones exclusive."""
    y, x = part.nonzero().T
    return torch.stack((torch.stack((x.min(), y.min())), torch.stack((x.max() + 1, y.max() + 1)))).float()


def distinct(masks: Tensor, order: Tensor, overlap: float, inside: float = 1.0) -> list[int]:
    """Which masks stay when those that a better one covers go, best first.

    masks: (N, h, w) bool; order: (N,), greater is better; overlap: IoU above which the worse of two goes
    inside: share of the smaller of two masks that is common, above which the worse goes; 1: none does
    """
    if not len(masks):
        return []
    flat = masks.flatten(1).float()
    common, area = flat @ flat.T, flat.sum(1)
    iou = common / (area[:, None] + area - common).clamp(min=1)
    covered = common / torch.minimum(area[:, None], area).clamp(min=1)
    conflicts = ((iou > overlap) | (covered > inside)).cpu().numpy()
    kept: list[int] = []
    for i in order.argsort(descending=True).tolist():
        if not conflicts[i, kept].any():
            kept.append(i)
    return kept
