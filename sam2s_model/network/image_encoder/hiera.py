"""Hiera, SAM2's hierarchical vision transformer (arXiv 2306.00989; windows and positions as in 2408.00714 sec. 4)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.attention import attend_in_blocks
from sam2s_model.acceleration.folding import Folding
from sam2s_model.acceleration.linear import Linear
from sam2s_model.acceleration.windows import from_windows, to_windows
from sam2s_model.config import ModelConfig
from sam2s_model.network.image_encoder.backbone import Backbone, count_blocks, rows
from sam2s_model.network.image_encoder.encoder import ImageEncoder, Trunk
from sam2s_model.network.image_encoder.fpn import FpnNeck, fpn_operations, pyramid
from sam2s_model.network.layer_list import LayerList
from sam2s_model.network.layers import MLP, add_norm
from sam2s_model.network.operations import linear, windowed_attention


class Hiera(Trunk):
    """Four stages at 1/4, 1/8, 1/16 and 1/32 of the image; channels and heads double from stage to stage.

    stages: number of blocks of each stage
    window_spec: window side of each stage, in tokens; the first block of a stage still has the previous stage's
    global_blocks: indices of the blocks that attend everywhere
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        stages: tuple[int, ...],
        window_spec: tuple[int, ...],
        global_blocks: tuple[int, ...],
        background_size: tuple[int, int],
    ):
        super().__init__()
        self.patch_embed = PatchEmbed(embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, embed_dim, *background_size))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, embed_dim, window_spec[0], window_spec[0]))
        self._position = Folding(_position)
        blocks: list[HieraBlock] = []
        self.stage_ends = [sum(stages[: i + 1]) - 1 for i in range(len(stages))]
        self.channels = [embed_dim * 2**i for i in range(len(stages))]
        for stage, depth in enumerate(stages):
            for i in range(depth):
                starts_stage = stage > 0 and i == 0
                source = stage - 1 if starts_stage else stage
                blocks.append(
                    HieraBlock(
                        dim=self.channels[source],
                        dim_out=self.channels[stage],
                        num_heads=num_heads * 2**stage,
                        window=0 if len(blocks) in global_blocks else window_spec[source],
                        pool=starts_stage,
                    )
                )
        self.blocks = LayerList(blocks)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W multiples of 32 -> four maps (B, C_i, H / 2^(i+2), W / 2^(i+2))."""
        x = self.patch_embed(image)
        x, y = add_norm(self.position(x.shape[1], x.shape[2], x.dtype), x, self.blocks[0].norm1)
        maps = []
        for i, block in enumerate(self.blocks):
            x, mlp = block(x, y)
            if block.adapter is not None:
                x = x + mlp
                mlp = block.adapter(x)
            if i + 1 < len(self.blocks):
                x, y = add_norm(x, mlp, self.blocks[i + 1].norm1)
            else:
                x = x + mlp
            if i in self.stage_ends:
                maps.append(x.permute(0, 3, 1, 2))
        return maps

    def position(self, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(1, H, W, C): a coarse embedding of the whole image plus one of the place in the window."""
        make = _position if torch.is_grad_enabled() else self._position
        return make(self.pos_embed, self.pos_embed_window, height=height, width=width, dtype=dtype)


