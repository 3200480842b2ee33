"""Linear layers in 8 bits: how near they are, what they follow, and for which models."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sam2s_model.acceleration.linear import Linear, _has_vnni, multiply_in_int8
from sam2s_model.config import NANO, PICO
from sam2s_model.device import resolve_dtype
from sam2s_model.errors import ConfigError
from sam2s_model.network.image_encoder.repvit import ConvNorm
from sam2s_model.network.model import Sam2Model


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(0)
    layer = Linear(384, 96)
    multiply_in_int8(layer)
    return layer


def plain(layer: Linear, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, layer.weight, layer.bias)


@torch.inference_mode()
def test_int8_is_near_fp32_also_where_rows_differ_in_size(layer):
    layer.weight.mul_(torch.logspace(-4, 0, 96)[:, None])
    layer.bias.zero_()
    x = torch.randn(2, 7, 384)
    got, expected = layer(x), plain(layer, x)
    assert got.shape == (2, 7, 96) and got.dtype == torch.float32
    error = (got - expected).norm(dim=(0, 1)) / expected.norm(dim=(0, 1))
    limit = 0.02 if _has_vnni() else 0.04  # without, activations have 7 bits
    assert 0 < error.max() < limit, "of each row, since each has its own scale"
    torch.testing.assert_close(layer(x, F.gelu), F.gelu(got))


def test_int8_is_for_inference_and_follows_its_weights(layer):
    x = torch.randn(3, 384)
    assert layer(x).requires_grad and torch.equal(layer(x), plain(layer, x)), "training is as ever"
    with torch.no_grad():
        before = layer(x)
        layer.weight.neg_()
        layer.bias.neg_()
        torch.testing.assert_close(layer(x), -before, rtol=0, atol=0.05)


def test_int8_is_of_the_encoder_and_the_mlps_of_the_memory_attention():
    model = Sam2Model(PICO)
    model.use_int8()
    there = {name for name, module in model.named_modules() if isinstance(module, Linear) and module.int8}
    assert {name.split(".")[0] for name in there} == {"image_encoder", "memory_attention"}
    assert all(
        name.rsplit(".", 1)[1] in ("linear1", "linear2") for name in there if name.startswith("memory_attention")
    )


def test_int8_needs_linear_layers_and_a_cpu():
    with pytest.raises(ConfigError, match="image encoder has no linear layers: expected fp32 or bf16"):
        Sam2Model(NANO, image_size=64).use_int8()
    with pytest.raises(ConfigError, match="'int8' on cuda: it is for a CPU, expected bf16, fp16 or fp32"):
        resolve_dtype("int8", torch.device("cuda"))
    assert resolve_dtype("int8", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("said", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_under_autocast_inference_is_as_torchs_own_whatever_the_inputs_type(said, int8):
    """A CPU with bf16 operators takes packed weights in inference: those cast nothing, and autocast mixes types."""
    torch.manual_seed(0)
    layer, norm = Linear(64, 32), ConvNorm(64, 32).eval()
    layer.int8 = int8
    x = torch.randn(3, 64).to(said)
    with torch.autocast("cpu", torch.bfloat16):
        got, expected = layer(x, F.gelu), F.gelu(plain(layer, x))
        image = norm(x[:, :, None, None])
    assert got.dtype == expected.dtype == image.dtype == torch.bfloat16
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    truth = norm.c(x.float()[:, :, None, None]) / (1 + norm.bn.eps) ** 0.5
    torch.testing.assert_close(image.float(), truth, rtol=0.02, atol=0.02)


@torch.no_grad()
def test_inputs_of_another_type_than_the_weights_are_refused_as_torch_refuses_them():
    with pytest.raises(RuntimeError, match="same dtype|to have the same|mat1 and mat2"):
        Linear(64, 32)(torch.randn(3, 64).bfloat16())
