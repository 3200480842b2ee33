"""A linear layer whose weights lie as a CPU multiplies with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.folding import Folding

Activation = Callable[[Tensor], Tensor]


class Linear(nn.Linear):
    """As torch's, of the same names and shapes, and with an activation after it.

    For inference on a CPU the weights are kept a second time, packed: torch's own layer packs them on every call. The operators
    are those to which torch.compile turns a linear layer; where they are not there, it is torch's own.
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = True):
        super().__init__(d_in, d_out, bias)
        self._packed = Folding(_pack)

    def forward(self, x: Tensor, activation: Activation | None = None) -> Tensor:
        """(..., d_in) -> (..., d_out)"""
        if x.device.type == "cpu" and not torch.is_grad_enabled() and can_pack(x.dtype):
            # Only one activation is made there: oneDNN's ReLU makes zeros of what is not a number, and nobody would notice.
            fused = activation is F.gelu
            how = ("gelu", [], "none") if fused else ("none", [], "")
            y = torch.ops.mkldnn._linear_pointwise(x, self._packed(self.weight), self.bias, *how)
            activation = None if fused else activation
        else:
            y = super().forward(x)
        return y if activation is None else activation(y)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this CPU, and this torch, have the operators for numbers of that type, as exact as torch's own layer.

    In fp32 they are faster, too, and five times as far from the published code.
    """
    has = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has and dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)
