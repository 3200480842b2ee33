"""The optimizer, its learning rate, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sam2s_model.training.config import TrainConfig

ENCODER = "image_encoder."
LOOKUPS = ("embed", "tpos_enc", "token", "latents", "no_obj_ptr")  # in names of weights that are added, not multiplied


def make_optimizer(parameters: Iterable[tuple[str, nn.Parameter]], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the weights that learn, in groups with their own factor of the learning rate and decay.

    parameters: names and weights; each group has its "factor"
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            factor = config.optimizer.encoder_lr if name.startswith(ENCODER) else 1.0
            plain = parameter.ndim < 2 or any(part in name for part in LOOKUPS)
            groups.setdefault((factor, 0.0 if plain else config.optimizer.weight_decay), []).append(parameter)
    members = [dict(params=p, factor=factor, weight_decay=decay) for (factor, decay), p in groups.items()]
    return torch.optim.AdamW(members, lr=config.optimizer.lr)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to `final`, times the phase's own factor."""
    options = config.optimizer
    warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return options.lr * config.phase_at(step).lr * warm * (options.final + (1 - options.final) * cosine)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


class Average:
    """The exponential moving average of a model's state dict, buffers included.

    decay: 0 keeps the newest values. At the beginning it is less, so that the first weights do not stay for long.
    """

    def __init__(self, state: Mapping[str, Tensor], decay: float):
        self.state = {name: value.detach().clone() for name, value in state.items()}
        self.decay = decay

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from the values of an earlier average."""
        for name, value in self.state.items():
            value.copy_(state[name])

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor], step: int) -> None:
        """Take in the weights after update number `step`, from 0."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, value in state.items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)
