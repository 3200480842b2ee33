"""RepViT (arXiv 2307.09283), the convolutional image encoder of EdgeTAM (arXiv 2501.07256), under timm's key names.

Without gradients each normalisation is part of the convolution before it, and the branches of a token mixer are one
convolution (the paper's re-parameterisation, sec. 3.2); the state dict keeps the parts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.folding import Folding
from sam2s_model.acceleration.linear import multiplies_packed, multiply_packed, pack
from sam2s_model.config import ModelConfig
from sam2s_model.network.image_encoder.backbone import Backbone, count_blocks, rows
from sam2s_model.network.image_encoder.encoder import ImageEncoder, Trunk
from sam2s_model.network.image_encoder.fpn import FpnNeck, fpn_operations, pyramid
from sam2s_model.network.layers import gelu as _gelu
from sam2s_model.network.operations import linear


class RepViT(Trunk):
    """Four stages at 1/4, 1/8, 1/16 and 1/32 of the image; channels double from stage to stage.

    embed_dim: channels of the first stage; stages: number of blocks of each stage
    """

    def __init__(self, embed_dim: int, stages: tuple[int, ...]):
        super().__init__()
        self.channels = [embed_dim * 2**i for i in range(len(stages))]
        parts: dict[str, nn.Module] = {"stem": Stem(embed_dim)}
        for i, depth in enumerate(stages):
            source = self.channels[i - 1] if i else None
            parts[f"stages_{i}"] = Stage(source, self.channels[i], depth)
        self.body = nn.ModuleDict(parts)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W multiples of 32 -> four maps (B, C_i, H / 2^(i+2), W / 2^(i+2))."""
        x, maps = self.body["stem"](image.contiguous(memory_format=torch.channels_last)), []
        for i in range(len(self.channels)):
            x = self.body[f"stages_{i}"](x)
            maps.append(x)
        return maps

    def learn_statistics(self, wanted: bool) -> None:
        """Whether training normalises by the batch and keeps a running mean of it, see `StoredBatchNorm`."""
        for module in self.modules():
            if isinstance(module, StoredBatchNorm):
                module.learns = wanted


