"""The mask decoder's transformer: tokens attend to the image and the image attends back (SAM, arXiv 2304.02643 app. A)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.network.layers import MLP


class TwoWayTransformer(nn.Module):
    """depth: number of blocks; dim: width; heads: of every attention; mlp_dim: hidden width of the token MLP."""

    def __init__(self, depth: int, dim: int, heads: int, mlp_dim: int):
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, heads, mlp_dim, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_position: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, HW, C), its position (1, HW, C), tokens (B, T, C) -> tokens, image, of the same shapes."""
        queries, keys = tokens, image
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, image_position)
        attended = self.final_attn_token_to_image(queries + tokens, keys + image_position, keys)
        return self.norm_final_attn(queries + attended), keys


class TwoWayBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP, image to tokens; post-norm. The tokens are their own position."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, first: bool):
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_dim, dim, 2)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, downsample=2)
        self.first = first

    def forward(self, queries: Tensor, keys: Tensor, position: Tensor, image_position: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:  # the tokens are the positions, and there is nothing yet to add to them
            queries = self.self_attn(queries, queries, queries)
        else:
            q = queries + position
            queries = queries + self.self_attn(q, q, queries)
        queries = self.norm1(queries)
        queries = self.norm2(queries + self.cross_attn_token_to_image(queries + position, keys + image_position, keys))
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.norm4(keys + self.cross_attn_image_to_token(keys + image_position, queries + position, queries))
        return queries, keys


class Attention(nn.Module):
    """Multi-head attention with an inner width of dim / downsample: (B, Q, C), (B, K, C), (B, K, C) -> (B, Q, C)."""

    def __init__(self, dim: int, heads: int, downsample: int = 1):
        super().__init__()
        inner = dim // downsample
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (self._split(x) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v)))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:  # (B, N, inner) -> (B, heads, N, inner / heads)
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)
