"""The networks against the published state dicts, and their operators against plain definitions."""

from __future__ import annotations

import cmath
import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sam2s_model.config import MODELS, PICO, ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.image_encoder.hiera import HieraBlock, partition, unpartition
from sam2s_model.network.layers import LayerNorm2d, sine_position_1d, sine_position_2d
from sam2s_model.network.memory_attention import KeyRotation, RotaryAttention, rotary_table, rotate_
from sam2s_model.network.model import Sam2Model
from sam2s_model.network.prompt_encoder import PADDING

KEYS = Path(__file__).resolve().parents[4] / "shared" / "keys"
FILES = {
    "sam2.1_t.tsv": "sam2.1_hiera_tiny",
    "sam2.1_s.tsv": "sam2.1_hiera_small",
    "sam2.1_b+.tsv": "sam2.1_hiera_base_plus",
    "sam2.1_l.tsv": "sam2.1_hiera_large",
    "sam2_s.tsv": "sam2_hiera_small",
    "edgetam.tsv": "edgetam",
}


@pytest.mark.parametrize("file, name", FILES.items())
def test_state_dict_is_the_published_one(file, name):
    if not KEYS.is_dir():
        pytest.skip(reason=f"the published key lists are not at {KEYS}")
    with open(KEYS / file) as lines:
        rows = csv.reader(lines, delimiter="\t")
        published = {key: (tuple(json.loads(shape)), getattr(torch, kind)) for key, shape, kind in rows}
    with torch.device("meta"):
        own = {key: (tuple(value.shape), value.dtype) for key, value in Sam2Model(MODELS[name]).state_dict().items()}
    assert own == published


@pytest.mark.parametrize("name, total, encoder", [
    ("sam2.1_hiera_tiny", 38_962_498, 27_219_136),
    ("sam2.1_hiera_small", 46_060_354, 34_316_992),
    ("sam2.1_hiera_base_plus", 80_850_178, 69_106_816),
    ("sam2.1_hiera_large", 224_446_642, 212_703_280),
    ("edgetam", 13_895_794, 4_899_056),
])  # fmt: skip
def test_parameter_counts(name, total, encoder):
    with torch.device("meta"):
        network = Sam2Model(MODELS[name])
    count = lambda part: sum(p.numel() for p in part.parameters())  # noqa: E731
    # The published totals count the image encoder with its neck, and the random projection of the points is a buffer.
    assert count(network) == total
    assert count(network.image_encoder) == encoder


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ConfigError, match="'sam4' is not known: expected one of sam2_hiera_tiny"):
        ModelConfig.from_name("sam4")
    with pytest.raises(ConfigError, match="image_size is 500: expected a multiple of 32"):
        Sam2Model(PICO, image_size=500)
    with pytest.raises(ConfigError, match="backbone is 'resnet': expected one of 'hiera', 'repvit_m1', 'vit'"):
        Sam2Model(replace(PICO, backbone="resnet"))
    with pytest.raises(ConfigError, match="latents_2d is 15: expected a square number"):
        Sam2Model(replace(PICO, latents_1d=4, latents_2d=15))


@pytest.mark.parametrize("size", [64, 96, 160, 256])
def test_shapes_at_every_size(size):
    network = Sam2Model(PICO, image_size=size).eval()
    grid = size // 16
    with torch.inference_mode():
        features = network.encode_image(torch.zeros(1, 3, size, size))
        assert features.coarse.shape == (1, 96, grid, grid)
        assert features.middle.shape == (1, 24, 2 * grid, 2 * grid) and features.fine.shape == (
            1,
            12,
            4 * grid,
            4 * grid,
        )
        decoded = network.decode(network.without_memory(features, 3), features, multimask=True)
        assert decoded.logits.shape == (3, 1, 4 * grid, 4 * grid) and decoded.token.shape == (3, 96)
        assert ((decoded.iou >= 0) & (decoded.iou <= 1)).all()
        present = torch.tensor([True, False, True])
        memory = network.encode_memory(features, decoded.logits, present)
        assert memory.shape == (3, grid * grid, 32)
        conditioned = network.with_memory(
            features,
            memory[:, None],
            torch.zeros(3, 1, dtype=torch.long),
            torch.zeros(3, 2, 96),
            torch.ones(3, 2),
            None,
        )
        assert conditioned.features.shape == (3, 96, grid, grid) and conditioned.class_logits is None


