"""Ask the class head (SAM2S) about masks of which nothing is remembered: each is, for as long as it is asked."""

from __future__ import annotations

import torch
from torch import Tensor

from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model

AT_ONCE = 16  # masks


def class_scores(model: Sam2Model, features: ImageFeatures, logits: Tensor, tokens: Tensor) -> Tensor | None:
    """(N, K) fp32, 0..1, of each class of a model; None for one without named classes or without memory.

    logits: (N, h, w), of masks on the frame; tokens: (N, decoder_width), their output tokens
    """
    if not model.class_names or not model.has_memory:
        return None
    parts = zip(logits[:, None].split(AT_ONCE), tokens.split(AT_ONCE), strict=True)
    return torch.cat([_scores(model, features, *part) for part in parts])


def _scores(model: Sam2Model, features: ImageFeatures, logits: Tensor, tokens: Tensor) -> Tensor:
    there = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    memory = model.encode_memory(features, logits, there, binarise=True)
    prompted = torch.full((len(logits), 1), model.config.num_memories - 1, device=logits.device)
    pointers, ages = model.pointer(tokens, there)[:, None], torch.zeros(len(logits), 1, device=logits.device)
    told = model.with_memory(features, memory[:, None], prompted, pointers, ages, None).class_logits
    assert told is not None
    return told.float().softmax(1)