class Stem(nn.Module):
    """(B, 3, H, W) -> (B, C, H / 4, W / 4)."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = ConvNorm(3, dim // 2, kernel_size=3, stride=2)
        self.conv2 = ConvNorm(dim // 2, dim, kernel_size=3, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv2(self.conv1(image, gelu=True))


class Stage(nn.Module):
    """Halve the grid, then `depth` blocks, every other one with squeeze-excitation. dim: None for no halving."""

    def __init__(self, dim: int | None, dim_out: int, depth: int):
        super().__init__()
        self.downsample = Downsample(dim, dim_out) if dim else nn.Identity()
        self.blocks = nn.Sequential(*(RepViTBlock(dim_out, squeeze=i % 2 == 0) for i in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


class Downsample(nn.Module):
    """A block, a strided depthwise convolution, a change of width, an MLP: (B, C, H, W) -> (B, C', H / 2, W / 2)."""

    def __init__(self, dim: int, dim_out: int):
        super().__init__()
        self.pre_block = RepViTBlock(dim, squeeze=False)
        self.spatial_downsample = ConvNorm(dim, dim, kernel_size=3, stride=2, groups=dim)
        self.channel_downsample = ConvNorm(dim, dim_out)
        self.ffn = ChannelMixer(dim_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channel_downsample(self.spatial_downsample(self.pre_block(x)))
        return x + self.ffn(x)


class RepViTBlock(nn.Module):
    """Mix places, weigh channels, mix channels; on (B, C, H, W)."""

    def __init__(self, dim: int, squeeze: bool):
        super().__init__()
        self.token_mixer = TokenMixer(dim)
        self.se = SqueezeExcite(dim) if squeeze else nn.Identity()
        self.channel_mixer = ChannelMixer(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.se(self.token_mixer(x))
        return x + self.channel_mixer(x)


class TokenMixer(nn.Module):
    """The sum of a depthwise 3x3, a depthwise 1x1 and the input."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = ConvNorm(dim, dim, kernel_size=3, groups=dim)
        self.conv1 = ConvNorm(dim, dim, groups=dim)
        self._folded = Folding(_one_convolution)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.conv.folds and self.conv1.folds):
            return self.conv(x) + self.conv1(x) + x
        weight, bias = self._folded(*self.conv.weights, *self.conv1.weights, eps=self.conv.bn.eps)
        return F.conv2d(x, weight, bias, padding=1, groups=len(weight))


def _one_convolution(*weights: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """`ConvNorm.weights` of a depthwise 3x3 and of a depthwise 1x1 -> weight and bias of their sum with the input."""
    weight, bias = _normalised(*(w.float() for w in weights[:5]), eps=eps)
    centre, centre_bias = _normalised(*(w.float() for w in weights[5:]), eps=eps)
    weight[:, :, 1:2, 1:2] += centre + 1
    return weight.to(weights[0].dtype), (bias + centre_bias).to(weights[0].dtype)


class ChannelMixer(nn.Module):
    """A two-layer MLP at each place."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = ConvNorm(dim, 2 * dim)
        self.conv2 = ConvNorm(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x, gelu=True))


class SqueezeExcite(nn.Module):
    """Channels weighed by what is in the whole image (arXiv 1709.01507); a quarter of the width inside, in eights."""

    def __init__(self, dim: int):
        super().__init__()
        inner = squeezed_width(dim)
        self.fc1 = nn.Conv2d(dim, inner, kernel_size=1)
        self.fc2 = nn.Conv2d(inner, dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * weight.sigmoid()


class ConvNorm(nn.Sequential):
    """Convolution without bias, then normalisation by stored statistics."""

    c: nn.Conv2d
    bn: StoredBatchNorm

    def __init__(self, dim: int, dim_out: int, kernel_size: int = 1, stride: int = 1, groups: int = 1):
        conv = nn.Conv2d(dim, dim_out, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        super().__init__(OrderedDict(c=conv, bn=StoredBatchNorm(dim_out)))
        self._folded, self._packed = Folding(_normalised), Folding(_packed)
        self._of_places = kernel_size == stride == groups == 1

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride). gelu: with that activation"""
        if not self.folds:
            return _gelu(super().forward(x)) if gelu else super().forward(x)
        if self._of_places and multiplies_packed(x, self.c.weight):
            weight, bias = self._packed(*self.weights, eps=self.bn.eps)
            return multiply_packed(x.permute(0, 2, 3, 1), weight, bias, F.gelu if gelu else None).permute(0, 3, 1, 2)
        weight, bias = self._folded(*self.weights, eps=self.bn.eps)
        x = F.conv2d(x, weight, bias, self.c.stride, self.c.padding, groups=self.c.groups)
        return _gelu(x) if gelu else x

    @property
    def folds(self) -> bool:
        """Whether the convolution and its normalisation may be one: nothing learns."""
        return not (torch.is_grad_enabled() or self.bn.learning)

    @property
    def weights(self) -> tuple[Tensor, ...]:
        bn = self.bn
        return self.c.weight, bn.weight, bn.bias, bn.running_mean, bn.running_var


def _normalised(
    weight: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    """Fold a normalisation's parameters and statistics into the convolution before it: weight and bias of both."""
    scale = scale.float() / (variance.float() + eps).sqrt()
    folded = (weight.float() * scale[:, None, None, None]).to(weight.dtype, memory_format=torch.channels_last)
    return folded, (shift.float() - mean.float() * scale).to(weight.dtype)


def _packed(*weights: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """As `_normalised`, of a convolution of single places, as a CPU multiplies with it."""
    weight, bias = _normalised(*weights, eps=eps)
    return pack(weight.flatten(1).contiguous()), bias


class StoredBatchNorm(nn.BatchNorm2d):
    """Batch normalisation that does not look at the batch unless it is told to learn.

    In training too: the frames of a few clips are alike, and their statistics would replace those of ImageNet. A
    network that starts from random weights has none yet: it `learns` them, on single images of many kinds, before it
    sees clips.
    """

    running_mean: Tensor
    running_var: Tensor
    learns = False

    @property
    def learning(self) -> bool:
        return self.learns and self.training

    def forward(self, x: Tensor) -> Tensor:
        if self.learning:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


def squeezed_width(dim: int) -> int:
    """Width inside a squeeze-excitation: a quarter, in eights."""
    return max(8, (dim // 4 + 4) // 8 * 8)


def _build(config: ModelConfig) -> ImageEncoder:
    trunk = RepViT(config.embed_dim, config.stages)
    return ImageEncoder(trunk, FpnNeck(config.dim, trunk.channels))


def _recognise(trunk: Mapping[str, Tensor]) -> tuple[int, int] | None:
    stem = trunk.get("body.stem.conv2.c.weight")
    return None if stem is None else (rows(stem), count_blocks(trunk, r"body\.stages_\d+\.blocks\.\d+\."))


def _operations(config: ModelConfig, side: int, padded: bool) -> int:  # there are no windows
    places, widths = pyramid(config, side)

    def mixer(n: int, c: int) -> int:
        return 2 * linear(n, c, 2 * c)

    def block(n: int, c: int, squeeze: bool) -> int:
        excitation = 2 * linear(1, c, squeezed_width(c)) if squeeze else 0
        return 2 * n * c * 9 + mixer(n, c) + excitation

    first = widths[0]
    total = 2 * 9 * (4 * places[0] * 3 * (first // 2) + places[0] * (first // 2) * first)  # the stem
    for i, (n, c, depth) in enumerate(zip(places, widths, config.stages, strict=True)):
        total += sum(block(n, c, k % 2 == 0) for k in range(depth))
        if i:
            before = widths[i - 1]
            total += block(places[i - 1], before, False) + 2 * 9 * n * before + linear(n, before, c) + mixer(n, c)
    return total + fpn_operations(config, side)


BACKBONE = Backbone(_build, _recognise, _operations, coarsest=2)
