"""What a policy decides from: the model's answer for one frame, and what is measured of it on demand, on the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.masks import boxes as box_kernel
from sam2s_model.tracking.outputs import Outputs

SIGNATURE_GRID = 4  # a frame's signature is made of its features, averaged over as many rows and columns


@dataclass(frozen=True)
class Evidence:
    """One frame of N objects. A property costs nothing unless a policy asks for it.

    frame: its index; outputs: the model's, of the masks that were chosen
    spatial: (N, tokens, memory_dim), the memory that would be kept, beside the pointers of the outputs
    features: (1, dim, h/4, w/4), of the image
    kept: the same as the bank keeps it, with its keys where these are cached; None: the memory alone
    candidates: (N, K, h, w) logits of all masks that were to choose from, for policies that ask for them, else None
    """

    frame: int
    outputs: Outputs
    spatial: Tensor
    features: Tensor
    candidates: Tensor | None = None
    kept: Tensor | None = None

    @property
    def choices(self) -> Tensor:
        """(N, K, h, w) logits of the masks to choose from; of the mask alone where there are no candidates."""
        return self.outputs.logits if self.candidates is None else self.candidates

    @cached_property
    def area(self) -> Tensor:
        """(N,) fp32: pixels of the low-resolution mask."""
        return (self.outputs.logits[:, 0] > 0).flatten(1).sum(1).float()

    @cached_property
    def box(self) -> Tensor:
        """(N, 4) fp32: see `boxes`."""
        return boxes(self.outputs.logits[:, 0] > 0)

    @cached_property
    def signature(self) -> Tensor:
        """(1, 16 dim) of length 1: the image in short. The dot product of two is the mean cosine over their places."""
        return signature(self.features)


def signature(features: Tensor) -> Tensor:
    """Shorten image features (1, dim, h, w) to (1, SIGNATURE_GRID^2 dim) of length 1; all places count alike."""
    places = F.normalize(F.adaptive_avg_pool2d(features.float(), SIGNATURE_GRID), dim=1)
    return places.flatten(1) / SIGNATURE_GRID


def boxes(masks: Tensor) -> Tensor:
    """Box masks (..., h, w) bool: (..., 4) fp32 x0 y0 x1 y1 in cells, x1 and y1 exclusive; zero for an empty mask."""
    if kernels.serves(masks):
        return box_kernel(masks)
    (x0, x1), (y0, y1) = _extent(masks.any(-2)), _extent(masks.any(-1))
    return torch.stack((x0, y0, x1, y1), dim=-1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the intersection over union of boxes (..., 4); 0 where both are empty."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    total = _box_area(a) + _box_area(b) - shared
    return torch.where(total > 0, shared / total.clamp(min=1e-6), 0.0)


def _box_area(box: Tensor) -> Tensor:
    return (box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1)


def _extent(used: Tensor) -> tuple[Tensor, Tensor]:
    n = used.shape[-1]
    cells = torch.arange(n, device=used.device)
    first, last = torch.where(used, cells, n).amin(-1), torch.where(used, cells + 1, 0).amax(-1)
    return torch.where(last > 0, first, 0).float(), last.float()
