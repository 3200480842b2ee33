"""The layers of adapters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class DilatedAdapter(nn.Module):
    """DD-SAM2's depthwise-dilated adapter (arXiv 2507.14613): what is added after a block of Hiera.

    Half the channels, two depthwise 3x3 convolutions beside one another, of dilation 1 and 3, their sum, all channels.
    Its last layer begins as zeros, so that an untrained one changes nothing.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.pw1 = nn.Sequential(nn.Conv2d(channels, inner, kernel_size=1), nn.GELU())
        self.dw2_1 = nn.Sequential(nn.Conv2d(inner, inner, kernel_size=3, padding=1, groups=inner), nn.GELU())
        self.dw2_2 = nn.Sequential(
            nn.Conv2d(inner, inner, kernel_size=3, padding=3, dilation=3, groups=inner), nn.GELU()
        )
        self.pw2 = nn.Sequential(nn.Conv2d(inner, channels, kernel_size=1), nn.GELU())
        for parameter in self.pw2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), that is to be added."""
        half = self.pw1(x.permute(0, 3, 1, 2))
        return self.pw2(self.dw2_1(half) + self.dw2_2(half)).permute(0, 2, 3, 1).contiguous()


class LowRank(nn.Module):
    """LoRA (arXiv 2106.09685) as torch parametrises a weight: W + alpha / r * up @ down. Begins as W.

    For training: whoever reads the layer's weight gets the sum, with its gradient.
    """

    def __init__(self, d_in: int, d_out: int, rank: int, alpha: float):
        super().__init__()
        self.lora_down = nn.Parameter(torch.empty(rank, d_in))
        self.lora_up = nn.Parameter(torch.zeros(d_out, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """(d_out, d_in) -> (d_out, d_in)"""
        return weight + self.scale * (self.lora_up @ self.lora_down)


def merged(weight: Tensor, down: Tensor, up: Tensor, alpha: float) -> Tensor:
    """Add a LoRA to the weight (d_out, d_in) of its layer, fp32: exact, since both are linear."""
    return weight.float() + alpha / len(down) * (up.to(weight.device).float() @ down.to(weight.device).float())
