"""Thin structures on the grid of low-resolution masks: what is narrower than its pixels stays."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.device import upload
from sam2s_model.prompting.tubes import skeleton, tube_places, widened
from sam2s_model.tracking.holes import FILLED

COVERED = -5.0  # logit of a pixel of which a given mask covers a quarter
SURE = 10.0  # logit of a given mask, as published


def keep_thin(logits: Tensor) -> Tensor:
    """Raise what a line covers in part, with no pixel beside it that is covered by half: it would be lost.

    logits: (B, 1, h, w), of a tube's mask. Outlines of what is wider stay. Masks that are given
    as no tube are not changed: they are scaled as published.
    """
    alone = (F.max_pool2d(logits, 3, stride=1, padding=1) <= 0) & (logits >= COVERED)
    return torch.where(alone, FILLED, logits)


def tube_prompt(mask: np.ndarray, size: tuple[int, int], image_size: int, device) -> tuple[Tensor, Tensor, Tensor]:
    """Say to the decoder what a tube's mask (H, W) bool shows.

    size: (h, w) of the mask logits; image_size: side of the model's input, px
    Returns points (1, P, 2), px of the model's input, their labels (1, P), all on it, and mask logits (1, 1, h, w): the
    skeleton at the tube's usual width.
    """
    lines = skeleton(mask)
    places = tube_places(lines)
    scale = image_size / np.array(mask.shape[::-1], np.float64)
    points = (places * scale).astype(np.float32)
    dense = upload(widened(lines, mask)[None, None], device).float()
    dense = F.interpolate(dense, size=size, mode="bilinear", antialias=True)
    labels = np.ones((1, len(points)), np.int64)
    return upload(points[None], device), upload(labels, device), keep_thin(2 * SURE * dense - SURE)
