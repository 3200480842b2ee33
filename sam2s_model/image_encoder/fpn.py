"""The feature pyramid over an image encoder's stages (SAM2, arXiv 2408.00714 sec. 4 and its app. D.1)."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn


class FpnNeck(nn.Module):
    """1x1 convolutions to one width; only the 1/16 level receives the level below it (nearest, in fp32)."""

    def __init__(self, dim: int, channels: list[int]):
        super().__init__()
        # convs[0] is the deepest level, and each holds its layer under the name "conv": the published key names.
        self.convs = nn.ModuleList(nn.Sequential(OrderedDict(conv=nn.Conv2d(c, dim, 1))) for c in reversed(channels))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps at 1/4, 1/8, 1/16, 1/32 -> maps of `dim` channels at 1/4, 1/8, 1/16."""
        quarter, eighth, sixteenth, deepest = (conv(m) for conv, m in zip(reversed(self.convs), maps))
        from_below = F.interpolate(deepest.float(), scale_factor=2.0, mode="nearest")
        return [quarter, eighth, (sixteenth.float() + from_below).to(sixteenth.dtype)]


class ImageEncoder(nn.Module):
    """trunk: an image to four maps; neck: four maps to three of equal width."""

    def __init__(self, trunk: nn.Module, neck: FpnNeck):
        super().__init__()
        self.trunk = trunk
        self.neck = neck

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.neck(self.trunk(image))
