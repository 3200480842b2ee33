"""The device code of `kernels`. Only this module imports Triton, which takes a second and is not always installed."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rotate(
    x,
    table,
    tokens,
    period,
    before,
    turned,
    to_object,
    to_token,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """See `kernels.rotate_`. A program rotates ROWS tokens of a part of an object; WIDTH: PAIRS as a power of 2."""
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    place = token % period - before
    pair = tl.arange(0, WIDTH)
    wanted = ((token < turned) & (token < tokens) & (place >= 0))[:, None] & (pair < PAIRS)[None, :]
    angle = place[:, None] * (2 * PAIRS) + 2 * pair[None, :]
    cosine, sine = tl.load(table + angle, mask=wanted), tl.load(table + angle + 1, mask=wanted)
    begin = tl.program_id(2).to(tl.int64) * to_object + tl.program_id(1) * 2 * PAIRS
    at = x + begin + token[:, None].to(tl.int64) * to_token + 2 * pair[None, :]
    even, odd = tl.load(at, mask=wanted).to(tl.float32), tl.load(at + 1, mask=wanted).to(tl.float32)
    tl.store(at, (even * cosine - odd * sine).to(x.dtype.element_ty), mask=wanted)
    tl.store(at + 1, (even * sine + odd * cosine).to(x.dtype.element_ty), mask=wanted)


@triton.jit
def read_keys(
    kept, rows, columns, codes, time, table, out, frames, tokens, before, to_row, to_slot, to_token, to_code, to_object,
    width, PAIRS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """See `kernels.read_keys`. A program reads ROWS tokens of one layer's keys of one memory; WIDTH: as of `rotate`."""
    token, pair = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    there = pair < PAIRS
    wanted = (token < tokens)[:, None] & there[None, :]
    memory, i = tl.program_id(2), tl.program_id(2) // frames
    channel = tl.program_id(1) * 2 * PAIRS + 2 * pair
    age = time + tl.load(codes + memory) * to_code + channel
    first = tl.load(age, mask=there, other=0.0).to(tl.float32)[None, :]
    second = tl.load(age + 1, mask=there, other=0.0).to(tl.float32)[None, :]
    place = token - before
    turned = wanted & (place >= 0)[:, None]
    angle = table + place[:, None] * (2 * PAIRS) + 2 * pair[None, :]
    cosine, sine = tl.load(angle, mask=turned, other=1.0), tl.load(angle + 1, mask=turned, other=0.0)
    begin = kept + tl.load(rows + i) * to_row + tl.load(columns + memory) * to_slot
    at = begin + token[:, None].to(tl.int64) * to_token + channel[None, :]
    even = tl.load(at, mask=wanted, other=0.0).to(tl.float32) + first * cosine - second * sine
    odd = tl.load(at + 1, mask=wanted, other=0.0).to(tl.float32) + first * sine + second * cosine
    to = out + i.to(tl.int64) * to_object
    to += ((memory % frames) * tokens + token[:, None]).to(tl.int64) * width + channel[None, :]
    tl.store(to, even.to(out.dtype.element_ty), mask=wanted)
    tl.store(to + 1, odd.to(out.dtype.element_ty), mask=wanted)