def _position(coarse: Tensor, window: Tensor, *, height: int, width: int, dtype: torch.dtype) -> Tensor:
    stretched = F.interpolate(coarse.float(), size=(height, width), mode="bicubic")
    side = window.shape[-1]
    # cropped because a grid need not be a whole number of windows
    tiled = window.float().tile(1, 1, -(-height // side), -(-width // side))[:, :, :height, :width]
    return (stretched + tiled).permute(0, 2, 3, 1).contiguous().to(dtype)


class PatchEmbed(nn.Module):
    """(B, 3, H, W) -> (B, H / 4, W / 4, C)."""

    def __init__(self, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=4, padding=3)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).permute(0, 2, 3, 1).contiguous()


class HieraBlock(nn.Module):
    """Windowed attention and MLP on (B, H, W, C); the first block of a stage halves the grid by max-pooling queries.

    width: channels of its result; adapter: what is added after it, made of it, see `adapters.layers`; None: nothing
    """

    def __init__(self, dim: int, dim_out: int, num_heads: int, window: int, pool: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = HieraAttention(dim, dim_out, num_heads, window, pool)
        self.norm2 = nn.LayerNorm(dim_out, eps=1e-6)
        self.mlp = MLP(dim_out, 4 * dim_out, dim_out, 2, F.gelu)
        if dim != dim_out:
            self.proj = Linear(dim, dim_out)
        self.pool, self.width = pool, dim_out
        self.adapter: nn.Module | None = None

    def forward(self, x: Tensor, normed: Tensor) -> tuple[Tensor, Tensor]:
        """x, and x as `norm1` makes it -> the result, in two parts that are still to be added."""
        shortcut = max_pool(self.proj(normed)) if self.pool else x
        x, y = add_norm(shortcut, self.attn(normed), self.norm2)
        return x, self.mlp(y)


class HieraAttention(nn.Module):
    """Self-attention on (B, H, W, C) within windows, or everywhere where `window` is 0."""

    def __init__(self, dim: int, dim_out: int, num_heads: int, window: int, pool: bool):
        super().__init__()
        self.qkv = Linear(dim, 3 * dim_out)
        self.proj = Linear(dim_out, dim_out)
        self.num_heads = num_heads
        self.window = window
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        qkv, bias, width = self.qkv(x), self.qkv.bias, self.proj.in_features
        pooled = max_pool(qkv[..., :width]) if self.pool else None
        _, rows, columns, _ = (qkv if pooled is None else pooled).shape
        size = (rows, columns)
        if not self.window:
            parts = qkv.chunk(3, dim=-1) if pooled is None else (pooled, *qkv[..., width:].chunk(2, dim=-1))
            q, k, v = (t.flatten(1, 2).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in parts)
            return self.proj(attend(q, k, v).transpose(1, 2).flatten(2).unflatten(1, size))
        # A window that reaches over the edge has zeros there, which a projection turns into its bias: that is filled
        # in, and no token is projected for it.
        if pooled is None:
            side = self.window
            (q, k, v), padded = partition(qkv, side, self.num_heads, 3, bias)
        else:
            side = self.window // 2
            (q,), padded = partition(pooled, side, self.num_heads)
            (k, v), _ = partition(qkv[..., width:], self.window, self.num_heads, 2, bias[width:])
        return self.proj(whole(attend(q, k, v), side, padded, size))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, heads, Q, d), (B, heads, K, d) and (B, heads, K, d) -> (B, heads, Q, d)."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and not torch.is_grad_enabled():
        return attend_in_blocks(*(t.flatten(0, 1) for t in (q, k, v))).unflatten(0, q.shape[:2])
    return F.scaled_dot_product_attention(q, k, v)


def max_pool(x: Tensor) -> Tensor:
    """2x2 on (B, H, W, C)."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), kernel_size=2, stride=2).permute(0, 2, 3, 1)


def partition(
    x: Tensor, side: int, heads: int, parts: int = 1, filling: Tensor | None = None
) -> tuple[Tensor, tuple[int, int]]:
    """(B, H, W, parts * C) -> (parts, B * windows, heads, side * side, C / heads), and the padded (H, W).

    The padding is at the right and the bottom.

    filling: (parts * C,), of the padding, None: zeros
    """
    batch, height, width, channels = x.shape
    padded = (height + -height % side, width + -width % side)
    if kernels.serves(x):
        return to_windows(x, side, heads, parts, filling), padded
    if padded != (height, width):
        inner = x
        x = x.new_zeros(batch, *padded, channels) if filling is None else filling.expand(batch, *padded, -1).clone()
        x[:, :height, :width] = inner
    x = x.unflatten(3, (parts, heads, -1)).unflatten(2, (-1, side)).unflatten(1, (-1, side))
    x = x.permute(5, 0, 1, 3, 6, 2, 4, 7)  # (B, rows, side, columns, side, parts, heads, d) before
    return x.reshape(parts, -1, heads, side * side, channels // (parts * heads)), padded


def unpartition(windows: Tensor, side: int, padded: tuple[int, int]) -> Tensor:
    """Undo `partition` for one part; the result, (B, H, W, C), is still padded."""
    rows, columns = padded[0] // side, padded[1] // side
    x = windows.unflatten(2, (side, side)).unflatten(0, (-1, rows, columns))  # (B, rows, columns, heads, side, side, d)
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, *padded, windows.shape[1] * windows.shape[3])


def whole(windows: Tensor, side: int, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Undo `partition` for one part, without its padding, (B, H, W, C); size: (H, W)

    It is contiguous, since torch makes a batch of products of the rows of a view, with a copy of the weights for each.
    """
    if kernels.serves(windows):
        return from_windows(windows, side, *size)
    return unpartition(windows, side, padded)[:, : size[0], : size[1]].contiguous()


def _build(config: ModelConfig) -> ImageEncoder:
    trunk = Hiera(
        config.embed_dim,
        config.num_heads,
        config.stages,
        config.window_spec,
        config.global_blocks,
        config.background_size,
    )
    return ImageEncoder(trunk, FpnNeck(config.dim, trunk.channels))


def _recognise(trunk: Mapping[str, Tensor]) -> tuple[int, int] | None:
    patches, table = trunk.get("patch_embed.proj.weight"), trunk.get("pos_embed")
    if patches is None or (table is not None and table.ndim == 3):  # a plain ViT's table is a list of tokens
        return None
    return rows(patches), count_blocks(trunk, r"blocks\.\d+\.")


def _operations(config: ModelConfig, side: int, padded: bool) -> int:
    _, widths = pyramid(config, side)
    grid, index = 4 * side, 0
    total = 2 * 49 * grid * grid * 3 * widths[0]
    for stage, depth in enumerate(config.stages):
        for i in range(depth):
            pool = stage > 0 and i == 0
            d_in, d_out = widths[stage - pool], widths[stage]
            window = 0 if index in config.global_blocks else config.window_spec[stage - pool]
            kept = 4 if pool else 1  # a quarter of the queries remains
            total += linear(grid * grid, d_in, 3 * d_out) + windowed_attention(grid, window, d_out, padded) // kept
            if pool:
                total += linear(grid * grid, d_in, d_out)
                grid //= 2
            total += linear(grid * grid, d_out, d_out) + 2 * linear(grid * grid, d_out, 4 * d_out)
            index += 1
    return total + fpn_operations(config, side)


BACKBONE = Backbone(_build, _recognise, _operations, coarsest=2)
