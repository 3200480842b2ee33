"""The feature pyramid over an image encoder's stages (SAM2, arXiv 2408.00714 sec. 4 and its app. D.1)."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.folding import Folding
from sam2s_model.config import ModelConfig
from sam2s_model.network.image_encoder.encoder import Neck
from sam2s_model.network.layer_list import LayerList
from sam2s_model.network.operations import ZOOM, linear


class FpnNeck(Neck):
    """1x1 convolutions to one width; only the 1/16 level receives the level below it (nearest, in fp32)."""

    def __init__(self, dim: int, channels: list[int]):
        super().__init__()
        # convs[0] is the deepest level, as published
        self.convs = LayerList(Lateral(c, dim) for c in reversed(channels))
        self._folded = (Folding(_one_convolution), Folding(_one_convolution))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Turn maps at 1/4, 1/8, 1/16, 1/32 into maps of `dim` channels at 1/4, 1/8, 1/16."""
        quarter, eighth = (self.convs[i](m) for i, m in ((3, maps[0]), (2, maps[1])))
        return [quarter, eighth, self.coarse(maps)]

    def coarse(self, maps: list[Tensor]) -> Tensor:
        """Return the last of `forward`'s maps alone."""
        sixteenth, deepest = self.convs[1](maps[2]), self.convs[0](maps[3])
        if not torch.is_grad_enabled():  # the same numbers: torch adds those of 16 bits in fp32, and rounds once
            return sixteenth + F.interpolate(deepest, scale_factor=2.0, mode="nearest")
        from_below = F.interpolate(deepest.float(), scale_factor=2.0, mode="nearest")
        return (sixteenth.float() + from_below).to(sixteenth.dtype)

    def fine(self, maps: list[Tensor], heads: tuple[nn.Conv2d, ...]) -> list[Tensor]:
        """Make both heads' 1x1 convolutions of `forward`'s first two maps, each as one with its lateral."""
        laterals = (self.convs[3].conv, self.convs[2].conv)
        made = zip(self._folded, maps[:2], laterals, heads, strict=True)
        return [F.conv2d(m, *fold(*lateral.parameters(), *head.parameters())) for fold, m, lateral, head in made]


class Lateral(nn.Sequential):
    """A 1x1 convolution under the name "conv", as published."""

    conv: nn.Conv2d

    def __init__(self, channels: int, dim: int):
        super().__init__(OrderedDict(conv=nn.Conv2d(channels, dim, 1)))


def _one_convolution(lateral: Tensor, lateral_bias: Tensor, head: Tensor, head_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and biases of a 1x1 convolution and of the one after it -> those of both."""
    first, second = lateral.float().flatten(1), head.float().flatten(1)
    weight = (second @ first)[:, :, None, None].to(head.dtype)
    return weight, (second @ lateral_bias.float() + head_bias.float()).to(head.dtype)


def pyramid(config: ModelConfig, side: int) -> tuple[list[int], list[int]]:
    """Places and channels of a trunk's four maps, at 1/4, 1/8, 1/16 and 1/32. side: of the features, places"""
    places = side * side
    return [ZOOM[0] * places, ZOOM[1] * places, places, places // 4], [config.embed_dim * 2**i for i in range(4)]


def fpn_operations(config: ModelConfig, side: int) -> int:
    """Count the neck, of which the finer two laterals are one with the mask decoder's convolutions after them."""
    into = (config.decoder_width // 8, config.decoder_width // 4, config.dim, config.dim)
    return sum(map(linear, *pyramid(config, side), into))
