"""The device code of `masks`. Imported where Triton is, see `triton_kernels`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def boxes(masks, out, height, width, BLOCK: tl.constexpr):
    """See `masks.boxes`. A program measures one mask, of bytes."""
    i = tl.program_id(0).to(tl.int64)
    pixels = height * width
    left, top = tl.full((BLOCK,), 0, tl.int32) + width, tl.full((BLOCK,), 0, tl.int32) + height
    right, bottom = tl.zeros((BLOCK,), tl.int32), tl.zeros((BLOCK,), tl.int32)
    for begin in range(0, pixels, BLOCK):
        pixel = begin + tl.arange(0, BLOCK)
        there = tl.load(masks + i * pixels + pixel, mask=pixel < pixels, other=0) != 0
        y, x = pixel // width, pixel % width
        left, right = tl.where(there, tl.minimum(left, x), left), tl.where(there, tl.maximum(right, x + 1), right)
        top, bottom = tl.where(there, tl.minimum(top, y), top), tl.where(there, tl.maximum(bottom, y + 1), bottom)
    x1, y1 = tl.max(right, 0), tl.max(bottom, 0)
    tl.store(out + 4 * i, tl.where(x1 > 0, tl.min(left, 0), 0).to(tl.float32))
    tl.store(out + 4 * i + 1, tl.where(x1 > 0, tl.min(top, 0), 0).to(tl.float32))
    tl.store(out + 4 * i + 2, x1.to(tl.float32))
    tl.store(out + 4 * i + 3, y1.to(tl.float32))


@triton.jit
def agreement(logits, soft, out, masks, pixels, missed, BLOCK: tl.constexpr):
    """See `masks.agreement`. A program compares one of the `masks` of an object with the object's map."""
    i = tl.program_id(0).to(tl.int64)
    place, logits = soft + i // masks * pixels, logits + i * pixels
    common, shown = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    expected = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, pixels, BLOCK):
        pixel = begin + tl.arange(0, BLOCK)
        inside = pixel < pixels
        share = tl.load(place + pixel, mask=inside, other=0.0)
        there = tl.load(logits + pixel, mask=inside, other=0.0) > 0
        common += tl.where(there, share, 0.0)
        shown += there.to(tl.float32)
        expected += share
    both, beyond = tl.sum(common, 0), tl.sum(shown, 0) - tl.sum(common, 0)
    lost = tl.sum(expected, 0) - both
    tl.store(out + i, both / tl.maximum(both + beyond + missed * lost, 1.0))
