"""Small layers that several parts of the SAM2 family share. Names follow the published state dicts."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.constants import constant
from sam2s_model.acceleration.linear import Linear
from sam2s_model.network.layer_list import LayerList


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if kernels.serves(x):
            return kernels.norm_gelu(x, self.weight, self.bias, self.eps, False)
        if len(self.weight) < 16:  # too short for the kernel, which takes each place by itself
            y = x.float() - x.float().mean(1, keepdim=True)
            y = y * ((y * y).mean(1, keepdim=True) + self.eps).rsqrt()
            return (y * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)
        return F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps).permute(
            0, 3, 1, 2
        )


def norm_gelu(x: Tensor, norm: LayerNorm2d) -> Tensor:
    """(B, C, H, W), normalised, then a GELU."""
    if kernels.serves(x):
        return kernels.norm_gelu(x, norm.weight, norm.bias, norm.eps, True)
    return F.gelu(norm(x))


def add_norm(x: Tensor, y: Tensor, norm: nn.LayerNorm, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """Add x (1 or B, ..., C) and alpha y (B, ..., C); return the sum, and the sum normalised."""
    if kernels.serves(y):
        return kernels.add_norm(x.contiguous(), y.contiguous(), norm.weight, norm.bias, norm.eps, alpha)
    x = torch.add(x, y, alpha=alpha)
    return x, norm(x)


def norm_place(x: Tensor | None, y: Tensor, norm: nn.LayerNorm, place: Tensor) -> tuple[Tensor, Tensor]:
    """Add x and y (..., C), or take y alone; return the sum normalised, and that with its place (..., C) added."""
    if kernels.serves(y):
        return kernels.norm_place(x, y.contiguous(), place.contiguous(), norm.weight, norm.bias, norm.eps)
    normed = norm(y if x is None else x + y)
    return normed, normed + place


class MLP(nn.Module):
    """`depth` linear layers, `activation` between them: (..., d_in) -> (..., d_out)."""

    def __init__(self, d_in: int, d_hidden: int, d_out: int, depth: int, activation=F.relu):
        super().__init__()
        widths = [d_in] + [d_hidden] * (depth - 1) + [d_out]
        self.layers = LayerList(Linear(a, b) for a, b in pairwise(widths))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x, self.activation)
        return self.layers[-1](x)


@constant
def sine_position_2d(dim: int, height: int, width: int, device=None, temperature: float = 10000.0) -> Tensor:
    """(dim, H, W) fp32: sine code of a grid, first half of the channels for y, second half for x.

    Rows and columns are scaled to (0, 2 pi]; sine and cosine alternate (as in DETR, which SAM2 follows).
    """

    def axis(length: int) -> Tensor:  # -> (length, dim / 2)
        place = torch.arange(1, length + 1, device=device, dtype=torch.float32) / (length + 1e-6) * 2 * math.pi
        angle = place[:, None] / _frequencies(dim // 2, temperature, device=device)
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    rows = axis(height)[:, None].expand(-1, width, -1)
    columns = axis(width)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), dim=2).permute(2, 0, 1)


@constant
def place_tokens(dim: int, height: int, width: int, dtype: torch.dtype, device=None) -> Tensor:
    """(HW, dim): `sine_position_2d` as tokens."""
    return sine_position_2d(dim, height, width, device=device).flatten(1).T.to(dtype)


def gelu(x: Tensor) -> Tensor:
    """On (B, C, H, W), channels last in memory: seen as (B, H, W, C), for which torch's CPU kernel is twice as fast."""
    return F.gelu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def sine_position_1d(position: Tensor, dim: int, temperature: float = 10000.0) -> Tensor:
    """(...,) -> (..., dim): all sines, then all cosines, of a position that is already scaled."""
    angle = position[..., None].float() / _frequencies(dim // 2, temperature, device=position.device)
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


@constant
def _frequencies(dim: int, temperature: float, device=None) -> Tensor:
    index = torch.arange(dim, device=device, dtype=torch.float32)
    return temperature ** (2 * (index // 2) / dim)
