"""The losses of SAM2S (arXiv 2511.16618 sec. 4): SAM2's (arXiv 2408.00714 app. D.2) with softened masks and classes.

Everything is a sum over the objects of one frame: what it is divided by is known to the loop alone, which may have
parts of a batch in other processes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.training.config import LossConfig

KERNEL = 5  # side of the Gaussian, px
SMOOTH = 1.0  # px added to both sides of Dice's ratio, as published


@dataclass(frozen=True)
class LossCounts:
    """What losses are divided by, over all processes.

    pairs: comparisons of an object's mask; frames, related: see `Distillation.frames` and `pairs`
    clips: of the batch; empty: those with masks in which there is no object to follow
    """

    pairs: float
    frames: float
    related: float
    clips: float
    empty: float


@dataclass(frozen=True)
class FrameLosses:
    """Sums over the objects of a frame.

    achieved, seen: for the log, IoU of the visible objects, and their number
    """

    arl: Tensor
    entropy: Tensor
    dice: Tensor
    iou: Tensor
    occlusion: Tensor
    tsl: Tensor
    masks: Tensor
    achieved: Tensor
    seen: Tensor
    classified: Tensor
    right: Tensor

    def __add__(self, other: FrameLosses) -> FrameLosses:
        return FrameLosses(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def total(self, config: LossConfig, step: int) -> Tensor:
        """Return the weighted sum. Until `entropy_steps` cross-entropy gives way to ARL, linearly."""
        start = max(0.0, 1 - step / config.entropy_steps) if config.entropy_steps else 0.0
        masks = (1 - start) * config.arl * self.arl + start * config.entropy * self.entropy + config.dice * self.dice
        heads = config.iou * self.iou + config.occlusion * self.occlusion + config.tsl * self.tsl
        return masks + heads + config.masks * self.masks


def frame_losses(
    logits: Tensor,
    iou: Tensor,
    object_logit: Tensor,
    truth: Tensor,
    valid: Tensor,
    config: LossConfig,
    class_logits: Tensor | None = None,
    rows: Tensor | None = None,
    teacher: Tensor | None = None,
) -> FrameLosses:
    """Compare N objects' candidate masks with the truth.

    logits: (N, C, h, w), C masks that compete: the one that fits best is taught, all learn to tell their IoU
    iou: (N, C), predicted; object_logit: (N,)
    truth: (N, H, W) bool; an object that is not there only counts for `occlusion`; valid: (N, H, W) bool, scored pixels
    class_logits: (N, K), rows: (N,) row of the class table, or -1, which does not count
    teacher: (N, C, h', w') mask probabilities of a teacher for the same prompts, of the same candidates, or
        (N, 1, h', w'), of the one mask that the chosen candidate learns; or None
    """
    logits = F.interpolate(logits.float(), size=truth.shape[-2:], mode="bilinear")
    hard, weight = truth.float(), valid.float()
    visible = (truth & valid).flatten(1).any(1).float()
    scored = valid.flatten(1).any(1).float()  # not a frame between those that have masks
    arl = focal(logits, soften(hard, config.arl_sigma)[:, None], config.focal_alpha, config.focal_gamma)
    arl = mean_over(arl, weight)
    overlap = dice_loss(logits, hard, weight)
    best = (config.arl * arl + config.dice * overlap).argmin(dim=1)
    pick = torch.arange(len(best), device=best.device), best
    chosen = logits[pick]
    entropy = mean_over(F.binary_cross_entropy_with_logits(chosen, hard, reduction="none")[:, None], weight)[:, 0]
    achieved = achieved_iou(logits.detach(), truth, valid)
    zero = logits.new_zeros(())
    tsl, classified, right = zero, zero, zero
    if class_logits is not None and rows is not None:
        known = rows >= 0
        tsl = F.cross_entropy(class_logits.float(), rows, ignore_index=-1, reduction="sum")
        classified, right = known.sum().float(), ((class_logits.argmax(1) == rows) & known).sum().float()
    masks = zero
    if teacher is not None:
        soft = F.interpolate(teacher.float(), size=truth.shape[-2:], mode="bilinear")
        own = logits if soft.shape[1] == logits.shape[1] else chosen[:, None]
        away = F.binary_cross_entropy_with_logits(own, soft, reduction="none")
        masks = mean_over(away, weight).mean(1).sum()
    return FrameLosses(
        arl=(visible * arl[pick]).sum(),
        entropy=(visible * entropy).sum(),
        dice=(visible * overlap[pick]).sum(),
        iou=(visible * (iou - achieved).abs().mean(1)).sum(),
        occlusion=(scored * F.binary_cross_entropy_with_logits(object_logit.float(), visible, reduction="none")).sum(),
        tsl=tsl,
        masks=masks,
        achieved=(visible * achieved[pick]).sum(),
        seen=visible.sum(),
        classified=classified,
        right=right,
    )


def soften(masks: Tensor, sigma: float) -> Tensor:
    """Blur masks (N, H, W) of 0 and 1 by a 5x5 Gaussian (ARL): the outline of an instrument is a matter of opinion.

    sigma: px; 0 leaves them as they are. Beyond the image they go on as at its edge.
    """
    if not sigma:
        return masks
    place = torch.arange(KERNEL, device=masks.device, dtype=torch.float32) - KERNEL // 2
    line = torch.exp(-(place**2) / (2 * sigma**2))
    line = line / line.sum()
    edge = KERNEL // 2
    x = F.pad(masks[:, None], (edge, edge, edge, edge), mode="replicate")
    x = F.conv2d(F.conv2d(x, line.reshape(1, 1, 1, -1)), line.reshape(1, 1, -1, 1))
    return x[:, 0].clamp(0, 1)


def focal(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """Return the focal loss (arXiv 1708.02002) of each pixel, for targets 0..1; alpha < 0: both sides weigh alike."""
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    out = entropy * (1 - (p * target + (1 - p) * (1 - target))) ** gamma
    return out if alpha < 0 else out * (alpha * target + (1 - alpha) * (1 - target))


def dice_loss(logits: Tensor, hard: Tensor, weight: Tensor) -> Tensor:
    """Return 1 - Dice's overlap, (N, C), of masks (N, C, H, W) with (N, H, W), where the weight is 1."""
    p, hard = logits.sigmoid() * weight[:, None], (hard * weight)[:, None]
    shared = (p * hard).flatten(2).sum(2)
    return 1 - (2 * shared + SMOOTH) / (p.flatten(2).sum(2) + hard.flatten(2).sum(2) + SMOOTH)


def achieved_iou(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the IoU (N, C) of masks (N, C, H, W) with (N, H, W) bool, over valid pixels; 1 where both are empty."""
    found, truth = (logits > 0) & valid[:, None], (truth & valid)[:, None]
    union = (found | truth).flatten(2).sum(2)
    return torch.where(union > 0, (found & truth).flatten(2).sum(2) / union.clamp(min=1), 1.0)


def mean_over(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of (N, C, H, W) values, (N, C), over the pixels whose weight (N, H, W) is 1."""
    return (values * weight[:, None]).flatten(2).sum(2) / weight.flatten(1).sum(1).clamp(min=1)[:, None]