def test_masked_memories_are_as_if_they_were_not_there():
    torch.manual_seed(0)
    network = Sam2Model(PICO, image_size=64).eval()
    with torch.inference_mode():
        features = network.encode_image(torch.randn(1, 3, 64, 64))
        memory, pointers = torch.randn(1, 3, 16, 32), torch.randn(1, 4, 96)
        codes, ages = torch.tensor([[6, 0, 1]]), torch.tensor([[5.0, 1.0, 2.0, 3.0]])
        allowed = torch.tensor([[True, True, False, True, True, False, True]])
        masked = network.with_memory(features, memory, codes, pointers, ages, allowed).features
        short = network.with_memory(
            features, memory[:, :2], codes[:, :2], pointers[:, [0, 1, 3]], ages[:, [0, 1, 3]], None
        ).features
    torch.testing.assert_close(masked, short, atol=1e-5, rtol=1e-5)


def test_a_long_term_memory_has_a_time_of_its_own():
    torch.manual_seed(0)
    network = Sam2Model(replace(PICO, long_term_embedding=True), image_size=64).eval().requires_grad_(False)
    features = network.encode_image(torch.randn(1, 3, 64, 64))
    memory, pointers, ages = torch.randn(1, 2, 16, 32), torch.randn(1, 1, 96), torch.ones(1, 1)

    def conditioned(code):
        return network.with_memory(features, memory, torch.tensor([[6, code]]), pointers, ages, None).features

    network.long_term_tpos_enc.normal_()
    assert not torch.allclose(conditioned(7), conditioned(6), atol=1e-4)
    network.long_term_tpos_enc.copy_(network.maskmem_tpos_enc[2:3])
    torch.testing.assert_close(conditioned(7), conditioned(2))


