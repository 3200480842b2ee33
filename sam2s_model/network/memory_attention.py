"""The memory attention of SAM2 (arXiv 2408.00714 sec. 4): a frame's features attend to each object's memories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.attention import Values, as_bias, attend, attend_in_blocks
from sam2s_model.acceleration.constants import constant
from sam2s_model.acceleration.folding import Folding
from sam2s_model.acceleration.linear import Joined, Linear
from sam2s_model.network.layer_list import LayerList
from sam2s_model.network.layers import add_norm
from sam2s_model.network.memory_keys import CachedKeys, time_keys, turned_time

KEYS = 512 << 20  # bytes of the keys of all layers, at most, that are there at a time


class MemoryAttention(nn.Module):
    """depth: number of layers; dim: width; memory_dim: width of the memories; ffn_dim: hidden width of the MLP."""

    def __init__(self, depth: int, dim: int, memory_dim: int, ffn_dim: int = 2048):
        super().__init__()
        self.layers = LayerList(MemoryAttentionLayer(dim, memory_dim, ffn_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self._joined = Joined()
        self._time, self._turned_time = Folding(time_keys), Folding(turned_time)

    def forward(
        self,
        features: Tensor,
        position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        allowed: Tensor | None,
        grid: tuple[int, int],
        pointer_tokens: int,
        memory_side: int = 0,
        unplaced: int = 0,
        memory_step: float = 1.0,
        cached: CachedKeys | None = None,
    ) -> Tensor:
        """Condition one frame's features on each object's memories.

        features, position: (1, HW, dim), the frame's, shared by all objects
        memory, memory_position: (B, M, memory_dim), M = frames x tokens + pointer_tokens, pointers last
        allowed: (B, M) bool, False where an object has no memory there; None when all are there
        grid: (H, W) of the features
        memory_side: a frame's memory is a square of that side (EdgeTAM, sec. 3), 0: the features' own grid
        unplaced: tokens of each frame's memory before those, which have no place
        memory_step: places of the features' grid from one token of that square to the next
        cached: for inference, the keys of all memories but the pointers, whose positions alone are asked for then
        Returns (B, HW, dim).
        """
        own = rotary_table(*grid, features.shape[-1], device=features.device)
        mask = None if allowed is None else allowed[:, None, :]
        turn = self.key_rotation(grid, memory_side, unplaced, memory_step)._replace(after=pointer_tokens)
        # x is of the frame, until the first layer has seen the objects' memories
        if not torch.is_grad_enabled():
            x, y = add_norm(features, position, self.layers[0].norm1, alpha=0.1)
            made = memory, memory_position
            if cached:
                made = memory[:, cached.count :], memory_position[:, memory_position.shape[1] - pointer_tokens :]
            return self._condition(x, y, memory, torch.add(*made), mask, own, turn, cached)
        x = torch.add(features, position, alpha=0.1)
        for layer in self.layers:
            x = layer(x, memory, memory + memory_position, mask, own, turn)
        return self.norm(x)

    def _condition(
        self,
        x: Tensor,
        y: Tensor,
        values: Tensor,
        keys: Tensor,
        mask: Tensor | None,
        table: Tensor,
        turn: KeyRotation,
        cached: CachedKeys | None,
    ) -> Tensor:
        """As the loop over the layers, for inference, from x and y, which is x normalised for the first of them.

        What the layers have in common is made once. keys: what they are made of, see `_keys`
        """
        bias = None if mask is None else as_bias(mask, x.dtype)
        shared = Values(values)
        norms = [*(layer.norm1 for layer in self.layers[1:]), self.norm]  # each layer is followed by one
        for layer, turned, norm in zip(self.layers, self._keys(keys, turn, cached), norms, strict=True):
            x, change = layer.condition(x, y, shared, turned, bias, table)
            x, y = add_norm(x, change, norm)
        return y

    def key_rotation(self, grid: tuple[int, int], side: int, unplaced: int, step: float) -> KeyRotation:
        """Say how the keys of spatial memories are turned; arguments as those of `forward`."""
        layer = self.layers[0].cross_attn_image.k_proj
        height, width = (side, side) if side else grid
        table = rotary_table(height, width, layer.out_features, device=layer.weight.device, step=step if side else 1.0)
        return KeyRotation(table, unplaced)

    def keys_to_keep(self, memory: Tensor, place: Tensor, turn: KeyRotation) -> Tensor:
        """Make what `CachedKeys` keep, for inference, of memories (N, tokens, memory_dim) at places (tokens, ...).

        Returns (N, tokens, layers x dim).
        """
        return rotate_(self._joined.product(memory + place, *self._projections), *turn)

    @property
    def key_width(self) -> int:
        """Channels of a token's keys, all layers together."""
        return sum(project.out_features for project in self._projections)

    @property
    def _projections(self) -> list[Linear]:
        return [layer.cross_attn_image.k_proj for layer in self.layers]

    def _keys(self, memory: Tensor, turn: KeyRotation, cached: CachedKeys | None = None) -> Iterator[Tensor]:
        """(B, M, memory_dim) -> the keys of each layer's memories, (B, M, dim), projected and turned.

        cached: other keys, which are before those; M are pointers then
        Together they are one product; not on a CPU, in whose caches those of one layer have room.
        """
        count = memory.shape[1] + (cached.count if cached else 0)
        size = memory.shape[0] * count * self.key_width * memory.element_size()
        if memory.device.type == "cpu" or size > KEYS:
            begin = 0
            for project in self._projections:
                part = slice(begin, begin + project.out_features)
                begin = part.stop
                yield self._after_cached(cached, part, project(memory), turn)
        else:
            everything = self._joined.product(memory, *self._projections)
            keys = self._after_cached(cached, slice(0, self.key_width), everything, turn)
            yield from keys.chunk(len(self.layers), dim=-1)

    def _after_cached(self, cached: CachedKeys | None, part: slice, keys: Tensor, turn: KeyRotation) -> Tensor:
        """Turn keys (B, M, channels), which are only projected; those of pointers stay, and go after cached ones."""
        if cached is None:
            return rotate_(keys, *turn)
        weights = *cached.time, *(project.weight for project in self._projections)
        if kernels.serves(keys):
            time = self._time(*weights, tables=len(cached.time))
            return cached.read_by_kernel(part, time, turn.table, turn.before, keys)
        turned = self._turned_time(turn.table, *weights, tables=len(cached.time), before=turn.before)
        return cached.read(part, turned, keys)


