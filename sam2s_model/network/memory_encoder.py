"""The memory encoder of SAM2 (arXiv 2408.00714 sec. 4): a frame's features and its mask to one spatial memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.linear import Linear
from sam2s_model.network.layers import LayerNorm2d, norm_gelu


class MemoryEncoder(nn.Module):
    """dim: width of the features; memory_dim: width of a memory."""

    def __init__(self, dim: int, memory_dim: int):
        super().__init__()
        self.mask_downsampler = MaskDownsampler(dim)
        self.pix_feat_proj = nn.Conv2d(dim, dim, kernel_size=1)
        self.fuser = Fuser(dim)
        self.out_proj = nn.Conv2d(dim, memory_dim, kernel_size=1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Features (1, dim, h, w), mask (B, 1, 16h, 16w), already scaled to -10..10 -> (B, memory_dim, h, w)."""
        x = self.pix_feat_proj(features) + self.mask_downsampler(mask)
        return self.out_proj(self.fuser(x))


def mask_to_remember(logits: Tensor, side: int, dtype: torch.dtype, *, binarise: bool, exclusive: bool) -> Tensor:
    """Mask logits (B, 1, ., .) -> (B, 1, side, side), -10 to 10, as the memory encoder sees them.

    binarise: the mask without its doubts; exclusive: the B objects share no pixel
    """
    if not exclusive and kernels.serves(logits):
        return kernels.mask_to_remember(logits.float(), side, side, binarise, dtype)
    size = (side, side)
    logits = F.interpolate(logits.float(), size=size, mode="bilinear") if logits.shape[-2:] != size else logits
    if exclusive:
        logits = torch.where(logits == logits.amax(0, keepdim=True), logits, logits.clamp(max=-10))
    mask = (logits > 0).float() if binarise else logits.sigmoid()
    return (mask * 20 - 10).to(dtype)


class MaskDownsampler(nn.Module):
    """A mask to features at 1/16: four strided convolutions, 1-4-16-64-256 channels, and a 1x1."""

    def __init__(self, dim: int):
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv2d(4**i, 4 ** (i + 1), 3, stride=2, padding=1), LayerNorm2d(4 ** (i + 1)), nn.GELU()]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(4**4, dim, kernel_size=1))

    def forward(self, mask: Tensor) -> Tensor:
        *stages, last = self.encoder
        for convolution, norm in zip(stages[::3], stages[1::3], strict=True):
            assert isinstance(norm, LayerNorm2d)
            mask = norm_gelu(convolution(mask), norm)
        return last(mask)


class Fuser(nn.Module):
    """Two ConvNeXt blocks."""

    def __init__(self, dim: int, depth: int = 2):
        super().__init__()
        self.layers = nn.ModuleList(ConvNextBlock(dim) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, LayerNorm, MLP, layer scale, residual; on (B, C, H, W)."""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = Linear(dim, 4 * dim)
        self.pwconv2 = Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.pwconv2(self.pwconv1(y, F.gelu))
        return torch.addcmul(x, y.permute(0, 3, 1, 2), self.gamma[:, None, None])