@triton.jit
def add_norm(
    x,
    y,
    weight,
    bias,
    total,
    normed,
    rows,
    shared,
    eps,
    alpha,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """See `kernels.add_norm`. x has `shared` rows, which all of the others see."""
    row, channel = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    there = channel < CHANNELS
    inside = (row < rows)[:, None] & there[None, :]
    at = row[:, None] * CHANNELS + channel[None, :]
    first = tl.load(x + (row % shared)[:, None] * CHANNELS + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    added = (first + alpha * tl.load(y + at, mask=inside, other=0.0).to(tl.float32)).to(total.dtype.element_ty)
    tl.store(total + at, added, mask=inside)
    values = added.to(tl.float32)  # as they are stored: what is normalised is what the next layer adds to
    centred = tl.where(inside, values - tl.sum(values, 1)[:, None] / CHANNELS, 0.0)
    deviation = tl.sqrt(tl.sum(centred * centred, 1) / CHANNELS + eps)
    scale = tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    result = centred / deviation[:, None] * scale[None, :] + shift[None, :]
    tl.store(normed + at, result.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def norm_place(
    x, y, place, weight, bias, normed, placed, rows, eps,
    ADDED: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """See `kernels.norm_place`."""
    row, channel = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    there = channel < CHANNELS
    inside = (row < rows)[:, None] & there[None, :]
    at = row[:, None] * CHANNELS + channel[None, :]
    values = tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
    if ADDED:
        values = (tl.load(x + at, mask=inside, other=0.0).to(tl.float32) + values).to(x.dtype.element_ty).to(tl.float32)
    centred = tl.where(inside, values - tl.sum(values, 1)[:, None] / CHANNELS, 0.0)
    deviation = tl.sqrt(tl.sum(centred * centred, 1) / CHANNELS + eps)
    scale = tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    result = (centred / deviation[:, None] * scale[None, :] + shift[None, :]).to(normed.dtype.element_ty)
    tl.store(normed + at, result, mask=inside)
    moved = result.to(tl.float32) + tl.load(place + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(placed + at, moved.to(placed.dtype.element_ty), mask=inside)


@triton.jit
def norm_gelu(
    x, weight, bias, out, places, to_image, to_channel, to_place, eps,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, GELU: tl.constexpr,
):  # fmt: skip
    """See `kernels.norm_gelu`. A program takes ROWS places of one image; in out, channels are last."""
    place, channel = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    there = channel < CHANNELS
    inside = (place < places)[:, None] & there[None, :]
    begin = tl.program_id(1).to(tl.int64) * to_image
    at = begin + place[:, None].to(tl.int64) * to_place + channel[None, :].to(tl.int64) * to_channel
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, values - tl.sum(values, 1)[:, None] / CHANNELS, 0.0)
    deviation = tl.sqrt(tl.sum(centred * centred, 1) / CHANNELS + eps)
    scale = tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)
    result = centred / deviation[:, None] * scale[None, :] + shift[None, :]
    if GELU:
        result = result.to(out.dtype.element_ty).to(tl.float32)  # as torch rounds between the two
        result = 0.5 * result * (1 + tl.erf(result * 0.7071067811865476))
    to = (
        out
        + tl.program_id(1).to(tl.int64) * places * CHANNELS
        + place[:, None].to(tl.int64) * CHANNELS
        + channel[None, :]
    )
    tl.store(to, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _neighbours(number, pixel, inside, height, width, LOWEST: tl.constexpr):
    """Find the greatest number of the 3 x 3 pixels around each pixel, or the least one that is not 0."""
    y, x = pixel // width, pixel % width
    found = tl.load(number + pixel, mask=inside, other=0)
    for dy in tl.static_range(-1, 2):
        for dx in tl.static_range(-1, 2):
            there = inside & (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
            other = tl.load(number + pixel + dy * width + dx, mask=there, other=0)
            if LOWEST:  # noqa: SIM108 (a compile-time branch: only one of both is compiled)
                found = tl.where((other > 0) & (other < found), other, found)
            else:
                found = tl.maximum(found, other)
    return found


@triton.jit
def fill_holes(logits, out, numbers, sizes, height, width, area, filled, BLOCK: tl.constexpr):
    """See `holes.fill_holes`. A program fills one mask; numbers: 2 x height x width a mask; sizes: one more."""
    pixels = height * width
    mask = tl.program_id(0).to(tl.int64)
    logits += mask * pixels
    out += mask * pixels
    numbers += mask * 2 * pixels
    sizes += mask * (pixels + 1)
    for begin in range(0, pixels, BLOCK):
        pixel = begin + tl.arange(0, BLOCK)
        inside = pixel < pixels
        background = tl.load(logits + pixel, mask=inside, other=1.0) <= 0
        tl.store(numbers + pixel, tl.where(background, pixel + 1, 0), mask=inside)
        tl.store(sizes + pixel + 1, tl.zeros_like(pixel), mask=inside)
    tl.debug_barrier()
    for step in range(0, area - 1):
        source, target = numbers + (step % 2) * pixels, numbers + ((step + 1) % 2) * pixels
        for begin in range(0, pixels, BLOCK):
            pixel = begin + tl.arange(0, BLOCK)
            inside = pixel < pixels
            own = tl.load(source + pixel, mask=inside, other=0)
            highest = _neighbours(source, pixel, inside, height, width, False)
            tl.store(target + pixel, tl.where(own > 0, highest, 0), mask=inside)
        tl.debug_barrier()
    last = numbers + ((area - 1) % 2) * pixels
    for begin in range(0, pixels, BLOCK):
        pixel = begin + tl.arange(0, BLOCK)
        inside = pixel < pixels
        own = tl.load(last + pixel, mask=inside, other=0)
        highest = _neighbours(last, pixel, inside, height, width, False)
        lowest = _neighbours(last, pixel, inside, height, width, True)
        weight = tl.where((highest != own) | (lowest != own), area + 2, 1)  # one such pixel makes a group too large
        tl.atomic_add(sizes + own, weight, mask=inside & (own > 0))
    tl.debug_barrier()
    for begin in range(0, pixels, BLOCK):
        pixel = begin + tl.arange(0, BLOCK)
        inside = pixel < pixels
        own = tl.load(last + pixel, mask=inside, other=0)
        size = tl.load(sizes + own, mask=inside & (own > 0), other=area + 1, cache_modifier=".cg")
        value = tl.load(logits + pixel, mask=inside, other=0.0)
        tl.store(out + pixel, tl.where((own > 0) & (size <= area), filled, value), mask=inside)


@triton.jit
def _bilinear(mask, pixel, inside, height, width, out_height, out_width):
    """Sample a mask's logits at pixels of an image of another size, as torch does without aligned corners."""
    row, column = pixel // out_width, pixel % out_width
    y = tl.maximum((row.to(tl.float32) + 0.5) * (height * 1.0 / out_height) - 0.5, 0.0)
    x = tl.maximum((column.to(tl.float32) + 0.5) * (width * 1.0 / out_width) - 0.5, 0.0)
    top, left = y.to(tl.int32), x.to(tl.int32)
    down, right = y - top.to(tl.float32), x - left.to(tl.float32)
    bottom, beyond = tl.minimum(top + 1, height - 1), tl.minimum(left + 1, width - 1)
    upper = tl.load(mask + top * width + left, mask=inside, other=0.0) * (1 - right)
    upper += tl.load(mask + top * width + beyond, mask=inside, other=0.0) * right
    lower = tl.load(mask + bottom * width + left, mask=inside, other=0.0) * (1 - right)
    lower += tl.load(mask + bottom * width + beyond, mask=inside, other=0.0) * right
    return upper * (1 - down) + lower * down


@triton.jit
def compose(
    logits, present, labels, out, objects, height, width, out_height, out_width, absent, BLOCK: tl.constexpr
):  # fmt: skip
    """See `outputs.compose`: masks at the size of the image, and the label of the greatest above 0."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < out_height * out_width
    best = tl.full((BLOCK,), 0.0, tl.float32)
    label = tl.zeros((BLOCK,), tl.int32)
    for i in range(0, objects):
        value = _bilinear(logits + i * height * width, pixel, inside, height, width, out_height, out_width)
        value = tl.where(tl.load(present + i) != 0, value, absent)
        label = tl.where(value > best, tl.load(labels + i).to(tl.int32), label)  # of equals the first
        best = tl.maximum(best, value)
    tl.store(out + pixel, label.to(tl.uint8), mask=inside)


@triton.jit
def mask_to_remember(logits, out, height, width, out_height, out_width, BINARISE: tl.constexpr, BLOCK: tl.constexpr):
    """See `kernels.mask_to_remember`."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pixels, i = out_height * out_width, tl.program_id(1).to(tl.int64)
    inside = pixel < pixels
    value = _bilinear(logits + i * height * width, pixel, inside, height, width, out_height, out_width)
    share = tl.where(value > 0, 1.0, 0.0) if BINARISE else 1 / (1 + tl.exp(-value))
    tl.store(out + i * pixels + pixel, (share * 20 - 10).to(out.dtype.element_ty), mask=inside)


@triton.jit
def judge(
    features, logits, present, index, prototype, taught, stamps,
    appearances, similarity, asked, rejected, remains,
    places, columns, width, to_channel, to_place, lost_after, least, nan,
    CELL: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """See `kernels.judge`. A program takes one object; CELL: cells of the mask along each side of a place."""
    i = tl.program_id(0)
    channel = tl.arange(0, WIDTH)
    there = channel < CHANNELS
    mask = logits + i.to(tl.int64) * places * CELL * CELL
    summed, total = tl.zeros((WIDTH,), tl.float32), tl.zeros((WIDTH,), tl.float32)
    area = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, places, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        inside = place < places
        corner = (place // columns) * CELL * width + (place % columns) * CELL
        share = tl.zeros((BLOCK,), tl.float32)
        for dy in tl.static_range(CELL):
            for dx in tl.static_range(CELL):
                value = tl.load(mask + corner + dy * width + dx, mask=inside, other=0.0)
                share += (value > 0).to(tl.float32) / (CELL * CELL)
        at = features + place[:, None].to(tl.int64) * to_place + channel[None, :].to(tl.int64) * to_channel
        values = tl.load(at, mask=inside[:, None] & there[None, :], other=0.0).to(tl.float32)
        summed += tl.sum(values * share[:, None], 0)
        total += tl.sum(values, 0)
        area += share
    # what is summed of features without their mean, since both are linear
    look = summed - total / places * tl.sum(area, 0)
    look = look / tl.maximum(tl.sqrt(tl.sum(look * look, 0)), 1e-12)
    tl.store(appearances + i * CHANNELS + channel, look, mask=there)
    row = tl.load(index + i)
    known = tl.load(prototype + row * CHANNELS + channel, mask=there, other=0.0)
    lengths = tl.maximum(tl.sqrt(tl.sum(look * look, 0)), 1e-8) * tl.maximum(tl.sqrt(tl.sum(known * known, 0)), 1e-8)
    cosine = tl.sum(look * known, 0) / lengths
    lost = tl.load(stamps + 2 * row + 1) - tl.load(stamps + 2 * row) > lost_after
    here = tl.load(present + i) != 0
    compared = lost & here & (tl.load(taught + row) > 0)
    tl.store(asked + i, compared.to(tl.uint8))
    tl.store(similarity + i, tl.where(compared, cosine, nan))
    other = compared & ((cosine >= least) == 0)
    tl.store(rejected + i, other.to(tl.uint8))
    tl.store(remains + i, (here & (other == 0)).to(tl.uint8))


@triton.jit
def learn(
    appearances, logits, iou, present, index, frame, stamp, prototype, taught, stamps, past_prototype,
    past_taught, past_stamps, ring, pixels, least, memory,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """See `kernels.learn`. A program takes one object."""
    i = tl.program_id(0)
    row = tl.load(index + i)
    channel = tl.arange(0, WIDTH)
    there = channel < CHANNELS
    found = tl.zeros((BLOCK,), tl.int32)
    for begin in range(0, pixels, BLOCK):
        pixel = begin + tl.arange(0, BLOCK)
        found += (tl.load(logits + i.to(tl.int64) * pixels + pixel, mask=pixel < pixels, other=0.0) > 0).to(tl.int32)
    seen = (tl.load(present + i) != 0) & (tl.sum(found, 0) > 0)
    sure = seen & (tl.load(iou + i) >= least)
    frames = tl.load(taught + row)
    known = tl.load(prototype + row * CHANNELS + channel, mask=there, other=0.0)
    step = (tl.load(appearances + i * CHANNELS + channel, mask=there, other=0.0) - known) / tl.minimum(
        frames + 1, memory
    ).to(tl.float32)
    known = tl.where(sure, known + step, known)
    frames += sure.to(tl.int64)
    now = tl.load(stamp)
    visible = tl.where(seen, now, tl.load(stamps + 2 * row))
    tl.store(prototype + row * CHANNELS + channel, known, mask=there)
    tl.store(taught + row, frames)
    tl.store(stamps + 2 * row, visible)
    tl.store(stamps + 2 * row + 1, now)
    place = row * ring + tl.load(frame) % ring
    tl.store(past_prototype + place * CHANNELS + channel, known, mask=there)
    tl.store(past_taught + place, frames)
    tl.store(past_stamps + 2 * place, visible)
    tl.store(past_stamps + 2 * place + 1, now)
