"""What is folded, kept or left out for inference gives what the plain form gives, and follows the weights."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from sam2s_model.acceleration.constants import constant
from sam2s_model.acceleration.folding import Folding
from sam2s_model.acceleration.linear import Joined, Linear
from sam2s_model.config import NANO, PICO
from sam2s_model.network.image_encoder.hiera import HieraAttention, max_pool, partition, unpartition
from sam2s_model.network.image_encoder.repvit import StoredBatchNorm
from sam2s_model.network.layers import LayerNorm2d
from sam2s_model.network.mask_decoder import MaskDecoder
from sam2s_model.network.memory_attention import KeyRotation, RotaryAttention, rotary_table
from sam2s_model.network.model import Sam2Model


def randomise(model: Sam2Model, seed: int) -> Sam2Model:
    """Statistics and scales as a trained network has them."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, StoredBatchNorm):
            module.running_var.uniform_(0.3, 2.0)
            module.weight.uniform_(0.5, 1.5)
            for tensor in (module.running_mean, module.bias):
                tensor.uniform_(-0.5, 0.5)
    return model


def both_ways(model: Sam2Model, image: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each of an image's features, plainly and fast."""
    with torch.enable_grad():
        plain = model.encode_image(image)
    with torch.inference_mode():
        fast = model.encode_image(image)
    return [(getattr(plain, name), getattr(fast, name)) for name in ("coarse", "middle", "fine")]


@pytest.mark.parametrize("config", [NANO, PICO], ids=lambda config: config.name)
def test_the_image_encoder_and_weights_that_change(config):
    """Also after other weights were loaded, and written in place, and in a copy and in another type."""
    model = randomise(Sam2Model(config, 64).eval().requires_grad_(False), 0)
    image = torch.randn(1, 3, 64, 64)

    def check(allowed: float = 1e-5) -> list[torch.Tensor]:
        pairs = both_ways(model, image.to(model.dtype))
        for plain, fast in pairs:
            assert plain.shape == fast.shape and (plain - fast).abs().max() < allowed * plain.abs().max()
        return [fast.clone() for _, fast in pairs]

    first, before = check(), copy.deepcopy(model)
    model.load_state_dict(randomise(Sam2Model(config, 64).requires_grad_(False), 1).state_dict())
    second = check()
    for parameter in model.parameters():
        parameter.mul_(1.1)
    third = check()
    assert all(
        (a - b).abs().max() > 1e-3 and (b - c).abs().max() > 1e-3 for a, b, c in zip(first, second, third, strict=True)
    )
    model = before
    assert all(torch.equal(a, b) for a, b in zip(first, check(), strict=True))
    model.to(torch.bfloat16)
    check(0.1)
    model.to(torch.float32)
    check()


@pytest.mark.parametrize("dtype, allowed", [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("window, grid, pool", [(4, 6, False), (4, 6, True), (4, 8, True), (0, 6, True)])
def test_windows_of_padding_that_is_not_projected(window, grid, pool, dtype, allowed):
    """Against padding before the projection, as published."""
    torch.manual_seed(0)
    attention = HieraAttention(8, 16, 2, window, pool).requires_grad_(False)
    x = torch.randn(2, grid, grid, 8)
    side = window or grid
    (windows,), padded = partition(x, side, heads=1)
    q, k, v = attention.qkv(windows.view(-1, side, side, 8)).chunk(3, dim=-1)
    q = max_pool(q) if pool else q
    side, shape = q.shape[1], q.shape
    heads = (t.flatten(1, 2).unflatten(2, (2, -1)).transpose(1, 2) for t in (q, k, v))
    seen = attention.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(shape))
    share = 2 if pool else 1
    seen = unpartition(seen.flatten(1, 2)[:, None], side, tuple(n // share for n in padded))
    expected = seen[:, : grid // share, : grid // share]
    attention = attention.to(dtype)
    for graded in (True, False):
        with torch.set_grad_enabled(graded):
            got = attention(x.to(dtype))
        assert (got - expected).abs().max() < allowed * expected.abs().max()


@pytest.mark.parametrize("channels", [4, 16])
def test_layer_norm_of_few_channels_is_that_of_many(channels):
    torch.manual_seed(0)
    norm, x = LayerNorm2d(channels), torch.randn(2, channels, 5, 6)
    norm.weight.data.uniform_(0.5, 2), norm.bias.data.normal_()
    expected = F.layer_norm(x.permute(0, 2, 3, 1), (channels,), norm.weight, norm.bias, norm.eps).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dim", [16, 64])
def test_the_decoder_whose_products_are_joined(dim):
    """Of 16 channels the kernels of masks are narrower than the head of the IoUs, beside which they are made."""
    torch.manual_seed(0)
    decoder = MaskDecoder(dim, heads=2, mlp_dim=32).requires_grad_(False)
    high_res = torch.randn(1, dim // 8, 16, 16), torch.randn(1, dim // 4, 8, 8)
    given = (
        torch.randn(3, dim, 4, 4),
        high_res,
        torch.randn(1, dim, 4, 4),
        torch.randn(3, 2, dim),
        torch.randn(3, dim, 4, 4),
    )
    with torch.enable_grad():
        plain = decoder.candidates(*given)
    with torch.no_grad():
        fast = decoder.candidates(*given)
        for multimask in (True, False):
            assert decoder(*given, multimask).logits.shape == (3, 1, 16, 16)
    for name in ("logits", "iou", "tokens", "object_logit"):
        torch.testing.assert_close(getattr(fast, name), getattr(plain, name), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_one_input_are_one_product(dtype, bias):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(16, width, bias).to(dtype).requires_grad_(False) for width in (8, 24, 3)]
    x, joined = torch.randn(2, 5, 16).to(dtype), Joined()
    with torch.no_grad():
        for _ in range(2):
            for own, layer in zip(joined(x, *layers), layers, strict=True):
                torch.testing.assert_close(own, layer(x), atol=1e-5 if dtype == torch.float32 else 0.02, rtol=0.01)
            layers[1].weight.mul_(2)  # which it follows


def test_what_is_made_for_inference_serves_training():
    attention, x = RotaryAttention(8, 8), torch.randn(1, 6, 8)

    def run() -> torch.Tensor:
        table = rotary_table(2, 3, 8)
        return attention(x, x, x, table, KeyRotation(table))

    with torch.inference_mode():
        run()
    run().sum().backward()
    assert attention.v_proj.weight.grad.abs().max() > 0

    fold, factor = Folding(lambda weight: 2 * weight), torch.ones(3, requires_grad=True)
    with torch.inference_mode():
        fold(x)
    (
        fold(x)[0, :3, 0] * factor
    ).sum().backward()  # keeps it for the gradient, which a tensor of the inference mode refuses
    assert torch.equal(factor.grad, 2 * x[0, :3, 0])


def test_folding_and_constants_are_made_once():
    made = []
    fold = Folding(lambda *weights, factor: made.append(1) or weights[0] * factor)
    weight = torch.ones(2)
    assert fold(weight, factor=2) is fold(weight, factor=2) and len(made) == 1
    fold(weight, factor=3), weight.add_(1), fold(weight, factor=3)
    assert len(made) == 3

    @constant
    def place(size, *, device=None):
        return torch.arange(size, device=device)

    assert place(3) is place(3) and place(3) is place(3, device="cpu") and place(4).shape == (4,)
    with torch.device("meta"):
        assert place(3).is_meta


@pytest.mark.parametrize(
    "activation", [None, F.relu, F.gelu], ids=lambda function: getattr(function, "__name__", "none")
)
@pytest.mark.parametrize("dtype, allowed", [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=str)
def test_a_packed_linear_layer_and_weights_that_change(dtype, allowed, activation):
    torch.manual_seed(0)
    layer = Linear(96, 40).to(dtype)
    for shape in ((3, 50, 96), (96,), (0, 96)):
        x = torch.randn(shape, dtype=dtype)
        for weights in (layer, copy.deepcopy(layer)):
            with torch.no_grad():
                weights.weight.mul_(1.5)
                fast = weights(x, activation)
            plain = F.linear(x.float(), weights.weight.float(), weights.bias.float())
            plain = plain if activation is None else activation(plain)
            assert fast.shape == plain.shape and fast.dtype == dtype and not fast.requires_grad
            assert weights(x, activation).requires_grad
            torch.testing.assert_close(fast.float(), plain, rtol=allowed, atol=allowed)
    with torch.no_grad():
        assert layer(torch.full((2, 96), torch.nan, dtype=dtype), activation).isnan().all()
