"""The images that a model takes: square, of certain sizes, and normalised as in its training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration.constants import constant
from sam2s_model.config import ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.image_encoder import size_step


def check_image_size(image_size: int, config: ModelConfig) -> None:
    """Raise ConfigError for a side that a model cannot take."""
    step = size_step(config)
    if image_size < 64 or image_size % step:
        raise ConfigError(f"image_size is {image_size}: expected a multiple of {step}, at least 64, or 0")


def normalised_square(image: Tensor, side: int, config: ModelConfig) -> Tensor:
    """(H, W, 3), 0..255, RGB -> (1, 3, side, side) fp32, normalised, the aspect ratio not kept (as published)."""
    x = image.permute(2, 0, 1)[None].to(torch.float32, memory_format=torch.contiguous_format)
    if x.shape[-2:] != (side, side):
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    shift, scale = _normalisation(config.image_mean, config.image_deviation, device=x.device)
    return torch.addcmul(shift, x, scale)


@constant
def _normalisation(means: tuple[float, ...], deviations: tuple[float, ...], device=None) -> tuple[Tensor, Tensor]:
    """Shift and scale, (1, 3, 1, 1), that bring 0..255 to mean 0 and deviation 1 over the images of the training."""
    mean, deviation = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (means, deviations))
    return -mean / deviation, 1 / (255 * deviation)
