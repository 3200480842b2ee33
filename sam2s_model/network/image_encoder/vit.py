"""Plain vision transformers after ViTDet (arXiv 2203.16527): SAM 3's (2511.16719) and EfficientTAM's (2411.18933)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.constants import constant
from sam2s_model.acceleration.folding import Folding
from sam2s_model.acceleration.linear import Linear
from sam2s_model.config import ModelConfig
from sam2s_model.network.image_encoder.backbone import Backbone, count_blocks, rows
from sam2s_model.network.image_encoder.encoder import ImageEncoder, Trunk
from sam2s_model.network.image_encoder.hiera import attend, partition, whole
from sam2s_model.network.image_encoder.vit_necks import PyramidNeck, SingleLevelNeck, neck_operations
from sam2s_model.network.layers import MLP
from sam2s_model.network.operations import linear, windowed_attention


class ViT(Trunk):
    """One map at 1/patch of the image, of as many channels all the way.

    depth: number of blocks; mlp_dim: hidden width of their MLPs
    patch: side of a patch, px; window: side of a window, in patches
    global_blocks: indices of the blocks that attend everywhere
    position_side: of the table of positions, in patches
    rotary: SAM 3's kind: rotary positions in each block, the table tiled over the image, a normalisation before the
        blocks; otherwise EfficientTAM's: the table is stretched over the image
    eps: of the normalisations
    """

    def __init__(
        self,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        patch: int,
        window: int,
        global_blocks: tuple[int, ...],
        position_side: int,
        rotary: bool,
        eps: float,
    ):
        super().__init__()
        self.channels = [embed_dim]
        self.patch_embed = VitPatchEmbed(embed_dim, patch, bias=not rotary)
        # the first row is the class token's of the pre-training: the published files have it, and nobody looks at it
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + position_side**2, embed_dim))
        self._place = _tiled if rotary else _stretched
        self._position = Folding(self._place)
        if rotary:
            self.ln_pre = nn.LayerNorm(embed_dim, eps=eps)
        self.rotary = rotary
        self.blocks = nn.ModuleList(
            ViTBlock(embed_dim, num_heads, mlp_dim, 0 if i in global_blocks else window, window if rotary else 0, eps)
            for i in range(depth)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W multiples of a patch -> one map (B, C, H / patch, W / patch)."""
        x = self.patch_embed(image)
        x = x + self.position(*x.shape[1:3]).to(x.dtype)
        if self.rotary:
            x = self.ln_pre(x)
        for block in self.blocks:
            x = block(x)
        return [x.permute(0, 3, 1, 2)]

    def position(self, height: int, width: int) -> Tensor:
        """(1, H, W, C) fp32."""
        make = self._place if torch.is_grad_enabled() else self._position
        return make(self.pos_embed, height=height, width=width)


def _table(table: Tensor) -> Tensor:  # (1, 1 + side^2, C) -> (1, C, side, side)
    side = round((table.shape[1] - 1) ** 0.5)
    return table[:, 1:].float().transpose(1, 2).unflatten(2, (side, side))


def _tiled(table: Tensor, *, height: int, width: int) -> Tensor:
    square = _table(table)
    rows, columns = (-(-size // square.shape[2]) for size in (height, width))
    return square.tile(1, 1, rows, columns)[:, :, :height, :width].permute(0, 2, 3, 1)


def _stretched(table: Tensor, *, height: int, width: int) -> Tensor:
    square = _table(table)
    if square.shape[2:] != (height, width):
        square = F.interpolate(square, size=(height, width), mode="bicubic")
    return square.permute(0, 2, 3, 1)


class VitPatchEmbed(nn.Module):
    """(B, 3, H, W) -> (B, H / patch, W / patch, C)."""

    def __init__(self, dim: int, patch: int, bias: bool):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch, stride=patch, bias=bias)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).permute(0, 2, 3, 1).contiguous()


