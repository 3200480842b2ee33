"""The device code of `windows`. Imported where Triton is, see `triton_kernels`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def to_windows(
    x, filling, out, tokens, height, width, lines, columns, side, heads, depth, to_image, to_row, to_column,
    channels, each, FILLED: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """See `windows.to_windows`. A program copies ROWS tokens of the windows, WIDTH of their channels."""
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    area = side * side
    window, place = token // area, token % area
    y = window // columns % lines * side + place // side
    column = window % columns * side + place % side
    wanted = (token < tokens)[:, None] & (channel < channels)[None, :]
    there = wanted & ((y < height) & (column < width))[:, None]
    image = (window // (lines * columns)).to(tl.int64)
    begin = image * to_image + y.to(tl.int64) * to_row + column.to(tl.int64) * to_column
    values = tl.load(x + begin[:, None] + channel[None, :], mask=there, other=0.0)
    if FILLED:
        around = tl.load(filling + channel, mask=channel < channels, other=0.0)
        values = tl.where(there, values, around[None, :])
    part, of_part = channel // each, channel % each
    windows = tokens // area
    # (part, window, head, place, depth)
    first = (part.to(tl.int64)[None, :] * windows + window[:, None]) * heads + (of_part // depth)[None, :]
    at = out + (first * area + place[:, None]) * depth + (of_part % depth)[None, :]
    tl.store(at, values, mask=wanted)


@triton.jit
def from_windows(
    x, out, tokens, height, width, lines, columns, side, depth, to_window, to_head, to_place, channels,
    WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """See `windows.from_windows`. A program copies ROWS tokens of the images, WIDTH of their channels."""
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    y, column = token // width % height, token % width
    window = (token // (width * height) * lines + y // side) * columns + column // side
    place = y % side * side + column % side
    begin = window.to(tl.int64) * to_window + place.to(tl.int64) * to_place
    head = (channel // depth).to(tl.int64) * to_head + channel % depth
    wanted = (token < tokens)[:, None] & (channel < channels)[None, :]
    values = tl.load(x + begin[:, None] + head[None, :], mask=wanted, other=0.0)
    tl.store(out + token.to(tl.int64)[:, None] * channels + channel[None, :], values, mask=wanted)
