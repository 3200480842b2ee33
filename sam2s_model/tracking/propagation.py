"""Labels go along the most similar features of two frames, and prompt the mask decoder: functions without a memory.

What is remembered, and for how long, is `correspondence`'s; training teaches the mask decoder with the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.constants import constant
from sam2s_model.acceleration.masks import agreement as agreement_kernel
from sam2s_model.network.model import LOGITS_PER_PLACE
from sam2s_model.network.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT
from sam2s_model.tracking.memory.evidence import boxes
from sam2s_model.tracking.memory.matching import Matching

FINER = 2  # label cells along each side of a place: a thin tool covers less than a place


@dataclass(frozen=True)
class Propagated:
    """Labels of N objects on one frame.

    tokens: (places, dim), the frame's
    maps: (N, 1, FINER h, FINER w) fp32 in 0..1, how much of the votes are for the object
    soft: the same at the size of mask logits, (N, 1, 4h, 4w); inside: (N, 4h, 4w) bool, where it is above the threshold
    lasting: as maps, by the votes of prompted and older frames alone, 1 where an object has none; None: nobody voted
    lost: (N,) bool, whether it was not found on the frame before; None with `lasting`
    """

    tokens: Tensor
    maps: Tensor
    soft: Tensor
    inside: Tensor
    lasting: Tensor | None = None
    lost: Tensor | None = None

    @classmethod
    def of(
        cls,
        tokens: Tensor,
        maps: Tensor,
        matching: Matching,
        lasting: Tensor | None = None,
        lost: Tensor | None = None,
    ) -> Propagated:
        size = [LOGITS_PER_PLACE // FINER * side for side in maps.shape[-2:]]
        soft = F.interpolate(maps, size=size, mode="bilinear")
        return cls(tokens, maps, soft, soft[:, 0] > matching.threshold, lasting, lost)


def unit_tokens(coarse: Tensor) -> Tensor:
    """Turn (1, dim, h, w) features into (h w, dim) fp32 tokens, without the frame's mean, each of length one."""
    tokens = coarse.float().flatten(2)[0]
    return F.normalize(tokens - tokens.mean(1, keepdim=True), dim=0).T


def neighbours(tokens: Tensor, remembered: Tensor, grid: tuple[int, int], matching: Matching) -> tuple[Tensor, Tensor]:
    """Find the most similar places of each of E frames, of the newest ones only within the radius.

    tokens: (places, dim), of a grid of (h, w) places; remembered: (E, places, dim), the newest frames last
    Returns weights (places, E, k) fp32, and places counted over all frames (places, E k).
    """
    frames, area, _ = remembered.shape
    similarity = (tokens @ remembered.flatten(0, 1).T).view(area, frames, area)
    newest = similarity[:, max(0, frames - matching.newest) :]
    newest += _far(*grid, matching.radius, device=tokens.device)[:, None].to(newest.dtype)
    best, places = similarity.topk(matching.neighbours, dim=2, sorted=False)
    weights = ((best.float() - 1) / matching.temperature).exp().nan_to_num()  # what is no number has no say
    return weights, (places + _first_places(frames, area, device=places.device)).flatten(1)


def label_prompts(found: Propagated, matching: Matching, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Make prompts: box corners (N, 2, 2), x y, px of the model input, labels (N, 2); dense (N, 1, 4h, 4w).

    stride: px of a place
    """
    corners = boxes(found.inside).view(-1, 2, 2) * (stride / LOGITS_PER_PLACE)
    labels = _box_labels(device=corners.device).expand(len(corners), -1)
    return corners, labels, (found.soft - matching.threshold) * matching.gain


def agreement(found: Propagated, logits: Tensor, matching: Matching) -> Tensor:
    """Compute (N, K) 0..1: how far masks, logits (N, K, 4h, 4w), agree with the propagated maps.

    That is their soft intersection over union, in which what a mask misses counts `missed` times: the mask of a
    part agrees with the map where it is, and the rest of the object would be forgotten within a few frames.
    """
    if kernels.serves(logits):
        return agreement_kernel(logits.float(), found.soft, matching.missed)
    masks = (logits > 0).float()
    common = (masks * found.soft).flatten(2).sum(2)
    beyond, missed = masks.flatten(2).sum(2) - common, found.soft.flatten(2).sum(2) - common
    return common / (common + beyond + matching.missed * missed).clamp(min=1)


def small(masks: Tensor) -> Tensor:
    """(N, 1, 4h, 4w) -> (N, 1, FINER h, FINER w)"""
    return F.avg_pool2d(masks, LOGITS_PER_PLACE // FINER)


def patched(maps: Tensor) -> Tensor:
    """(N, 1, FINER h, FINER w) -> (N, h w, FINER^2): the cells of each place."""
    return F.pixel_unshuffle(maps, FINER).flatten(2).transpose(1, 2)


def unpatched(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Undo `patched`."""
    return F.pixel_shuffle(cells.transpose(1, 2).unflatten(2, grid), FINER)


@constant
def _far(height: int, width: int, radius: float, device=None) -> Tensor:
    """(places, places): 0 between places of a grid that are at most `radius` sides apart, -9 between the others."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    place = torch.stack((y, x), -1).flatten(0, 1).float()
    return torch.where(torch.cdist(place, place) > radius * max(height, width), -9.0, 0.0)


@constant
def _first_places(frames: int, area: int, device=None) -> Tensor:
    """(frames, 1): the number of the first place of each frame, when those of all are counted."""
    return torch.arange(frames, device=device)[:, None] * area


@constant
def _box_labels(device=None) -> Tensor:  # -> (2,)
    return torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], device=device)