class ViTBlock(nn.Module):
    """Attention within windows, or everywhere where `window` is 0, and an MLP, on (B, H, W, C).

    rotary_side: side of the grid, in patches, that rotary positions are counted in; 0: there are none
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, window: int, rotary_side: int, eps: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = ViTAttention(dim, num_heads, window, rotary_side)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = MLP(dim, mlp_dim, dim, 2, F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViTAttention(nn.Module):
    """Self-attention on (B, H, W, C), see `ViTBlock`."""

    def __init__(self, dim: int, num_heads: int, window: int, rotary_side: int):
        super().__init__()
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.num_heads = num_heads
        self.window = window
        self.rotary_side = rotary_side

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[1], x.shape[2])
        qkv = self.qkv(x)
        if not self.window:
            q, k, v = qkv.flatten(1, 2).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
            q, k = self._turned(q, k, size)
            return self.proj(attend(q, k, v).transpose(1, 2).flatten(2).unflatten(1, size))
        # a window that reaches over the edge has zeros there, of which the projection makes its bias
        (q, k, v), padded = partition(qkv, self.window, self.num_heads, 3, self.qkv.bias)
        q, k = self._turned(q, k, (self.window, self.window))
        return self.proj(whole(attend(q, k, v), self.window, padded, size))

    def _turned(self, q: Tensor, k: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if not self.rotary_side:
            return q, k
        table = rotation(*grid, q.shape[-1], self.rotary_side, device=q.device)
        return rotate(q, table), rotate(k, table)


@constant
def rotation(height: int, width: int, dim: int, side: int, device=None, theta: float = 10000.0) -> Tensor:
    """(2, HW, dim / 2) fp32, cosines and sines: the first half of the pairs turns with x, the second with y.

    side: rows and columns are counted as if there were so many of them
    """
    frequency = 1.0 / theta ** (torch.arange(0, dim, 4, device=device, dtype=torch.float32) / dim)
    place = torch.arange(height * width, device=device)
    x, y = (cell.float() * (side / width) for cell in (place % width, place // width))
    angle = torch.cat((x[:, None] * frequency, y[:, None] * frequency), dim=1)
    return torch.stack((angle.cos(), angle.sin()))


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn neighbouring channel pairs of (..., HW, dim) by the table, in fp32, and return them in their own type."""
    cosine, sine = table
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((first * cosine - second * sine, first * sine + second * cosine), dim=-1)
    return turned.flatten(-2).to(x.dtype)


def _build(config: ModelConfig) -> ImageEncoder:
    trunk = ViT(
        config.embed_dim,
        sum(config.stages),
        config.num_heads,
        _mlp_dim(config),
        config.stride,
        config.window_spec[0],
        config.global_blocks,
        config.position_side,
        config.rotary,
        config.norm_eps,
    )
    neck = PyramidNeck if config.high_res else SingleLevelNeck
    return ImageEncoder(trunk, neck(config.dim, config.embed_dim))


def _mlp_dim(config: ModelConfig) -> int:
    return config.mlp_dim or 4 * config.embed_dim


def _recognise(trunk: Mapping[str, Tensor]) -> tuple[int, int] | None:
    patches, table = trunk.get("patch_embed.proj.weight"), trunk.get("pos_embed")
    if patches is None or table is None or table.ndim != 3:
        return None
    return rows(patches), count_blocks(trunk, r"blocks\.\d+\.")


def _operations(config: ModelConfig, side: int, padded: bool) -> int:
    places, dim, depth = side * side, config.embed_dim, sum(config.stages)
    block = linear(places, dim, 3 * dim) + linear(places, dim, dim) + 2 * linear(places, dim, _mlp_dim(config))
    everywhere, inside = (windowed_attention(side, window, dim, padded) for window in (0, config.window_spec[0]))
    attentions = len(config.global_blocks) * everywhere + (depth - len(config.global_blocks)) * inside
    patches = linear(places, 3 * config.stride**2, dim)
    return patches + depth * block + attentions + neck_operations(config, side)


BACKBONE = Backbone(_build, _recognise, _operations, coarsest=1)
