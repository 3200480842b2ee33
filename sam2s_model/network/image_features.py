"""What the image encoder makes of a frame: the one thing that all objects, and later prompts, share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageFeatures:
    """One frame, encoded once for all objects.

    coarse: (1, dim, h, w) at 1/16; fine: (1, decoder_width/8, 4h, 4w); middle: (1, decoder_width/4, 2h, 2w), both ready
    for the decoder, and both with nothing in them for a model that has the coarse map alone
    """

    coarse: Tensor
    middle: Tensor
    fine: Tensor

    @property
    def grid(self) -> tuple[int, int]:
        height, width = self.coarse.shape[-2:]
        return height, width

    @property
    def memory_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.tensors)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.coarse, self.middle, self.fine

    def place(self) -> ImageFeatures:
        """Room for the features of another frame."""
        return ImageFeatures(*map(torch.empty_like, self.tensors))

    def copy_(self, other: ImageFeatures) -> ImageFeatures:
        """Overwrite these features; returns them."""
        torch._foreach_copy_(list(self.tensors), list(other.tensors))  # one kernel on a GPU
        return self

    @property
    def high_res(self) -> tuple[Tensor, Tensor]:
        return self.fine, self.middle


@dataclass(frozen=True)
class Conditioned:
    """features: (B, decoder_width, h, w), for the decoder; class_logits: (B, K); None for a model without classes."""

    features: Tensor
    class_logits: Tensor | None
