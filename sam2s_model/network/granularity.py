"""UnSAMv2's granularity (arXiv 2511.13714): a number from part to whole as one more token of a prompt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FREQUENCIES = 64
BASE = 100.0  # T: frequency i is T^(i / 64)
HIDDEN = 192
LOWEST, HIGHEST = 0.1, 1.0  # of the granularities that it was trained with


class GranularityEmbedder(nn.Module):
    """Sines and cosines of a granularity, and a small network: (B,) -> (B, 1, dim). Names as published."""

    def __init__(self, dim: int):
        super().__init__()
        self.mlp = _Network(dim)

    def forward(self, granularity: Tensor) -> Tensor:
        return self.mlp(waves(granularity))[:, None]


class _Network(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, HIDDEN), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(HIDDEN, dim),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x.to(next(self.parameters()).dtype))


def waves(granularity: Tensor) -> Tensor:
    """(B,) -> (B, 128) fp32: sin(f g) and cos(f g) in turn, f from 1 to almost 100."""
    index = torch.arange(FREQUENCIES, device=granularity.device, dtype=torch.float32)
    angle = granularity.float()[:, None] * BASE ** (index / FREQUENCIES)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)
