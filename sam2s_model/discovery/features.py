"""Masked-average features: what a region looks like to the image encoder, in one vector of length one."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.device import as_tensor
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.memory.evidence import signature

TILES = 4  # rows and columns of tiles, of each of which the background is described by itself
LEAST_BACKGROUND = 0.9  # share of a place that no object covers, from which it is background
PROBE_SIDE = 96  # px of the picture that models are told apart by


def place_features(coarse: Tensor) -> Tensor:
    """(1, dim, h, w) -> (h w, dim) fp32: each place's features, of length one.

    Unlike those of `unit_tokens` they keep the frame's mean: it is what tells instruments from tissue in another frame.
    """
    return F.normalize(coarse.float().flatten(2)[0], dim=0).T


def masked_features(coarse: Tensor, masks: Tensor) -> Tensor:
    """(1, dim, h, w) and (N, H, W) masks of any size, 0..1 -> (N, dim) of length one; zero for an empty mask."""
    height, width = coarse.shape[-2:]
    inside = F.adaptive_avg_pool2d(masks[:, None].float(), (height, width)).flatten(1)
    return F.normalize(inside @ place_features(coarse), dim=1)


def background_features(coarse: Tensor, objects: Tensor) -> Tensor:
    """(1, dim, h, w) and (H, W) bool, where any object is -> (K, dim) of length one, K at most TILES^2.

    One vector of each tile of the frame that has background: the mean of many kinds of tissue is like none of them.
    """
    height, width = coarse.shape[-2:]
    free = 1 - F.adaptive_avg_pool2d(objects[None, None].float(), (height, width))[0, 0]
    rows, columns = (torch.arange(n, device=coarse.device) * TILES // n for n in (height, width))
    tile = (rows[:, None] * TILES + columns).flatten()
    inside = F.one_hot(tile, TILES * TILES).T * (free.flatten() >= LEAST_BACKGROUND)
    seen = inside.any(1)
    return F.normalize(inside.float() @ place_features(coarse), dim=1)[seen]


@torch.inference_mode()
def probe(model: Sam2Model) -> Tensor:
    """(16 dim,) fp32 on the CPU, of length one: what a model's image encoder makes of one fixed picture.

    It tells models apart by what they do, so that precision, 8-bit weights and compilation make no other model of one.
    """
    y, x = np.mgrid[:PROBE_SIDE, :PROBE_SIDE] / PROBE_SIDE
    disc = np.hypot(x - 0.6, y - 0.4) < 0.2
    bar = abs(x - y) < 0.08
    picture = np.stack((0.7 * x + 0.3 * disc, 0.5 + 0.3 * np.sin(12 * y) * ~bar, 0.6 * bar + 0.3 * y), axis=-1)
    image = (picture.clip(0, 1) * 255).astype(np.uint8)
    return signature(model.encode_image(model.prepare_image(as_tensor(image))).coarse)[0].cpu()
