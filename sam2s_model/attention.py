"""Attention of one head, by the way that is fastest on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

QUERIES = 256  # of a block in fp32, twice as many in bf16: most of its scores stay in the cache of a core


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """q (1 or B, Q, dim), k (B, K, dim), v (B, K, value_dim), mask (B, 1, K) bool -> (B, Q, value_dim), by torch's kernels."""
    q = q.expand(len(k), -1, -1)
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], None if mask is None else mask[:, None])[:, 0]


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """As `attend`, without gradients, by matrix products of some queries at a time: a CPU has fast ones in bf16 as well."""
    out = v.new_empty(len(k), q.shape[1], v.shape[2])
    scaled, keys = q * q.shape[2] ** -0.5, k.transpose(1, 2)
    if q.dtype == torch.bfloat16:
        keys = keys.contiguous()  # otherwise each product makes this copy for itself
    bias = None if mask is None else torch.where(mask, 0.0, -torch.inf).to(q.dtype)
    size = QUERIES * 4 // q.element_size()
    for begin in range(0, q.shape[1], size):
        block = slice(begin, begin + size)
        scores = scaled[:, block] @ keys
        scores = scores if bias is None else scores.add_(bias)
        out[:, block] = scores.softmax(-1) @ v  # whose sums are fp32 for bf16 scores, too
    return out