def test_ages_of_pointers_are_relative_to_the_span():
    torch.manual_seed(0)
    short = Sam2Model(replace(PICO, pointer_span=15), image_size=64).eval()
    long = Sam2Model(replace(PICO, pointer_span=30), image_size=64).eval()
    long.load_state_dict(short.state_dict())
    with torch.inference_mode():
        features = short.encode_image(torch.randn(1, 3, 64, 64))
        memory, codes, pointers = torch.randn(1, 1, 16, 32), torch.tensor([[6]]), torch.randn(1, 2, 96)
        ages = torch.tensor([[1.0, 7.0]])
        expected = short.with_memory(features, memory, codes, pointers, ages, None).features
        torch.testing.assert_close(
            long.with_memory(features, memory, codes, pointers, 2 * ages, None).features, expected
        )
        assert not torch.equal(long.with_memory(features, memory, codes, pointers, ages, None).features, expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_object_without_a_prompt_has_padding_points(count):
    encoder = Sam2Model(replace(PICO, empty_points=count), image_size=64).sam_prompt_encoder
    padding = torch.full((4, count - 1), PADDING)
    expected = encoder.points(torch.rand(4, count - 1, 2), padding, 64)  # one more is always appended
    assert expected.shape == (4, count, 96) and torch.equal(encoder.no_points(4), expected)


def test_windows_go_there_and_back_with_padding():
    x = torch.arange(2 * 7 * 10 * 6, dtype=torch.float32).view(2, 7, 10, 6)
    (other, windows), padded = partition(torch.cat((-x, x), 3), 4, heads=2, parts=2, filling=torch.full((12,), -1.0))
    assert windows.shape == (2 * 2 * 3, 2, 16, 3) and padded == (8, 12)
    assert (windows[0, 1].view(4, 4, 3) == x[0, :4, :4, 3:]).all()
    assert (windows[-1].view(2, 4, 4, 3)[:, 3] == -1).all() and (windows[-1].view(2, 4, 4, 3)[:, :, 2:] == -1).all()
    assert (unpartition(windows, 4, padded)[:, :7, :10] == x).all()
    assert (unpartition(other, 4, padded)[:, :7, :10] == -x).all()


@pytest.mark.parametrize("window, grid", [(0, 8), (4, 8), (4, 6)])
def test_a_pooling_block_halves_the_grid(window, grid):
    block = HieraBlock(8, 16, num_heads=2, window=window, pool=True)
    x = torch.randn(2, grid, grid, 8)
    assert [part.shape for part in block(x, block.norm1(x))] == [(2, grid // 2, grid // 2, 16)] * 2


def test_rotation_is_complex_multiplication():
    x = torch.randn(1, 2 * 6, 8, dtype=torch.float64).float()
    turned = rotate_(x.clone(), rotary_table(2, 3, 8))
    for place in range(12):
        px, py = place % 6 % 3, place % 6 // 3
        for pair in range(4):
            frequency = 10000 ** (-(4 * (pair % 2)) / 8)
            angle = (px if pair < 2 else py) * frequency
            expected = complex(*x[0, place, 2 * pair : 2 * pair + 2].tolist()) * cmath.exp(1j * angle)
            got = complex(*turned[0, place, 2 * pair : 2 * pair + 2].tolist())
            assert abs(got - expected) < 1e-5


def test_rotary_attention_turns_the_tokens_that_have_a_place():
    torch.manual_seed(0)
    attention = RotaryAttention(8, 4)
    own, other = rotary_table(3, 3, 8), rotary_table(2, 2, 8)
    # two frames of 3 tokens without a place and 4 with one, then 2 pointer tokens
    q, k, v = torch.randn(1, 9, 8), torch.randn(1, 16, 4), torch.randn(1, 16, 4)
    keys = attention.k_proj(k)
    parts = [
        keys[:, :3],
        rotate_(keys[:, 3:7].clone(), other),
        keys[:, 7:10],
        rotate_(keys[:, 10:14].clone(), other),
        keys[:, 14:],
    ]
    weights = F.softmax(rotate_(attention.q_proj(q), own) @ torch.cat(parts, 1).transpose(1, 2) / math.sqrt(8), dim=-1)
    expected = attention.out_proj(weights @ attention.v_proj(v))
    got = attention(q, k, v, own, KeyRotation(other, before=3, after=2))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_sine_positions():
    code = sine_position_2d(8, 3, 5)
    assert code.shape == (8, 3, 5)
    y, x = 2 / (3 + 1e-6) * 2 * math.pi, 4 / (5 + 1e-6) * 2 * math.pi  # second row, fourth column
    expected = [math.sin(y), math.cos(y), math.sin(y / 100), math.cos(y / 100)]
    expected += [math.sin(x), math.cos(x), math.sin(x / 100), math.cos(x / 100)]
    assert code[:, 1, 3].tolist() == pytest.approx(expected, abs=1e-5)
    line = sine_position_1d(torch.tensor([0.5]), 4)[0]
    assert line.tolist() == pytest.approx([math.sin(0.5), math.sin(0.5), math.cos(0.5), math.cos(0.5)], abs=1e-6)


def test_layer_norm_2d_is_over_channels():
    x = torch.randn(2, 5, 3, 4)
    norm = LayerNorm2d(5)
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    torch.testing.assert_close(norm(x), (x - mean) / (var + 1e-6).sqrt())


def test_bf16_model_agrees_with_fp32():
    torch.manual_seed(0)
    network = Sam2Model(PICO, image_size=64).eval()
    image = torch.randint(0, 255, (48, 80, 3), dtype=torch.uint8)
    with torch.inference_mode():
        exact = network.encode_image(network.prepare_image(image)).coarse
        coarse = network.to(torch.bfloat16)
        rounded = coarse.encode_image(coarse.prepare_image(image)).coarse.float()
    assert F.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0) > 0.99
