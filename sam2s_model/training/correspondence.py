"""Learning which places are the same as a teacher finds them: affinities between two views of one scene.

A memory of correspondence propagates labels along such affinities: the frame's mean is taken off the coarse features,
each token is of length one, and a softmax at a low temperature turns similarities into weights. As in the distillation
of similarities between images (arXiv 2107.01691, SEED 2101.04731), but of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.training.clip import Clip


def related(clips: Sequence[Clip]) -> list[tuple[int, int]]:
    """Return the pairs of clips, one after the other, that show one scene."""
    return [
        (i, i + 1) for i in range(len(clips) - 1) if clips[i].scene is not None and clips[i].scene == clips[i + 1].scene
    ]


def centred_tokens(coarse: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h w, C) fp32: without each frame's mean, each of length one."""
    tokens = coarse.float().flatten(2).transpose(1, 2)
    return F.normalize(tokens - tokens.mean(1, keepdim=True), dim=2)


def affinity_loss(student: Tensor, teacher: Tensor, pairs: Sequence[tuple[int, int]], temperature: float) -> Tensor:
    """Compare the affinities between views with a teacher's: KL divergence, its mean over tokens, summed over pairs.

    student: (N, C, h, w) coarse features on which nothing may cast; teacher: (N, C', h, w); pairs: of the N
    Each pair counts in both directions, with the mean of both.
    """
    if not pairs:
        return student.new_zeros((), dtype=torch.float32)
    first, second = (torch.tensor(side, device=student.device) for side in zip(*pairs, strict=True))
    if student.shape[-2:] != teacher.shape[-2:]:
        teacher = F.interpolate(teacher.float(), size=student.shape[-2:], mode="bilinear", antialias=True)
    own, known = centred_tokens(student), centred_tokens(teacher)
    own, known = (x[first] @ x[second].transpose(1, 2) / temperature for x in (own, known))  # (P, hw, hw)
    total = student.new_zeros((), dtype=torch.float32)
    for dim in (1, 2):
        away = F.kl_div(own.log_softmax(dim), known.log_softmax(dim), reduction="none", log_target=True)
        total = total + away.sum(dim).mean(1).sum() / 2
    return total
