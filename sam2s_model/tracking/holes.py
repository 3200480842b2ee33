"""Fill small holes in masks, on the device and without a host sync (SAM2's predictor does it with a CUDA extension)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration import kernels

FILLED = 0.1  # logit of a pixel in a hole that was filled, as published


def fill_holes(logits: Tensor, area: int) -> Tensor:
    """Raise the logits of small holes above 0.

    logits: (N, 1, h, w), h * w below 2^24; area: px, 8-connected background regions up to it are holes; 0 fills none
    Returns a new tensor of the same shape.

    Every background pixel takes the greatest number among its neighbours, `area` times. A region of at most `area`
    pixels then has one number in all of its pixels. A larger one may hold groups that are as small, but each of them
    touches a pixel of its own region with another number.
    """
    if not area:
        return logits
    if kernels.serves(logits):
        return kernels.fill_holes(logits, area, FILLED)
    n, _, h, w = logits.shape
    background = logits <= 0
    number = torch.arange(1, h * w + 1, device=logits.device, dtype=torch.float32).view(1, 1, h, w) * background
    for _ in range(area - 1):
        number = F.max_pool2d(number, 3, stride=1, padding=1) * background
    highest = F.max_pool2d(number, 3, stride=1, padding=1)
    lowest = -F.max_pool2d(torch.where(background, -number, -float(h * w + 1)), 3, stride=1, padding=1)
    touches_another = background & ((highest != number) | (lowest != number))

    group = number.flatten(1).long()  # 0 is the foreground
    weight = background.flatten(1) + touches_another.flatten(1) * (area + 1.0)  # one such pixel makes a group too large
    size = torch.zeros(n, h * w + 1, device=logits.device).scatter_add_(1, group, weight)
    small = (size.gather(1, group) <= area).view_as(background)
    return torch.where(background & small, FILLED, logits)
