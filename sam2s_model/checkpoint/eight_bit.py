"""Weights in 8 bits: how a checkpoint file stores them, and nobody else knows.

A weight of a linear or convolutional layer is stored under its own name as int8, -127 to 127. Beside it, as
"<name>.int8_scale", lies one fp32 factor per output channel, with as many axes as the weight, all of length 1 but that
of the channels:

    weight = int8 * scale

All other tensors (biases, norms, embeddings, position tables, the layer that takes the image) and weights of few
numbers are stored as fp16. Tensors are dequantised when the file is read, so that nothing else has to know of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sam2s_model.checkpoint.recognition import without_weights
from sam2s_model.config import ModelConfig
from sam2s_model.errors import CheckpointError

SCALE = ".int8_scale"
LARGEST = 127  # of the integers; symmetric, so that -128 is not used
FEWEST = 4096  # numbers of a weight that is stored in 8 bits, unless the caller says another
PIXELS = 3  # input channels of a layer that takes an image
CLIPPING = (0.8, 0.84, 0.88, 0.92, 0.96, 1.0)
"""Parts of a channel's largest magnitude at which it may be clipped: finer steps can outweigh the few outliers."""


def store(
    state: Mapping[str, Tensor], config: ModelConfig, path: str | Path, fewest: int = FEWEST
) -> dict[str, Tensor]:
    """Return a state dict as it is stored: int8 and scales for the large weights, the other tensors as they are.

    state: of a model of `config`, some of its tensors may be missing; path: of the file it is from, for the error
    fewest: numbers of a weight that is a large one
    Raises CheckpointError for a weight that has no finite numbers.
    """
    axes = channel_axes(config)
    stored: dict[str, Tensor] = {}
    for name, value in state.items():
        if name not in axes or value.numel() < fewest:
            stored[name] = value
        elif not value.isfinite().all():
            raise CheckpointError(f"{path}: {name} has numbers that are not finite, which 8 bits cannot hold")
        else:
            stored[name], stored[name + SCALE] = quantise(value, axes[name])
    return stored


def restore(stored: Mapping[str, Tensor], path: str | Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the state dict in which what was stored in 8 bits is fp32, and the names of those weights.

    Raises CheckpointError where a scale or a weight is missing, or they do not belong together.
    """
    names = tuple(name for name, value in stored.items() if value.dtype == torch.int8)
    for name in names:
        _check(name, stored[name], stored.get(name + SCALE), path)
    scales = {name + SCALE for name in names}
    alone = next((name for name in stored if name.endswith(SCALE) and name not in scales), None)
    if alone is not None:
        weight = alone.removesuffix(SCALE)
        found = f"is {str(stored[weight].dtype).removeprefix('torch.')}" if weight in stored else "is not there"
        raise CheckpointError(
            f"{path} is broken: {alone} is the scale of 8-bit weights, and {weight} {found}, not int8"
        )
    state = {
        name: value.float() * stored[name + SCALE] if value.dtype == torch.int8 else value
        for name, value in stored.items()
        if name not in scales
    }
    return state, names


def _check(name: str, weight: Tensor, scale: Tensor | None, path: str | Path) -> None:
    """Raise CheckpointError unless a scale is one for these 8-bit weights."""
    if scale is None:
        raise CheckpointError(f"{path} is broken: {name} has 8-bit weights and no scale, {name + SCALE} is missing")
    longer = [axis for axis, length in enumerate(scale.shape) if length != 1]
    fits = scale.ndim == weight.ndim and len(longer) <= 1 and all(scale.shape[a] == weight.shape[a] for a in longer)
    if not fits:
        raise CheckpointError(
            f"{path} is broken: {name + SCALE} has the shape {tuple(scale.shape)}, expected one number per channel of "
            f"{tuple(weight.shape)}, with as many axes"
        )
    if not scale.is_floating_point() or not scale.isfinite().all() or not (scale > 0).all():
        raise CheckpointError(f"{path} is broken: {name + SCALE} has numbers that are not finite or not greater than 0")
    if (weight < -LARGEST).any():
        raise CheckpointError(f"{path} is broken: {name} has the value -128, expected -{LARGEST} to {LARGEST}")


def channel_axes(config: ModelConfig) -> dict[str, int]:
    """Map each weight of a model's linear and convolutional layers to the axis of its output channels.

    Without the layer that takes the image: the mean of pixels is large beside what its filters look for, and 8 bits for
    the 14 112 numbers of SAM2-tiny's, 0.05 % of the model, make a quarter of the squared error of its features.
    """
    axes = {nn.Linear: 0, nn.Conv2d: 0, nn.ConvTranspose2d: 1}
    return {
        f"{name}.weight": axis
        for name, module in without_weights(config).named_modules()
        for kind, axis in axes.items()
        if isinstance(module, kind) and getattr(module, "in_channels", None) != PIXELS
    }


def quantise(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Round a weight to int8 with a scale per channel along `axis` that keeps the channel's mean squared error small.

    The clipping of a channel is searched in `CLIPPING`; then its scale is the one that fits the rounded numbers best.
    Weights that have been through this before come out as they are.
    """
    rows = weight.detach().float().movedim(axis, 0).flatten(1)
    most = rows.abs().amax(1, keepdim=True)
    best, error = torch.zeros_like(rows), torch.full_like(most, torch.inf)
    scale = torch.ones_like(most)
    for part in CLIPPING:
        step = torch.where(most > 0, most * part / LARGEST, 1.0)
        rounded = (rows / step).round_().clamp_(-LARGEST, LARGEST)
        norm = rounded.square().sum(1, keepdim=True)
        fitted = torch.where(norm > 0, (rows * rounded).sum(1, keepdim=True) / norm, 1.0)
        found = (rows - rounded * fitted).square().sum(1, keepdim=True)
        better = found <= error  # the last of equals is the one that clips least
        best, scale = torch.where(better, rounded, best), torch.where(better, fitted, scale)
        error = torch.where(better, found, error)
    moved = weight.movedim(axis, 0)
    values = best.to(torch.int8).reshape(moved.shape).movedim(0, axis).contiguous()
    shape = [1] * weight.ndim
    shape[axis] = weight.shape[axis]
    return values, scale.reshape(shape).contiguous()
