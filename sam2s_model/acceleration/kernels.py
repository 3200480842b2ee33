"""Triton kernels for CUDA, each in place of a chain of small torch kernels that take less time than their launches.

Each is an operator of torch, so that compilers and exporters take it as one. Where Triton is missing, or cannot
compile for the GPU, `serves` returns False, and the caller uses torch's own operators.
"""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from torch import Tensor

from sam2s_model.device import on_its_gpu

log = logging.getLogger(__name__)
TILE = 4096  # numbers that a program holds at a time


def serves(x: Tensor) -> bool:
    """Whether the kernels can be used for this tensor: on CUDA, for inference, and not while torch.compile traces.

    Raises torch.OutOfMemoryError where there is no room to try them.
    """
    if x.device.type != "cuda" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return _tried(x.device, x.dtype if x.dtype.is_floating_point else torch.float32)  # of masks, too


@lru_cache
def _tried(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether each kernel can be made for a GPU and run there."""
    try:
        from sam2s_model.acceleration import triton_kernels  # noqa: F401, before anything is launched that needs it
        from sam2s_model.acceleration.masks import agreement, boxes
        from sam2s_model.acceleration.windows import from_windows, to_windows

        x, one = torch.zeros(1, 16, 16, device=device, dtype=dtype), torch.ones(16, device=device, dtype=dtype)
        rotate_(x, torch.zeros(16, 8, 2, device=device))
        slot = torch.zeros(1, 1, device=device, dtype=torch.int64)
        read_keys(x[None], slot[0], slot, slot, x[0], torch.zeros(16, 8, 2, device=device), 0, 1)
        add_norm(x, x, one, one, 1e-6)
        norm_place(x, x, x, one, one, 1e-6)
        norm_gelu(x[:, :, :, None], one, one, 1e-6, True)
        masks = torch.zeros(1, 1, 16, 16, device=device)
        fill_holes(masks, 2, 0.1)
        shapes: tuple[tuple[int, ...], ...] = (), (1,), (1,), (1, 2)
        stamp, rows, taught, stamps = (torch.zeros(shape, device=device, dtype=torch.int64) for shape in shapes)
        appearances, iou = torch.zeros(1, 16, device=device), torch.zeros(1, device=device)
        present, known = iou > 0, (appearances.clone(), taught, stamps)
        judge(x[:, :, :, None].view(1, 16, 4, 4), masks, present, rows, *known, 1, 0.5)
        past = (one[:, None].clone() for one in known)
        learn(appearances, masks, iou, present, rows, stamp, stamp, *known, *past, 0.5, 2)
        mask_to_remember(masks, 32, 32, False, dtype)
        compose(masks, masks[:, 0, 0, 0] > 0, torch.ones(1, device=device, dtype=torch.uint8), 32, 32, -1.0)
        boxes(masks > 0), agreement(masks, masks, 1.0)
        from_windows(to_windows(x[..., None], 4, 1, 1, None)[0], 4, 16, 16)
    except torch.OutOfMemoryError:  # which may have passed when it is tried again
        raise
    except Exception as problem:  # of Triton, of the compilers that it starts, of a driver that is too old
        log.warning("torch's own kernels are launched one by one, since Triton cannot serve %s: %s", device, problem)
        return False
    return True


@torch.library.custom_op(
    "sam2s::rotate_", mutates_args=("x",), schema="(Tensor(a!) x, Tensor table, int before, int after) -> ()"
)
@on_its_gpu
def _rotate_(x: Tensor, table: Tensor, before: int, after: int) -> None:
    from sam2s_model.acceleration import triton_kernels as kernels

    objects, tokens, width = x.shape
    table, pairs = table.contiguous(), table.shape[1]
    padded, rows = _power(pairs), max(1, TILE // 4 // _power(pairs))
    grid = -(-tokens // rows), width // (2 * pairs), objects
    period, turned = before + len(table), tokens - after
    kernels.rotate[grid](x, table, tokens, period, before, turned, x.stride(0), x.stride(1), pairs, padded, rows)


@_rotate_.register_fake
def _(x: Tensor, table: Tensor, before: int, after: int) -> None:
    pass


def rotate_(x: Tensor, table: Tensor, before: int = 0, after: int = 0) -> Tensor:
    """As `memory_attention.rotate_`, whose arguments it takes."""
    _rotate_(x, table, before, after)
    return x


@torch.library.custom_op(
    "sam2s::read_keys",
    mutates_args=(),
    schema="(Tensor kept, Tensor rows, Tensor columns, Tensor codes, Tensor time, Tensor table, int before, int after) "
    "-> Tensor",
)
@on_its_gpu
def read_keys(
    kept: Tensor, rows: Tensor, columns: Tensor, codes: Tensor, time: Tensor, table: Tensor, before: int, after: int
) -> Tensor:
    """As `memory_keys.CachedKeys.read`, of keys (capacity, slots, tokens, channels) and time (codes, channels).

    table, before: see `rotate_`; after: number of keys at the end of each object's that are left to the caller
    """
    from sam2s_model.acceleration import triton_kernels as kernels

    rows, columns, codes, table = _dense(rows, columns, codes, table)
    (objects, frames), (tokens, width), pairs = columns.shape, kept.shape[2:], table.shape[1]
    out = kept.new_empty(objects, frames * tokens + after, width)
    padded, together = _power(pairs), max(1, TILE // 4 // _power(pairs))
    kernels.read_keys[-(-tokens // together), width // (2 * pairs), objects * frames](
        kept, rows, columns, codes, time, table, out, frames, tokens, before, kept.stride(0), kept.stride(1),
        kept.stride(2), time.stride(0), out.stride(0), width, pairs, padded, together,
    )  # fmt: skip
    return out


@read_keys.register_fake
def _(kept, rows, columns, codes, time, table, before, after):
    objects, frames = columns.shape
    return kept.new_empty(objects, frames * kept.shape[2] + after, kept.shape[3])


@torch.library.custom_op(
    "sam2s::add_norm",
    mutates_args=(),
    schema="(Tensor x, Tensor y, Tensor weight, Tensor bias, float eps, float alpha=1.0) -> (Tensor, Tensor)",
)
@on_its_gpu
def add_norm(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, eps: float, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    """X (1 or B, ..., C) + alpha y (B, ..., C), and its normalisation over the channels.

    Raises ValueError for other shapes, of which the kernel would know nothing.
    """
    from sam2s_model.acceleration import triton_kernels as kernels

    if x.shape not in (y.shape, (1, *y.shape[1:])):
        raise ValueError(f"x is {tuple(x.shape)}, y {tuple(y.shape)}: expected x like y, or one for all of its batch")
    x, y = x.contiguous(), y.contiguous()
    channels = y.shape[-1]
    total, normed, rows = torch.empty_like(y), torch.empty_like(y), y.numel() // channels
    together = max(1, TILE // _power(channels) // 4)
    shared = x.numel() // channels
    kernels.add_norm[(-(-rows // together),)](
        x, y, weight, bias, total, normed, rows, shared, eps, alpha, channels, _power(channels), together
    )
    return total, normed


@add_norm.register_fake
def _(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, eps: float, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    return y.new_empty(y.shape), y.new_empty(y.shape)


@torch.library.custom_op(
    "sam2s::norm_place",
    mutates_args=(),
    schema="(Tensor? x, Tensor y, Tensor place, Tensor weight, Tensor bias, float eps) -> (Tensor, Tensor)",
)
@on_its_gpu
def norm_place(
    x: Tensor | None, y: Tensor, place: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """X + y, both (..., C), normalised over the channels, and that with its place (..., C) added. x: None for zeros

    Raises ValueError for other shapes, of which the kernel would know nothing.
    """
    from sam2s_model.acceleration import triton_kernels as kernels

    shapes = [tuple(t.shape) for t in (y, place, y if x is None else x)]
    if len(set(shapes)) > 1:
        raise ValueError(f"y, place and x are {shapes}: expected the same shape")
    y, place, channels = y.contiguous(), place.contiguous(), y.shape[-1]
    normed, placed, rows = torch.empty_like(y), torch.empty_like(y), y.numel() // channels
    together = max(1, TILE // _power(channels) // 4)
    kernels.norm_place[(-(-rows // together),)](
        y if x is None else x.contiguous(), y, place, weight, bias, normed, placed, rows, eps,
        x is not None, channels, _power(channels), together,
    )  # fmt: skip
    return normed, placed


@norm_place.register_fake
def _(x: Tensor | None, y: Tensor, place: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return y.new_empty(y.shape), y.new_empty(y.shape)


@torch.library.custom_op(
    "sam2s::norm_gelu", mutates_args=(), schema="(Tensor x, Tensor weight, Tensor bias, float eps, bool gelu) -> Tensor"
)
@on_its_gpu
def norm_gelu(x: Tensor, weight: Tensor, bias: Tensor, eps: float, gelu: bool) -> Tensor:
    """Normalise (B, C, H, W) over the channels, with a GELU after it if asked for; the result is channels-last."""
    from sam2s_model.acceleration import triton_kernels as kernels

    x = _places_in_a_row(x)
    out, (batch, channels, height, width) = torch.empty_like(x, memory_format=torch.channels_last), x.shape
    together = max(1, TILE // _power(channels) // 2)
    kernels.norm_gelu[(-(-height * width // together), batch)](
        x, weight, bias, out, height * width, x.stride(0), x.stride(1), x.stride(3) if width > 1 else x.stride(2), eps,
        channels, _power(channels), together, gelu,
    )  # fmt: skip
    return out


@norm_gelu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float, gelu: bool) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _places_in_a_row(x: Tensor) -> Tensor:
    """(B, C, H, W) whose places are as far apart at the end of a line as within it, and which is dense."""
    dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    return x if dense else x.contiguous()


@torch.library.custom_op(
    "sam2s::fill_holes", mutates_args=(), schema="(Tensor logits, int area, float filled) -> Tensor"
)
@on_its_gpu
def fill_holes(logits: Tensor, area: int, filled: float) -> Tensor:
    """As `holes.fill_holes` for an area of at least 1; the logit that holes get is given."""
    from sam2s_model.acceleration import triton_kernels as kernels

    logits = logits.contiguous()
    n, _, height, width = logits.shape
    out = torch.empty_like(logits)
    scratch = torch.empty(n * (3 * height * width + 1), dtype=torch.int32, device=logits.device)
    numbers, sizes = scratch.split((2 * n * height * width, n * (height * width + 1)))
    kernels.fill_holes[(n,)](logits, out, numbers, sizes, height, width, area, filled, TILE, num_warps=32)
    return out


@fill_holes.register_fake
def _(logits: Tensor, area: int, filled: float) -> Tensor:
    return logits.new_empty(logits.shape)


@torch.library.custom_op(
    "sam2s::compose",
    mutates_args=(),
    schema="(Tensor logits, Tensor present, Tensor labels, int height, int width, float absent) -> Tensor",
)
@on_its_gpu
def compose(logits: Tensor, present: Tensor, labels: Tensor, height: int, width: int, absent: float) -> Tensor:
    """As `outputs.compose`, for an image of (height, width) px. absent: the logits of an object that is not there."""
    from sam2s_model.acceleration import triton_kernels as kernels

    logits, present, labels = _dense(logits, present, labels)
    out = torch.empty(height, width, dtype=torch.uint8, device=logits.device)
    block = TILE // 8
    kernels.compose[(-(-height * width // block),)](
        logits, present.view(torch.uint8), labels, out, *logits.shape[:1], *logits.shape[2:], height, width, absent,
        block,
    )  # fmt: skip
    return out


@compose.register_fake
def _(logits: Tensor, present: Tensor, labels: Tensor, height: int, width: int, absent: float) -> Tensor:
    return labels.new_empty(height, width)


@torch.library.custom_op(
    "sam2s::mask_to_remember",
    mutates_args=(),
    schema="(Tensor logits, int height, int width, bool binarise, ScalarType dtype) -> Tensor",
)
@on_its_gpu
def mask_to_remember(logits: Tensor, height: int, width: int, binarise: bool, dtype: torch.dtype) -> Tensor:
    """Mask logits (N, 1, h, w) at a size of (height, width), bilinear, as the memory encoder sees them: -10 to 10."""
    from sam2s_model.acceleration import triton_kernels as kernels

    logits = logits.contiguous()
    out = torch.empty(len(logits), 1, height, width, dtype=dtype, device=logits.device)
    block = TILE // 8
    kernels.mask_to_remember[(-(-height * width // block), len(logits))](
        logits, out, *logits.shape[2:], height, width, binarise, block
    )
    return out


@mask_to_remember.register_fake
def _(logits: Tensor, height: int, width: int, binarise: bool, dtype: torch.dtype) -> Tensor:
    return logits.new_empty(len(logits), 1, height, width, dtype=dtype)


@torch.library.custom_op(
    "sam2s::judge",
    mutates_args=(),
    schema="(Tensor features, Tensor logits, Tensor present, Tensor index, Tensor prototype, Tensor taught, "
    "Tensor stamps, int lost_after, float least) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
@on_its_gpu
def judge(
    features: Tensor,
    logits: Tensor,
    present: Tensor,
    index: Tensor,
    prototype: Tensor,
    taught: Tensor,
    stamps: Tensor,
    lost_after: int,
    least: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute `Reidentification.judge` in one kernel.

    features: (1, dim, h, w); logits: (N, 1, c h, c w); present: (N,); index: (N,), the objects' rows of the notes
    stamps: (rows, 2) int64, ns; lost_after: ns; least: similarity
    Returns appearances (N, dim), similarity (N,), and for each object whether it was asked, rejected, and is still
    present.
    """
    from sam2s_model.acceleration import triton_kernels as kernels

    features = _places_in_a_row(features)
    logits, present, index = _dense(logits, present, index)
    (_, channels, height, width), n = features.shape, len(logits)
    appearances, similarity = prototype.new_empty(n, channels), prototype.new_empty(n)
    asked, rejected, remains = (torch.empty_like(present) for _ in range(3))
    to_place = features.stride(3) if width > 1 else features.stride(2)
    kernels.judge[(n,)](
        features, logits, present.view(torch.uint8), index, prototype, taught, stamps, appearances,
        similarity, asked.view(torch.uint8), rejected.view(torch.uint8), remains.view(torch.uint8),
        height * width, width, logits.shape[3], features.stride(1), to_place, lost_after, least, float("nan"),
        logits.shape[3] // width, channels, _power(channels), max(1, TILE // _power(channels)),
    )  # fmt: skip
    return appearances, similarity, asked, rejected, remains


@judge.register_fake
def _(features, logits, present, index, prototype, taught, stamps, lost_after, least):
    n = len(logits)
    of_objects = (torch.empty_like(present) for _ in range(3))
    return prototype.new_empty(n, features.shape[1]), prototype.new_empty(n), *of_objects


@torch.library.custom_op(
    "sam2s::learn",
    mutates_args=("prototype", "taught", "stamps", "past_prototype", "past_taught", "past_stamps"),
    schema="(Tensor appearances, Tensor logits, Tensor iou, Tensor present, Tensor index, Tensor frame, Tensor stamp, "
    "Tensor(a!) prototype, Tensor(b!) taught, Tensor(c!) stamps, Tensor(d!) past_prototype, "
    "Tensor(e!) past_taught, Tensor(f!) past_stamps, float least, int memory) -> ()",
)
@on_its_gpu
def learn(
    appearances: Tensor,
    logits: Tensor,
    iou: Tensor,
    present: Tensor,
    index: Tensor,
    frame: Tensor,
    stamp: Tensor,
    prototype: Tensor,
    taught: Tensor,
    stamps: Tensor,
    past_prototype: Tensor,
    past_taught: Tensor,
    past_stamps: Tensor,
    least: float,
    memory: int,
) -> None:
    """As `Reidentification.learn`: the notes and their rings, of all rows, are written to.

    frame, stamp: 0-d int64; least: predicted IoU; memory: frames
    """
    from sam2s_model.acceleration import triton_kernels as kernels

    appearances, logits, iou, present, index = _dense(appearances, logits, iou, present, index)
    channels = appearances.shape[1]
    kernels.learn[(len(appearances),)](
        appearances, logits, iou, present.view(torch.uint8), index, frame, stamp, prototype, taught, stamps,
        past_prototype, past_taught, past_stamps, past_taught.shape[1], logits[0].numel(), least, memory, channels,
        _power(channels), TILE,
    )  # fmt: skip


@learn.register_fake
def _(appearances, logits, iou, present, index, frame, stamp, *notes_and_limits) -> None:
    pass


def _dense(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Copy what has gaps, as a column of a table: a kernel that is told no strides takes one number after another."""
    return tuple(tensor.contiguous() for tensor in tensors)


def _power(n: int) -> int:
    """Round n up to a power of two."""
    return 1 << (n - 1).bit_length()