class KeyRotation(NamedTuple):
    """How keys are turned: n x (before + HW) + after of them.

    table: (HW, dim / 2, 2), see `rotary_table`
    before, after: number of keys before each HW, and at the end of all, that stay as they are
    """

    table: Tensor
    before: int = 0
    after: int = 0


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention to the memories, MLP; pre-norm."""

    def __init__(self, dim: int, memory_dim: int, ffn_dim: int):
        super().__init__()
        self.self_attn = RotaryAttention(dim, dim)
        self.cross_attn_image = RotaryAttention(dim, memory_dim)
        self.linear1 = Linear(dim, ffn_dim)
        self.linear2 = Linear(ffn_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, values: Tensor, keys: Tensor, mask: Tensor | None, table: Tensor, turn: KeyRotation
    ) -> Tensor:
        y = self.norm1(x)
        x = x + self.self_attn(y, y, y, table, KeyRotation(table))
        x = x + self.cross_attn_image(self.norm2(x), keys, values, table, turn, mask)
        return x + self.linear2(self.linear1(self.norm3(x), F.relu))

    def condition(
        self, x: Tensor, y: Tensor, values: Values, keys: Tensor, bias: Tensor | None, table: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute `forward` for inference, from x and y, which is x normalised; the two results are still to be added.

        keys: (B, M, dim), projected and turned; bias: (B, 1, M), of the scores
        """
        x, y = add_norm(x, self.self_attn.of_itself(y, table), self.norm2)
        x, y = add_norm(x, self.cross_attn_image.read(y, keys, values, table, bias), self.norm3)
        return x, self.linear2(self.linear1(y, F.relu))


