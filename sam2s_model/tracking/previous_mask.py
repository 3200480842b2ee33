"""Prompts without any memory: each frame is prompted with the mask of the frame before and its box."""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 0.1  # the box is grown by this part of its sides, since an instrument moves between frames
PREVIOUS_LIMIT = 32.0  # logits of a mask that is fed back are clamped to it, as published


def previous_prompts(logits: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
    """Make prompts from mask logits (N, 1, h, w), on the device.

    Returns box corners (N, 2, 2), px of the model input, x y, and the dense prompt (N, 1, h, w). An empty mask gives
    the whole image as its box.
    """
    inside = logits[:, 0] > 0
    x0, x1 = _extent(inside.any(1), image_size)
    y0, y1 = _extent(inside.any(2), image_size)
    return torch.stack((x0, y0, x1, y1), dim=1).reshape(-1, 2, 2), fed_back(logits)


def fed_back(logits: Tensor) -> Tensor:
    """Clamp the logits of a mask that becomes a dense prompt."""
    return logits.clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT)


def _extent(used: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
    """Find where the used cells, (N, n) bool, begin and end, with the margin, px."""
    n = used.shape[1]
    cells = torch.arange(n, device=used.device)
    first = torch.where(used, cells, n).amin(1)
    last = torch.where(used, cells + 1, 0).amax(1)
    empty = last == 0
    low = torch.where(empty, 0, first) * (image_size / n)
    high = torch.where(empty, n, last) * (image_size / n)
    grow = MARGIN * (high - low)
    return (low - grow).clamp(min=0), (high + grow).clamp(max=image_size)
