"""EdgeTAM's own parts: the convolutional image encoder and the perceiver that makes memories small."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sam2s_model.checkpoint import load_model
from sam2s_model.config import EDGETAM, PICO
from sam2s_model.errors import CheckpointError
from sam2s_model.network.image_encoder.repvit import ConvNorm, RepViT, SqueezeExcite, TokenMixer
from sam2s_model.network.layers import sine_position_2d
from sam2s_model.network.model import Sam2Model
from sam2s_model.network.perceiver import CrossAttention, SpatialPerceiver

SMALL = replace(PICO, backbone="repvit_m1", embed_dim=16, stages=(1, 1, 2, 1), latents_1d=6, latents_2d=16)


@pytest.fixture(scope="module")
def edgetam() -> Sam2Model:
    """EdgeTAM with random weights, statistics of its normalisations included."""
    torch.manual_seed(0)
    network = Sam2Model(EDGETAM).eval().requires_grad_(False)
    randomise_statistics(network)
    return network


def randomise_statistics(network: nn.Module) -> None:
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.2)
            part.running_var.uniform_(0.5, 1.5)


def test_four_maps_of_an_image():
    trunk = RepViT(48, (2, 2, 14, 2))
    maps = trunk(torch.zeros(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 48, 16, 24), (2, 96, 8, 12), (2, 192, 4, 6), (2, 384, 2, 3)]
    assert trunk.channels == [48, 96, 192, 384]


def test_a_token_mixer_is_one_depthwise_convolution():
    torch.manual_seed(0)
    mixer = TokenMixer(6)
    randomise_statistics(mixer)
    fold = lambda part: part.bn.weight / (part.bn.running_var + part.bn.eps).sqrt()  # noqa: E731
    kernel = mixer.conv.c.weight * fold(mixer.conv)[:, None, None, None]
    kernel[:, :, 1, 1] += mixer.conv1.c.weight[:, :, 0, 0] * fold(mixer.conv1)[:, None] + 1
    bias = sum(part.bn.bias - part.bn.running_mean * fold(part) for part in (mixer.conv, mixer.conv1))
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(mixer(x), F.conv2d(x, kernel, bias, padding=1, groups=6), atol=1e-5, rtol=1e-4)


def test_squeezing_weighs_whole_channels():
    torch.manual_seed(0)
    squeeze = SqueezeExcite(48)
    x = torch.rand(2, 48, 4, 4) + 0.1
    ratio = squeeze(x) / x
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))
    assert ((ratio > 0) & (ratio < 1)).all() and ratio.std() > 0
    assert [SqueezeExcite(n).fc1.out_channels for n in (48, 96, 192, 384)] == [16, 24, 48, 96]  # as published


def test_normalisation_ignores_the_batch_in_training_too():
    torch.manual_seed(0)
    layer = ConvNorm(3, 4).train()
    before = copy.deepcopy(layer.state_dict())
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(layer(x)[:1], layer(x[:1]))
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("grid", [(64, 64), (32, 32), (14, 14), (4, 4), (8, 20)])
def test_a_memory_of_any_size_becomes_as_many_tokens(grid):
    perceiver = SpatialPerceiver(8, latents_1d=5, latents_2d=16)
    assert perceiver(torch.randn(3, grid[0] * grid[1], 8), grid).shape == (3, 21, 8)


@pytest.mark.parametrize("place, grid, seen_by", [
    (0, (8, 8), {0}),
    (2 * 8 + 5, (8, 8), {6}),
    (63, (8, 8), {15}),
    (6 * 7 + 3, (7, 7), {13, 14}),  # 7 is stretched to 8, and place 3 of a row to 3 and 4, in two windows
])  # fmt: skip
def test_a_placed_latent_reads_its_own_window(place, grid, seen_by):
    torch.manual_seed(0)
    perceiver = SpatialPerceiver(8, latents_1d=5, latents_2d=16).eval()
    memory = torch.randn(1, grid[0] * grid[1], 8)
    other = memory.clone()
    other[0, place] += torch.randn(8)
    with torch.inference_mode():
        changed = (perceiver(memory, grid) - perceiver(other, grid)).abs().amax(2)[0] > 1e-6
    assert changed[:5].all(), "a global latent reads everything"
    assert set(changed[5:].nonzero().flatten().tolist()) == seen_by


def test_places_of_the_latents():
    place = SpatialPerceiver(8, latents_1d=5, latents_2d=16).position()
    assert (place[:5] == 0).all()
    assert torch.equal(place[5:], sine_position_2d(8, 4, 4).flatten(1).T)


def test_positions_are_added_to_keys_and_values():
    torch.manual_seed(0)
    attention = CrossAttention(8)
    latents, tokens, position = torch.randn(1, 3, 8), torch.randn(1, 6, 8), torch.randn(6, 8)
    k, v = attention.to_kv(attention.norm_x(tokens)).chunk(2, dim=-1)
    q = attention.to_q(attention.norm_latents(latents))
    weights = F.softmax(q @ (k + position).transpose(1, 2) / 8**0.5, dim=-1)
    expected = attention.to_out(weights @ (v + position))
    torch.testing.assert_close(attention(latents, tokens, position.repeat(1, 2)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [512, 256, 224, 96])
def test_edgetam_runs_at_every_size(edgetam, size):
    edgetam.set_image_size(size)
    grid = size // 16
    with torch.inference_mode():
        features = edgetam.encode_image(torch.randn(1, 3, size, size))
        decoded = edgetam.decode(edgetam.without_memory(features, 2), features, multimask=True)
        memory = edgetam.encode_memory(features, decoded.logits, torch.tensor([True, False]))
        assert memory.shape == (2, 512, 64) and edgetam.memory_tokens == 512
        codes, ages = torch.tensor([[6, 0]]).expand(2, -1), torch.ones(2, 1)
        twice = torch.stack((memory, memory), dim=1)
        conditioned = edgetam.with_memory(features, twice, codes, decoded.token[:, None], ages, None)
    assert conditioned.features.shape == (2, 256, grid, grid) and conditioned.features.isfinite().all()


def test_objects_of_a_batch_do_not_touch_each_other():
    torch.manual_seed(0)
    network = Sam2Model(SMALL, image_size=96).eval()
    with torch.inference_mode():
        features = network.encode_image(torch.randn(1, 3, 96, 96))
        logits, present = torch.randn(3, 1, 96, 96) * 5, torch.tensor([True, False, True])
        memory = network.encode_memory(features, logits, present)
        codes, pointers, ages = torch.tensor([[6]] * 3), torch.randn(3, 2, 96), torch.ones(3, 2)
        together = network.with_memory(features, memory[:, None], codes, pointers, ages, None).features
        for i in range(3):
            row = slice(i, i + 1)
            alone = network.encode_memory(features, logits[row], present[row])
            torch.testing.assert_close(memory[row], alone, atol=1e-5, rtol=1e-4)
            alone = network.with_memory(features, alone[:, None], codes[row], pointers[row], ages[row], None).features
            torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


def test_bf16_agrees_with_fp32(edgetam):
    edgetam.set_image_size(224)
    torch.manual_seed(0)
    image, logits = torch.randn(1, 3, 224, 224), torch.randn(1, 1, 224, 224) * 5
    codes, ages, present = torch.tensor([[6]]), torch.ones(1, 1), torch.tensor([True])
    pointers = torch.randn(1, 1, 256)
    out = []
    for network in (edgetam, copy.deepcopy(edgetam).to(torch.bfloat16)):
        with torch.inference_mode():
            features = network.encode_image(image.to(network.dtype))
            memory = network.encode_memory(features, logits, present)
            conditioned = network.with_memory(features, memory[:, None], codes, pointers, ages, None).features
            assert conditioned.dtype == network.dtype
            out.append([t.float().flatten() for t in (features.coarse, memory, conditioned)])
    for exact, rounded in zip(*out, strict=True):
        assert F.cosine_similarity(exact, rounded, dim=0) > 0.99


def test_the_perceiver_learns():
    torch.manual_seed(0)
    network = Sam2Model(SMALL, image_size=64).train()
    features = network.encode_image(torch.randn(1, 3, 64, 64))
    memory = network.encode_memory(features, torch.randn(1, 1, 64, 64), torch.tensor([True]))
    codes, ages = torch.tensor([[6]]), torch.ones(1, 1)
    conditioned = network.with_memory(features, memory[:, None], codes, torch.randn(1, 1, 96), ages, None)
    conditioned.features.square().sum().backward()
    new = ("spatial_perceiver.", "image_encoder.trunk")
    learnt = {key: p.grad for key, p in network.named_parameters() if key.startswith(new)}
    assert all(grad is not None and grad.isfinite().all() and grad.abs().sum() > 0 for grad in learnt.values())


def test_a_checkpoint_holds_the_counters_of_its_normalisations(edgetam, tmp_path):
    state = edgetam.state_dict()
    counter = "image_encoder.trunk.body.stem.conv1.bn.num_batches_tracked"
    assert state[counter].dtype == torch.int64
    torch.save({"model": state}, tmp_path / "whole.pt")
    whole = load_model(tmp_path / "whole.pt", "edgetam", 256, "cpu", "bf16")
    assert whole.missing == () and whole.state_dict()[counter].dtype == torch.int64 and whole.has_memory
    torch.save({k: v for k, v in state.items() if k != counter}, tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match="1 missing: " + counter.replace(".", r"\.")):
        load_model(tmp_path / "cut.pt", "edgetam", 256, "cpu")
