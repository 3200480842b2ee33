"""A linear layer whose weights lie as a CPU multiplies with them, in their own precision or in 8 bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.folding import Folding
from sam2s_model.errors import ConfigError

Activation = Callable[[Tensor], Tensor]


class Linear(nn.Linear):
    """As torch's, of the same names and shapes, and with an activation after it.

    For inference on a CPU the weights are kept a second time, packed: torch's own layer packs them on every call. The
    operators are those into which torch.compile turns a linear layer. Where torch lacks them, and while a compiler
    traces, the layer is torch's own.

    int8: for inference on a CPU in fp32, multiply in 8 bits, with a scale for each row of the weights, made once, and
        one for each whole input, made from its extremes on every call
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = True):
        super().__init__(d_in, d_out, bias)
        self.int8 = False
        self._packed, self._quantised = Folding(pack), Folding(_quantise)

    def forward(self, x: Tensor, activation: Activation | None = None) -> Tensor:
        """(..., d_in) -> (..., d_out)"""
        here = _as_it_lies(x, self.weight)
        if here and self.int8 and x.dtype == torch.float32:
            parts = (self.weight,) if self.bias is None else (self.weight, self.bias)
            weights = self._quantised(*parts)
            y = torch.ops.quantized.linear_dynamic(x, weights, reduce_range=not _has_vnni())
        elif here and can_pack(x.dtype):
            return multiply_packed(x, self._packed(self.weight), self.bias, activation)
        elif activation is F.relu and self.bias is not None and _makes_relu(x, self.weight):
            y = torch._addmm_activation(self.bias, x.flatten(0, -2), self.weight.T)
            return y.unflatten(0, x.shape[:-1])
        else:
            y = super().forward(x)
        return y if activation is None else activation(y)


class Joined:
    """Linear layers that see the same input, as one product: of their weights, one below the other. For inference.

    It holds no weights: the layers, all with a bias or none, are given on every call, and keep their names.
    """

    def __init__(self) -> None:
        self._folded, self._packed = Folding(_below_one_another), Folding(_packed_below_one_another)

    def __call__(self, x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
        """(..., d_in) -> (..., d_out) of each layer, parts of one tensor."""
        return self.product(x, *layers).split([layer.out_features for layer in layers], dim=-1)

    def product(self, x: Tensor, *layers: nn.Linear) -> Tensor:
        """(..., d_in) -> (..., sum of all d_out)"""
        weights = [layer.weight for layer in layers] + [layer.bias for layer in layers if layer.bias is not None]
        if multiplies_packed(x, weights[0]):
            return multiply_packed(x, *self._packed(*weights, layers=len(layers)))
        return F.linear(x, *self._folded(*weights, layers=len(layers)))


def _below_one_another(*weights: Tensor, layers: int) -> tuple[Tensor, Tensor | None]:
    """Weights of some layers, then their biases -> weight and bias of all."""
    return torch.cat(weights[:layers]), torch.cat(weights[layers:]) if len(weights) > layers else None


def _packed_below_one_another(*weights: Tensor, layers: int) -> tuple[Tensor, Tensor | None]:
    weight, bias = _below_one_another(*weights, layers=layers)
    return pack(weight), bias


def _as_it_lies(x: Tensor, weight: Tensor) -> bool:
    """Whether this is inference on a CPU in the weights' own type: the operators of packed weights cast nothing.

    Under autocast torch's own layer casts, input and weights alike.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return x.dtype == weight.dtype and not torch.is_autocast_enabled("cpu")


def _makes_relu(x: Tensor, weight: Tensor) -> bool:
    """Whether this is inference on a GPU, where a product of matrices ends with a ReLU, in one kernel.

    It may make zeros of what is not a number: what comes in by the residual connections beside it still shows.
    """
    if x.device.type != "cuda" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return x.dtype == weight.dtype and not torch.is_autocast_enabled("cuda")


def multiplies_packed(x: Tensor, weight: Tensor) -> bool:
    """Whether inference multiplies this by these weights, packed."""
    return _as_it_lies(x, weight) and can_pack(x.dtype)


def multiply_packed(x: Tensor, packed: Tensor, bias: Tensor | None, activation: Activation | None = None) -> Tensor:
    """(..., d_in), and weights (d_out, d_in) as of `pack` -> (..., d_out)"""
    # Only one activation is made there: oneDNN's ReLU makes zeros of what is not a number, and nobody would notice.
    if activation is F.gelu:
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "gelu", [], "none")
    y = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return y if activation is None else activation(y)


def _has_vnni() -> bool:
    """Whether this CPU multiplies 8 bits without overflow. Where torch does not say so, before 2.5, it may not."""
    asked = getattr(torch.cpu, "_is_vnni_supported", None)
    return asked is not None and asked()


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this CPU, and this torch, have the operators for numbers of that type, as exact as torch's own layer.

    In fp32 they are faster, too, and five times as far from the published code.
    """
    has = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has and dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def multiply_in_int8(part: nn.Module) -> None:
    """Let all linear layers of a part of a model multiply in 8 bits.

    Raises ConfigError when the part has no linear layer, or torch cannot.
    """
    if "onednn" not in torch.backends.quantized.supported_engines:
        raise ConfigError(
            f"precision is 'int8', but torch {torch.__version__} has no oneDNN kernels for it: expected fp32 or bf16"
        )
    layers = [module for module in part.modules() if isinstance(module, Linear)]
    if not layers:
        raise ConfigError(
            "precision is 'int8', but the model's image encoder has no linear layers: expected fp32 or bf16"
        )
    for layer in layers:
        layer.int8 = True


def pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def _quantise(weight: Tensor, bias: Tensor | None = None) -> torch.ScriptObject:
    """Quantise weights (d_out, d_in) to 8 bits with a scale per row: oneDNN is fastest with symmetric ones."""
    weight, engine = weight.float(), torch.backends.quantized.engine
    scale = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    zero = torch.zeros(len(weight), dtype=torch.int64)
    try:
        torch.backends.quantized.engine = "onednn"
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the tensor type goes one day; the operator is that of torch's quantised layers
            rows = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
            return torch.ops.quantized.linear_prepack(rows, None if bias is None else bias.float())
    finally:
        torch.backends.quantized.engine = engine
