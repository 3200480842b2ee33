"""Between a plain vision transformer's one map and the tracker: SAM 3's pyramid, and EfficientTAM's single level."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.folding import Folding
from sam2s_model.config import ModelConfig
from sam2s_model.network.image_encoder.encoder import Neck
from sam2s_model.network.layer_list import LayerList
from sam2s_model.network.layers import LayerNorm2d, gelu
from sam2s_model.network.operations import ZOOM, linear


class PyramidNeck(Neck):
    """SAM 3's: maps of 4, 2 and 1 times the resolution, each by itself (ViTDet's simple pyramid).

    The published files hold a fourth level of half the resolution, which the tracker drops: its weights stay unused.
    """

    def __init__(self, dim: int, channels: int):
        super().__init__()
        self.convs = LayerList(PyramidLevel(dim, channels, zooms) for zooms in (2, 1, 0, 0))
        self._folded = (Folding(_one_convolution), Folding(_one_convolution))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One map (B, C, h, w) -> maps of `dim` channels, (4h, 4w), (2h, 2w) and (h, w)."""
        return [self.convs[i](maps[0]) for i in range(3)]

    def coarse(self, maps: list[Tensor]) -> Tensor:
        """Return the last of `forward`'s maps alone."""
        return self.convs[2](maps[0])

    def fine(self, maps: list[Tensor], heads: tuple[nn.Conv2d, ...]) -> list[Tensor]:
        """Make both heads' 1x1 convolutions of `forward`'s first two maps, each as one with the 3x3 before it."""
        out = []
        for fold, level, head in zip(self._folded, (self.convs[0], self.convs[1]), heads, strict=True):
            weight, bias = fold(*level.conv_3x3.parameters(), *head.parameters())
            out.append(F.conv2d(level.widened(maps[0]), weight, bias, padding=1))
        return out


class PyramidLevel(nn.Module):
    """Double the resolution `zooms` times, halving the channels, then a 1x1 and a 3x3 convolution."""

    def __init__(self, dim: int, channels: int, zooms: int):
        super().__init__()
        names = (("dconv_2x2_0", "dconv_2x2_1"), ("dconv_2x2",))[zooms == 1][:zooms]  # as published
        self._zooms = names
        for i, name in enumerate(names):
            self.add_module(name, nn.ConvTranspose2d(channels >> i, channels >> i + 1, kernel_size=2, stride=2))
        self.conv_1x1 = nn.Conv2d(channels >> zooms, dim, kernel_size=1)
        self.conv_3x3 = nn.Conv2d(dim, dim, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_3x3(self.widened(x))

    def widened(self, x: Tensor) -> Tensor:
        """Return what the 3x3 convolution sees."""
        for i, name in enumerate(self._zooms):
            x = self.get_submodule(name)(gelu(x) if i else x)
        return self.conv_1x1(x)


def _one_convolution(first: Tensor, first_bias: Tensor, head: Tensor, head_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and biases of a convolution and of the 1x1 after it -> those of both."""
    after = head.float().flatten(1)
    weight = (after @ first.float().flatten(1)).unflatten(1, first.shape[1:]).to(head.dtype)
    return weight, (after @ first_bias.float() + head_bias.float()).to(head.dtype)


class SingleLevelNeck(Neck):
    """EfficientTAM's: the one map in another width, normalised; there are no finer ones."""

    def __init__(self, dim: int, channels: int):
        super().__init__()
        level = OrderedDict(
            conv_1x1=nn.Conv2d(channels, dim, kernel_size=1, bias=False),
            norm_0=LayerNorm2d(dim),
            conv_3x3=nn.Conv2d(dim, dim, kernel_size=3, padding=1, bias=False),
            norm_1=LayerNorm2d(dim),
        )
        self.convs = nn.ModuleList([nn.Sequential(level)])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One map (B, C, h, w) -> two without anything in them, and one of (B, dim, h, w)."""
        coarse = self.coarse(maps)
        return [*self.fine(maps), coarse]

    def coarse(self, maps: list[Tensor]) -> Tensor:
        """Return the last of `forward`'s maps alone."""
        return self.convs[0](maps[0])

    def fine(self, maps: list[Tensor], heads: tuple[nn.Conv2d, ...] = ()) -> list[Tensor]:
        """Return two empty tensors: the mask decoder of such a model has no place for finer maps."""
        return [maps[0].new_empty(maps[0].shape[0], 0, 0, 0) for _ in range(2)]


def neck_operations(config: ModelConfig, side: int) -> int:
    """Count a neck; the finer maps' 3x3 convolutions are one with the mask decoder's after them."""
    places, width, dim = side * side, config.embed_dim, config.dim
    coarse = linear(places, width, dim) + 9 * linear(places, dim, dim)
    if not config.high_res:
        return coarse
    half, quarter, finest, finer = width // 2, width // 4, ZOOM[0] * places, ZOOM[1] * places
    doubled = 4 * linear(places, width, half)
    middle = doubled + linear(finer, half, dim) + 9 * linear(finer, dim, config.decoder_width // 4)
    fine = doubled + 4 * linear(finer, half, quarter) + linear(finest, quarter, dim)
    return coarse + middle + fine + 9 * linear(finest, dim, config.decoder_width // 8)
