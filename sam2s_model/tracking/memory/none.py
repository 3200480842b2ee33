"""No memory: each frame is prompted with the mask of the frame before and its box.

The fallback for checkpoints that hold only SAM2's image half, and the baseline that every memory has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sam2s_model.tracking.memory.policy import Policy


@dataclass(frozen=True)
class PreviousMask(Policy):
    """margin: the box is grown by this part of its sides, since an instrument moves between frames."""

    margin: float = 0.1

    uses_memory: ClassVar[bool] = False

    def prompts(self, logits: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
        """Mask logits (N, 1, h, w) -> box corners (N, 2, 2), px of the model input, x y, and dense prompt (N, 1, h, w).

        Computed on the device. An empty mask gives the whole image as its box.
        """
        inside = logits[:, 0] > 0
        x0, x1 = self._extent(inside.any(1), image_size)
        y0, y1 = self._extent(inside.any(2), image_size)
        return torch.stack((x0, y0, x1, y1), dim=1).reshape(-1, 2, 2), logits.clamp(-32, 32)

    def _extent(self, used: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
        """(N, n) bool -> where the used cells begin and end, with the margin, px."""
        n = used.shape[1]
        cells = torch.arange(n, device=used.device)
        first = torch.where(used, cells, n).amin(1)
        last = torch.where(used, cells + 1, 0).amax(1)
        empty = last == 0
        low = torch.where(empty, 0, first) * (image_size / n)
        high = torch.where(empty, n, last) * (image_size / n)
        grow = self.margin * (high - low)
        return (low - grow).clamp(min=0), (high + grow).clamp(max=image_size)
