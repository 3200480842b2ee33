"""Learning from a larger model: its features, from a pack or as it runs beside, and its masks for the same prompts.

As in EdgeSAM (arXiv 2312.06660) and EdgeTAM (arXiv 2501.07256 sec. 3.3): a small image encoder takes the place of a
large one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.errors import ConfigError
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model
from sam2s_model.training.cache import ByteCache
from sam2s_model.training.clip import Clip
from sam2s_model.training.config import TrainConfig
from sam2s_model.training.correspondence import affinity_loss, related
from sam2s_model.training.objects import Objects
from sam2s_model.training.pack import TeacherPack
from sam2s_model.training.teacher import Teacher

PACK, LIVE = "pack", "live"


@dataclass(frozen=True)
class TeacherAnswer:
    """A teacher's masks for N prompts.

    masks: (N, C, h, w) probabilities, those of each of the student's candidates, or one
    best: (N, h, w), the one that it expects to fit best
    """

    masks: Tensor
    best: Tensor


AskTeacher = Callable[[Tensor, Tensor], TeacherAnswer]  # of points (N, P, 2) and their labels (N, P)


class Distillation(nn.Module):
    """A 1x1 convolution for each kind of teacher, from the model's features to the teacher's. Not in the checkpoint.

    A live teacher with the same mask decoder needs none: what its decoder is given is compared directly, on all levels.
    Raises ConfigError when there is more than one pack: each has directions of its own.
    """

    def __init__(self, model: Sam2Model, config: TrainConfig):
        super().__init__()
        self.heads = nn.ModuleDict()
        self._teacher: list[Teacher] = []  # a list, so that its weights are none of this module's
        self._cache = ByteCache(config.teacher.cache_mb * 2**20)
        self._affinity, self._temperature = config.loss.correspondence, config.loss.temperature
        if not config.loss.features and not config.loss.masks and not self._affinity:
            return
        packs = {source.teacher for source in config.data.sources if source.teacher}
        if len(packs) > 1:
            raise ConfigError(f"data has the packs {', '.join(sorted(packs))}: expected one, made of all the images")
        for pack in packs:
            self.heads[PACK] = nn.Conv2d(model.config.dim, len(TeacherPack.load(pack).basis), kernel_size=1)
        if config.teacher.checkpoint:
            teacher = Teacher.load(config.teacher.checkpoint, config.teacher.size, str(model.device))
            self._teacher.append(teacher)
            self._own_size = not config.teacher.size
            if model.config.decoder_width != teacher.model.config.decoder_width:
                self.heads[LIVE] = nn.Conv2d(model.config.dim, teacher.model.config.dim, kernel_size=1)
        self.to(model.device)

    def teacher_features(self, clips: Sequence[Clip]) -> ImageFeatures | None:
        """Return what the teacher sees in all frames, clip by clip, now or when a store was made; None without one."""
        if not self._teacher:
            return None
        if self._own_size:
            self._teacher[0].model.set_image_size(clips[0].images.shape[1])
        seen = [self._seen(clip) for clip in clips]
        device = self._teacher[0].model.device
        levels = (torch.from_numpy(np.concatenate(level)).to(device).float() for level in zip(*seen, strict=True))
        return ImageFeatures(*levels)

    def _seen(self, clip: Clip) -> tuple[np.ndarray, ...]:
        """Return three levels of features, float16."""

        def encode() -> tuple[np.ndarray, ...]:
            found = self._teacher[0].encode(torch.from_numpy(clip.images))
            return tuple(level.half().cpu().numpy() for level in (found.coarse, found.middle, found.fine))

        if clip.seen is not None:
            return clip.seen
        return encode() if clip.key is None else self._cache.get(clip.key, encode)

    def frames(self, clips: Sequence[Clip]) -> int:
        """Count the comparisons that `feature_loss` makes."""
        packed = sum(len(clip) for clip in clips if clip.features is not None) if PACK in self.heads else 0
        return packed + sum(len(clip) for clip in clips) * bool(self._teacher)

    def pairs(self, clips: Sequence[Clip]) -> int:
        """Count the comparisons that `correspondence_loss` makes."""
        return len(related(clips)) if self._affinity and self._teacher else 0

    def correspondence_loss(self, clips: Sequence[Clip], encoded: ImageFeatures, seen: ImageFeatures | None) -> Tensor:
        """Compare affinities of views of one scene with the teacher's; the sum, see `pairs`."""
        found = related(clips) if self._affinity and seen is not None else []
        with torch.autocast(encoded.coarse.device.type, enabled=False):
            return affinity_loss(
                encoded.coarse.float(), encoded.coarse if seen is None else seen.coarse, found, self._temperature
            )

    def feature_loss(
        self, model: Sam2Model, clips: Sequence[Clip], encoded: ImageFeatures, seen: ImageFeatures | None
    ) -> Tensor:
        """Compare the features of all frames, (K * T, dim, h, w), with the teachers'; the sum, see `frames`."""
        total = encoded.coarse.new_zeros((), dtype=torch.float32)
        if PACK in self.heads:
            packed = [clip.features is not None for clip in clips]
            rows = [k * len(clips[k]) + t for k in range(len(clips)) if packed[k] for t in range(len(clips[k]))]
            if rows:
                targets = torch.cat([torch.from_numpy(clip.features) for clip in clips if clip.features is not None])
                total = total + unlike(self.heads[PACK](encoded.coarse[rows]), targets.to(total.device))
        if seen is not None and LIVE in self.heads:
            total = total + unlike(self.heads[LIVE](encoded.coarse), seen.coarse)
        elif seen is not None:
            own = (model.for_decoder(encoded.coarse), encoded.middle, encoded.fine)
            total = total + sum(map(off, own, (seen.coarse, seen.middle, seen.fine))) / len(own)
        return total

    def masks(self, seen: ImageFeatures | None, objects: Objects, length: int, image_size: int) -> AskTeacher | None:
        """Return a function that asks the teacher on the objects' first frames; None without a teacher.

        A student with the same mask decoder has the same candidates: it learns each. Others learn the best.
        """
        if seen is None or not len(objects):
            return None
        model, alike = self._teacher[0].model, LIVE not in self.heads

        @torch.inference_mode()
        def ask(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            rows = torch.tensor(objects.owner, device=seen.coarse.device) * length
            features = ImageFeatures(seen.coarse[rows], seen.middle[rows], seen.fine[rows])
            plain = model.without_memory(features, len(rows))
            found = model.candidates(plain, features, points * (model.image_size / image_size), labels)
            part = slice(1, None) if points.shape[1] == 1 else slice(0, 1)
            masks = found.logits[:, part].sigmoid()
            best = masks[torch.arange(len(masks), device=masks.device), found.iou[:, part].argmax(1)]
            return masks if alike else best[:, None], best

        # autograd accepts clones, which are plain tensors
        return lambda points, labels: TeacherAnswer(*(x.clone() for x in ask(points, labels)))


def off(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the squared difference of features (N, C, h, w) in variances of the teacher's: frames' means, summed."""
    difference = (predicted.float() - target).square().flatten(1).mean(1)
    return (difference / target.flatten(1).var(1)).sum()


def unlike(predicted: Tensor, target: Tensor) -> Tensor:
    """Return 1 - the cosine of features (N, C, h, w) and a teacher's (N, C, h', w'): the frames' means, summed.

    Places where the teacher's are not finite do not count.
    """
    predicted, target = predicted.float(), target.float().clone()
    if predicted.shape[-2:] != target.shape[-2:]:
        predicted = F.interpolate(predicted, size=target.shape[-2:], mode="bilinear")
    known = target.isfinite().all(1)
    target = torch.where(known[:, None], target, torch.zeros_like(target))
    away = (1 - F.cosine_similarity(predicted, target, dim=1)) * known
    return (away.flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)).sum()
