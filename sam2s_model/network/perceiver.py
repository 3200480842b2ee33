"""EdgeTAM's spatial perceiver (arXiv 2501.07256 sec. 3): a spatial memory of any size to a fixed number of tokens."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.constants import constant
from sam2s_model.acceleration.linear import Joined
from sam2s_model.errors import ConfigError
from sam2s_model.network.layer_list import LayerList
from sam2s_model.network.layers import add_norm, place_tokens, sine_position_2d


class SpatialPerceiver(nn.Module):
    """Learned latents read a memory: global ones all of it, two-dimensional ones a window each.

    dim: width of memories and latents; latents_1d: number of global latents; latents_2d: of the others

    Raises ConfigError when latents_2d is 0 or no square number.
    """

    def __init__(self, dim: int, latents_1d: int, latents_2d: int, depth: int = 2):
        super().__init__()
        self.side = math.isqrt(latents_2d)
        if not latents_2d or self.side**2 != latents_2d:
            raise ConfigError(f"latents_2d is {latents_2d}: expected a square number of at least 1 beside latents_1d")
        self.latents = nn.Parameter(torch.randn(latents_1d, dim))
        self.latents_2d = nn.Parameter(torch.randn(latents_2d, dim))
        self.layers = LayerList(PerceiverLayer(dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, memory: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, hw, dim) on a grid of (h, w) -> (B, latents_1d + latents_2d, dim), the global latents first."""
        batch, _, dim = memory.shape
        position = _place_of_both(dim, *grid, memory.dtype, device=memory.device)
        windows = self.windows(memory, grid)
        everywhere = self.latents.expand(batch, -1, -1)
        somewhere = self.latents_2d.repeat(batch, 1)[:, None]  # (B * latents_2d, 1, dim)
        for layer in self.layers:
            everywhere = layer(everywhere, memory, position)
            somewhere = layer(somewhere, windows, None)
        return self.norm(torch.cat((everywhere, somewhere.view(batch, -1, dim)), dim=1))

    def windows(self, memory: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, hw, dim) -> (B * latents_2d, tokens of a window, dim), windows row by row.

        A grid that is no multiple of the windows is stretched to the next one (14 x 14, of 224 px, to 16 x 16), each
        place a copy of the one below it.
        """
        x = memory.unflatten(1, grid)
        height, width = (-(-n // self.side) * self.side for n in grid)
        if (height, width) != tuple(grid):
            x = F.interpolate(x.permute(0, 3, 1, 2), size=(height, width), mode="nearest-exact").permute(0, 2, 3, 1)
        x = x.unflatten(2, (self.side, -1)).unflatten(1, (self.side, -1))  # (B, side, rows, side, columns, dim)
        return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)

    def position(self, device=None) -> Tensor:
        """(latents_1d + latents_2d, dim) fp32: none for the global latents, a sine code for the others' windows."""
        place = sine_position_2d(self.latents.shape[1], self.side, self.side, device=device).flatten(1).T
        return torch.cat((place.new_zeros(self.latents.shape), place))


class PerceiverLayer(nn.Module):
    """Latents (B, L, dim) look at tokens (B, N, dim), then at each other; an MLP after each; pre-norm."""

    def __init__(self, dim: int):
        super().__init__()
        self.attn = CrossAttention(dim)
        self.ff = FeedForward(dim)
        self.self_attn = SelfAttention(dim)
        self.self_ff = FeedForward(dim)

    def forward(self, latents: Tensor, tokens: Tensor, position: Tensor | None) -> Tensor:
        x, y = add_norm(latents, self.attn(latents, tokens, position), self.ff.norm)
        x, y = add_norm(x, self.ff.mix(y), self.self_attn.norm)
        x, y = add_norm(x, self.self_attn(y), self.self_ff.norm)
        return x + self.self_ff.mix(y)


class CrossAttention(nn.Module):
    """Single-head attention; the tokens' position (N, 2 dim) is added to keys and values, after their projection."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm_x = nn.LayerNorm(dim)
        self.norm_latents = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, latents: Tensor, tokens: Tensor, position: Tensor | None) -> Tensor:
        q = self.to_q(self.norm_latents(latents))
        both = self.to_kv(self.norm_x(tokens))
        return self.to_out(attend(q, *(both if position is None else both + position).chunk(2, dim=-1)))


class SelfAttention(nn.Module):
    """Single-head attention among the latents, which `norm` has normalised."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)
        self._joined = Joined()

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self.to_out(attend(self.to_q(x), *self.to_kv(x).chunk(2, dim=-1)))
        return self.to_out(attend(*self._joined.product(x, self.to_q, self.to_kv).chunk(3, dim=-1)))


@constant
def _place_of_both(dim: int, height: int, width: int, dtype: torch.dtype, device=None) -> Tensor:
    """(HW, 2 dim): the place of each token, for its key and for its value."""
    return place_tokens(dim, height, width, dtype, device=device).repeat(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head: (B, Q, dim), (B, N, dim), (B, N, dim) -> (B, Q, dim)."""
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]


class FeedForward(nn.Sequential):
    """LayerNorm and an MLP without biases."""

    def __init__(self, dim: int):
        widen, narrow = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)
        super().__init__(nn.LayerNorm(dim), widen, nn.GELU(), narrow)

    @property
    def norm(self) -> nn.LayerNorm:
        first = self[0]
        assert isinstance(first, nn.LayerNorm)
        return first

    def mix(self, normed: Tensor) -> Tensor:
        """Apply the MLP alone, to what `norm` has normalised."""
        _, widen, activation, narrow = self
        return narrow(activation(widen(normed)))
