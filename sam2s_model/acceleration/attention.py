"""Attention of one head, by the way that is fastest on the device."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
import torch.nn.functional as F
from torch import Tensor

Way = Callable[[Tensor, Tensor, Tensor], Tensor]
QUERIES = 256  # of a block in fp32, twice as many in bf16: most of its scores stay in the cache of a core
SCORES = 8 << 20  # bytes of those of several objects, or of windows and heads, that are made by one product


_fastest: dict[Hashable, Way] = {}  # of each kind of attention on a GPU, once it was measured


class Values:
    """Values (B, K, value_dim) that several attentions look at: what is made of them is made once."""

    def __init__(self, plain: Tensor):
        self.plain = plain
        self._wide: Tensor | None = None

    def wide(self, width: int) -> Tensor:
        """With zeros after them, (B, K, width)."""
        if self._wide is None or self._wide.shape[2] != width:
            self._wide = F.pad(self.plain, (0, width - self.plain.shape[2]))
        return self._wide


def attend(q: Tensor, k: Tensor, v: Tensor | Values, mask: Tensor | None = None) -> Tensor:
    """Q (1 or B, Q, dim), k (B, K, dim), v (B, K, value_dim), mask (B, 1, K) -> (B, Q, value_dim), by torch's kernels.

    mask: bool, or what is added to the scores
    """
    values = v if isinstance(v, Values) else Values(v)
    q, v = q.expand(len(k), -1, -1), values.plain
    if mask is not None:
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], mask[:, None])[:, 0]
    if q.device.type != "cuda" or torch.is_grad_enabled() or q.shape[2] == v.shape[2] or torch.compiler.is_compiling():
        return as_it_is(q, k, v)
    kind = q.device, q.dtype, *q.shape, k.shape[1].bit_length(), v.shape[2]
    if fastest(kind, (as_it_is, with_wide_values), q, k, v) is with_wide_values:
        return as_it_is(q, k, values.wide(q.shape[2]))[..., : v.shape[2]]
    return as_it_is(q, k, v)


def as_it_is(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """On a GPU, values that are narrower than keys leave the memory-efficient kernel."""
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]


def with_wide_values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """With zeros after the values, the flash and cuDNN kernels can be taken: more operations, at a higher rate."""
    return as_it_is(q, k, F.pad(v, (0, q.shape[2] - v.shape[2])))[..., : v.shape[2]]


def fastest(
    kind: Hashable, ways: tuple[Way, ...], *arguments: Tensor, seconds: Callable[[Way], float] | None = None
) -> Way:
    """Choose, of several ways to the same result, the one that was fastest when this kind was first asked for.

    seconds: measures one way; None: measure on the GPU. There the first way is taken without measuring if results must
        be deterministic, or if the call is being captured, where nothing can be timed.
    """
    if kind not in _fastest:
        if seconds is None:
            if torch.are_deterministic_algorithms_enabled() or torch.cuda.is_current_stream_capturing():
                return ways[0]
            seconds = _seconds_on_gpu(ways, *arguments).__getitem__
        _fastest[kind] = min(ways, key=seconds)
    return _fastest[kind]


def _seconds_on_gpu(ways: tuple[Way, ...], *arguments: Tensor, calls: int = 5) -> dict[Way, float]:
    """Measure some calls of each way, when its kernel is loaded; the host waits once, for all of them."""
    stream = torch.cuda.current_stream(arguments[0].device)
    took = {}
    for way in ways:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        way(*arguments)
        begin.record(stream)
        for _ in range(calls):
            way(*arguments)
        end.record(stream)
        took[way] = begin, end
    end.synchronize()
    return {way: begin.elapsed_time(end) / 1e3 for way, (begin, end) in took.items()}


def as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a bool mask into the bias that is added to the scores: 0 where it is True, -inf elsewhere."""
    return torch.where(mask, 0.0, -torch.inf).to(dtype)


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """As `attend`, without gradients, by matrix products of some queries of some of the B at a time.

    A CPU has fast products in bf16 as well. The scores of all objects at once would not fit into the caches, and from
    32 MB on the system would map their memory anew for each block.
    """
    out = v.new_empty(len(k), q.shape[1], v.shape[2])
    scaled = (q * q.shape[2] ** -0.5).expand(len(k), -1, -1)
    bias = as_bias(mask, q.dtype) if mask is not None and mask.dtype == torch.bool else mask
    size = QUERIES * 4 // q.element_size()
    together = max(1, SCORES // (min(size, q.shape[1]) * k.shape[1] * q.element_size()))
    for first in range(0, len(k), together):
        some = slice(first, first + together)
        keys = k[some].transpose(1, 2)
        if q.dtype == torch.bfloat16:
            keys = keys.contiguous()  # otherwise each product makes this copy for itself
        for begin in range(0, q.shape[1], size):
            block = slice(begin, begin + size)
            scores = scaled[some, block] @ keys
            scores = scores if bias is None else scores.add_(bias[some])
            out[some, block] = scores.softmax(-1) @ v[some]  # whose sums are fp32 for bf16 scores, too
    return out
