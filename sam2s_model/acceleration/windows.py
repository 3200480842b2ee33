"""Windows of an image's tokens, and back: one Triton kernel each, in place of two or three copies by torch.

As those of `kernels`, they are operators of torch, for tensors that `kernels.serves`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sam2s_model.device import on_its_gpu

TILE = 4096  # numbers that a program holds at a time
CHANNELS = 256  # of them at most, side by side


@torch.library.custom_op(
    "sam2s::to_windows",
    mutates_args=(),
    schema="(Tensor x, int side, int heads, int parts, Tensor? filling) -> Tensor",
)
@on_its_gpu
def to_windows(x: Tensor, side: int, heads: int, parts: int, filling: Tensor | None) -> Tensor:
    """As `hiera.partition`, whose arguments it takes: (parts, B * windows, heads, side * side, C / heads)."""
    from sam2s_model.acceleration import triton_windows as kernels

    x = x if x.stride(3) == 1 else x.contiguous()
    out = _room_for_windows(x, side, heads, parts)
    batch, height, width, channels = x.shape
    lines, columns = -(-height // side), -(-width // side)
    tokens = batch * lines * columns * side * side
    block, rows = _tile(channels)
    kernels.to_windows[(-(-tokens // rows), -(-channels // block))](
        x, x if filling is None else filling, out, tokens, height, width, lines, columns, side, heads, out.shape[4],
        *x.stride()[:3], channels, channels // parts, filling is not None, block, rows,
    )  # fmt: skip
    return out


@to_windows.register_fake
def _room_for_windows(x: Tensor, side: int, heads: int, parts: int, filling: Tensor | None = None) -> Tensor:
    batch, height, width, channels = x.shape
    windows = batch * (-(-height // side)) * (-(-width // side))
    return x.new_empty(parts, windows, heads, side * side, channels // (parts * heads))


@torch.library.custom_op(
    "sam2s::from_windows", mutates_args=(), schema="(Tensor windows, int side, int height, int width) -> Tensor"
)
@on_its_gpu
def from_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """Undo `to_windows` for one part, (B * windows, heads, side * side, d) -> (B, height, width, heads * d)."""
    from sam2s_model.acceleration import triton_windows as kernels

    windows = windows if windows.stride(3) == 1 else windows.contiguous()
    out = _room_for_images(windows, side, height, width)
    channels, lines, columns = out.shape[3], -(-height // side), -(-width // side)
    tokens = out.numel() // channels
    block, rows = _tile(channels)
    kernels.from_windows[(-(-tokens // rows), -(-channels // block))](
        windows, out, tokens, height, width, lines, columns, side, windows.shape[3], *windows.stride()[:3], channels,
        block, rows,
    )  # fmt: skip
    return out


@from_windows.register_fake
def _room_for_images(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    images = len(windows) // (-(-height // side) * -(-width // side))
    return windows.new_empty(images, height, width, windows.shape[1] * windows.shape[3])


def _tile(channels: int) -> tuple[int, int]:
    """Channels, a power of two, and tokens of a program."""
    block = min(CHANNELS, 1 << (channels - 1).bit_length())
    return block, max(1, TILE // block)
