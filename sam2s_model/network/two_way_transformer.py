"""The mask decoder's transformer: tokens attend to the image, and the image to them (SAM, arXiv 2304.02643 app. A)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.folding import Folding
from sam2s_model.acceleration.linear import Joined
from sam2s_model.network.layer_list import LayerList
from sam2s_model.network.layers import MLP, add_norm, norm_place


class TwoWayTransformer(nn.Module):
    """depth: number of blocks; dim: width; heads: of every attention; mlp_dim: hidden width of the token MLP."""

    def __init__(self, depth: int, dim: int, heads: int, mlp_dim: int):
        super().__init__()
        self.layers = LayerList(TwoWayBlock(dim, heads, mlp_dim, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)
        self._joined, self._of_image = Joined(), [_OfImage() for _ in range(depth + 1)]

    def forward(self, image: Tensor, image_position: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image (B, HW, C), its position (1, HW, C), tokens (B, T, C) -> tokens, image, of the same shapes."""
        if not torch.is_grad_enabled():
            return self._read(image, image_position, tokens)
        queries, keys = tokens, image
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, image_position)
        attended = self.final_attn_token_to_image(queries + tokens, keys + image_position, keys)
        return self.norm_final_attn(queries + attended), keys

    def _read(self, image: Tensor, image_position: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, for inference: what sees the same tokens, or the same image, is one product."""
        final = self.final_attn_token_to_image
        first, queries, keys = self.layers[0].self_attn, tokens, image
        own = self._joined(queries, first.q_proj, first.k_proj, first.v_proj)
        for i, layer in enumerate(self.layers):
            after = self.layers[i + 1].self_attn if i + 1 < len(self.layers) else None
            of_image = self._of_image[i](
                keys, image_position, layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            )
            queries, keys, own = layer.read(queries, keys, tokens, own, of_image, after, final)
        k, v = self._of_image[-1](keys, image_position, final)
        (q,) = own
        return add_norm(queries, final.attend(q, k, v), self.norm_final_attn)[1], keys


class _OfImage:
    """Keys and values of the image for one attention, and queries for another, as one product.

    What the projections make of the image's position is added to it, made once: they are linear.
    """

    def __init__(self) -> None:
        self._joined, self._position = Joined(), Folding(_projected_position)

    def __call__(
        self, image: Tensor, position: Tensor, keys: Attention, queries: Attention | None = None
    ) -> list[Tensor]:
        """Image (B, HW, C), position (1, HW, C) -> k, v of `keys` and q of `queries`, (B, HW, inner)."""
        placed = [keys.k_proj, *([queries.q_proj] if queries else [])]
        layers = [keys.v_proj, *placed]
        place = self._position(position, *(layer.weight for layer in placed), values=keys.v_proj.out_features)
        v, *rest = (self._joined.product(image, *layers) + place).split(
            [layer.out_features for layer in layers], dim=-1
        )
        return [rest[0], v, *rest[1:]]


def _projected_position(position: Tensor, *weights: Tensor, values: int) -> Tensor:
    """(1, HW, values + sum of all d_out): zeros for values, which have no position, then each weight's projection."""
    return torch.cat((position.new_zeros(*position.shape[:2], values), F.linear(position, torch.cat(weights))), dim=-1)


class TwoWayBlock(nn.Module):
    """Self-attention of tokens, tokens to image, MLP, image to tokens; post-norm. The tokens are their own position."""

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
        self._placed, self._plain = Joined(), Joined()

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

    def read(
        self,
        queries: Tensor,
        keys: Tensor,
        position: Tensor,
        own: tuple[Tensor, ...],
        of_image: list[Tensor],
        after: Attention | None,
        final: Attention,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Compute `forward` for inference.

        own: q, k and v of the self-attention; of_image: k and v of the image, and its q
        after: the self-attention of the next block, None for the last one, which `final` follows
        Returns the queries, the keys, and what the next attention of the tokens has: q, k and v, or q alone.
        """
        attended = self.self_attn.attend(*own)
        queries, placed = norm_place(None if self.first else queries, attended, self.norm1, position)
        to_image, of_tokens = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        k, v, image_q = of_image
        queries = add_norm(queries, to_image.attend(to_image.q_proj(placed), k, v), self.norm2)[1]
        queries, placed = norm_place(queries, self.mlp(queries), self.norm3, position)
        next_q = [after.q_proj, after.k_proj] if after else [final.q_proj]
        k, *ahead = self._placed(placed, of_tokens.k_proj, *next_q)
        v, *value = self._plain(queries, of_tokens.v_proj, *([after.v_proj] if after else []))
        keys = add_norm(keys, of_tokens.attend(image_q, k, v), self.norm4)[1]
        return queries, keys, (*ahead, *value)


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
        return self.attend(self.q_proj(q), self.k_proj(k), self.v_proj(v))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `forward`, of what was projected: (B, Q, inner), (B, K, inner), (B, K, inner) -> (B, Q, C)."""
        q, k, v = (self._split(x) for x in (q, k, v))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:  # (B, N, inner) -> (B, heads, N, inner / heads)
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)
