"""The losses of SAM2 (arXiv 2408.00714 app. D.2), with cross-entropy in place of its focal term.

The focal term is made for models that can segment already: from scratch it keeps the masks empty for long.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.mask_decoder import Decoded


@dataclass(frozen=True)
class Losses:
    """Scalars, each a mean over objects. iou_seen: achieved mean IoU of the visible ones, for the log."""

    entropy: Tensor
    dice: Tensor
    iou: Tensor
    presence: Tensor
    iou_seen: Tensor

    @property
    def total(self) -> Tensor:
        return 4 * self.entropy + self.dice + self.iou + self.presence


def losses(decoded: Decoded, truth: Tensor) -> Losses:
    """Compare decoded masks with truth (B, H, W) of 0 and 1. Objects that are not there only count for presence."""
    logits = F.interpolate(decoded.logits, size=truth.shape[-2:], mode="bilinear")[:, 0]
    visible = truth.flatten(1).any(1)
    weight = visible.float() / visible.sum().clamp(min=1)
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").flatten(1).mean(1)
    overlap = 2 * (probability * truth).flatten(1).sum(1) + 1
    dice = 1 - overlap / (probability.flatten(1).sum(1) + truth.flatten(1).sum(1) + 1)
    with torch.no_grad():
        found = logits > 0
        union = (found | truth.bool()).flatten(1).sum(1).clamp(min=1)
        achieved = (found & truth.bool()).flatten(1).sum(1) / union
    return Losses(
        entropy=(weight * entropy).sum(),
        dice=(weight * dice).sum(),
        iou=(weight * (decoded.iou - achieved).abs()).sum(),
        presence=F.binary_cross_entropy_with_logits(decoded.object_logit, visible.float()),
        iou_seen=(weight * achieved).sum(),
    )