class RotaryAttention(nn.Module):
    """Single-head attention with axial rotary position on queries and keys.

    There are two ways to the same result. The one for training reads like the paper. The other leaves the values as
    they are, since they carry no position: the rows of a softmax sum to 1, so that both projections after it are one,
    of the weighted mean of the values.
    """

    def __init__(self, dim: int, key_dim: int):
        super().__init__()
        self.q_proj = Linear(dim, dim)
        self.k_proj = Linear(key_dim, dim)
        self.v_proj = Linear(key_dim, dim)
        self.out_proj = Linear(dim, dim)
        self._folded, self._joined = Folding(_one_projection), Joined()

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, table: Tensor, turn: KeyRotation, mask: Tensor | None = None
    ) -> Tensor:
        """Q (1 or B, HW, dim) and its rotary table, k and v (B, keys, key_dim), mask (B, 1, keys) -> (B, HW, dim)."""
        q, k = rotate_(self.q_proj(q), table), rotate_(self.k_proj(k), *turn)
        if torch.is_grad_enabled():
            return self.out_proj(attend(q, k, self.v_proj(v), mask))
        return self._projected(q, k, v, mask)

    def of_itself(self, x: Tensor, table: Tensor) -> Tensor:
        """X (B, HW, dim), each place looks at all, for inference -> (B, HW, dim)"""
        q, k = rotate_(self._joined.product(x, self.q_proj, self.k_proj), table).chunk(2, dim=-1)
        return self._projected(q, k, x)

    def read(self, q: Tensor, k: Tensor, v: Values, table: Tensor, bias: Tensor | None) -> Tensor:
        """Attend, for inference: q (1 or B, HW, dim), k (B, keys, dim) projected and rotated, bias (B, 1, keys)."""
        return self._projected(rotate_(self.q_proj(q), table), k, v, bias)

    def _projected(self, q: Tensor, k: Tensor, v: Tensor | Values, mask: Tensor | None = None) -> Tensor:
        weight, bias = self._folded(*self.v_proj.parameters(), *self.out_proj.parameters())
        if q.device.type != "cpu" or torch.compiler.is_compiling():
            return F.linear(attend(q, k, v, mask), weight, bias)
        return F.linear(attend_in_blocks(q, k, v.plain if isinstance(v, Values) else v, mask), weight, bias)


def _one_projection(value: Tensor, value_bias: Tensor, out: Tensor, out_bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and biases of a projection and of the one after it -> those of both."""
    bias = out.float() @ value_bias.float() + out_bias.float()
    return (out.float() @ value.float()).to(out.dtype), bias.to(out.dtype)


@constant
def rotary_table(height: int, width: int, dim: int, device=None, theta: float = 10000.0, step: float = 1.0) -> Tensor:
    """(HW, dim / 2, 2) fp32, cosines and sines: the first half of the pairs turns with x, the second with y.

    step: side of a cell, in cells of the grid that is turned with a step of 1; a place is its cell's centre
    """
    frequency = 1.0 / theta ** (torch.arange(0, dim, 4, device=device, dtype=torch.float32) / dim)
    place = torch.arange(height * width, device=device)
    x, y = (((cell + 0.5) * step - 0.5).float() for cell in (place % width, place // width))
    angle = torch.cat((x[:, None] * frequency, y[:, None] * frequency), dim=1)
    return torch.stack((angle.cos(), angle.sin()), dim=2)


def rotate_(x: Tensor, table: Tensor, before: int = 0, after: int = 0) -> Tensor:
    """Rotate neighbouring channel pairs of (B, n x (before + HW) + after, parts x dim) by the table (HW, dim / 2, 2).

    All n frames and all parts are rotated alike, in place; the first `before` tokens of each frame, and the last
    `after` tokens of all, stay as they are. Two frames of 4 places, before=1, after=2: tokens 0, 5, 10 and 11 stay,
    token 1 + i and token 6 + i are rotated by row i of the table.
    Returns x; a compiler, since few know complex numbers, is given the same in real numbers, as a new tensor.
    """
    if kernels.serves(x):
        return kernels.rotate_(x, table, before, after)
    end = x.shape[1] - after
    frames = x[:, :end].unflatten(1, (-1, before + len(table)))
    placed = frames[:, :, before:]
    pairs = placed.float().unflatten(3, (-1, table.shape[1], 2))  # in fp32 those of x itself
    if torch.compiler.is_compiling():
        cosine, sine = table[:, None].unbind(-1)
        even, odd = pairs.unbind(-1)
        turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1).flatten(3).to(x.dtype)
        return torch.cat((torch.cat((frames[:, :, :before], turned), dim=2).flatten(1, 2), x[:, end:]), dim=1)
    turned = torch.view_as_complex(pairs)
    turned *= torch.view_as_complex(table)[:, None]
    if x.dtype != torch.float32:
        placed.copy_(torch.view_as_real(turned).flatten(3))
    return x
