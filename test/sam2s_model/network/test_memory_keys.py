"""Keys that were made with the memories, and their ages added on a frame: as if they were made on the frame."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sam2s_model.bench.flops import count
from sam2s_model.config import EDGETAM, NANO, PICO, ModelConfig
from sam2s_model.network import memory_attention
from sam2s_model.network.memory_keys import CachedKeys
from sam2s_model.network.model import Sam2Model

SMALL = dict(stages=(1, 1, 1, 1), memory_layers=2)
KINDS = {
    "places": PICO,  # every token has a place
    "latents": replace(EDGETAM, dim=64, latents_1d=6, latents_2d=16, **SMALL),  # some have none
    "latents in place, long-term codes, classes": replace(NANO, dim=64, latents_2d=16, **SMALL),
    "two attentions": replace(PICO, short_attention=True),
}
FRAMES, POINTERS, SLOTS = 5, 4, 9


def build(config: ModelConfig) -> Sam2Model:
    torch.manual_seed(0)
    model = Sam2Model(config, 64).eval().requires_grad_(False)
    for table in model.time_codes:
        table.normal_()
    return model


def given(model: Sam2Model, masked: bool, dtype: torch.dtype = torch.float32):
    """Arguments of `with_memory` for two objects, whose memories are in rows 2 and 0 of three; and their keys."""
    torch.manual_seed(1)
    config = model.config
    memory = torch.randn(3, SLOTS, model.memory_tokens, config.memory_dim).to(dtype)
    rows, columns = torch.tensor([2, 0]), torch.randint(0, SLOTS, (2, FRAMES))
    codes = torch.randint(0, sum(len(table) for table in model.time_codes), (2, FRAMES))
    read = memory[rows[:, None], columns]
    allowed = torch.rand(2, FRAMES + POINTERS) > 0.3 if masked else None
    short = (read[:, :2], codes[:, :2]) if config.short_attention else None
    features = model.encode_image(torch.randn(1, 3, 64, 64).to(dtype))
    pointers, ages = torch.randn(2, POINTERS, config.dim).to(dtype), torch.rand(2, POINTERS)
    kept = model.memory_keys(memory.flatten(0, 1)).unflatten(0, (3, SLOTS))
    cached = CachedKeys(kept, rows, columns, codes, model.time_codes)
    return (features, read, codes, pointers, ages, allowed, short), cached


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_cached_keys_lead_to_the_same(kind, masked):
    model = build(KINDS[kind])
    arguments, cached = given(model, masked)
    expected, got = model.with_memory(*arguments), model.with_memory(*arguments, cached=cached)
    torch.testing.assert_close(got.features, expected.features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.class_logits, expected.class_logits, atol=1e-4, rtol=1e-5)
    other = replace(cached, codes=cached.codes.flip(1))
    changed = model.with_memory(*arguments, cached=other).features
    assert (changed - expected.features).abs().max() > 1e-3, "and their ages count"


@torch.no_grad()
def test_in_bf16_they_are_as_close_to_the_truth():
    model = build(KINDS["places"])
    arguments, _ = given(model, True)
    exact = model.with_memory(*arguments).features
    model.bfloat16()
    arguments, cached = given(model, True, torch.bfloat16)
    plain, own = (model.with_memory(*arguments, cached=c).features for c in (None, cached))
    errors = [(made.float() - exact).norm() / exact.norm() for made in (plain, own)]
    assert errors[1] < 1.3 * errors[0] < 0.02


@torch.no_grad()
def test_they_follow_the_weights_and_the_size():
    """What is made of the temporal codes is kept, and made anew where it is not what it was."""
    model = build(KINDS["places"])
    for change in (lambda: None, lambda: model.time_codes[0].mul_(2), lambda: model.set_image_size(96)):
        change()
        size = model.image_size
        features = model.encode_image(torch.randn(1, 3, size, size))
        (_, _, codes, *rest), _ = given(model, False)
        memory = torch.randn(2, FRAMES, model.memory_tokens, model.config.memory_dim)
        kept = model.memory_keys(memory.flatten(0, 1)).unflatten(0, (2, FRAMES))
        columns = torch.arange(FRAMES).expand(2, -1)
        cached = CachedKeys(kept, torch.arange(2), columns, codes, model.time_codes)
        plain, own = (model.with_memory(features, memory, codes, *rest, cached=c).features for c in (None, cached))
        torch.testing.assert_close(own, plain, atol=1e-5, rtol=1e-5)


def test_fewer_keys_are_projected(monkeypatch):
    """As many as the formula says: those of the pointers on the frame, and those of one memory when it is made."""
    config, projected = KINDS["places"], []
    model = build(config)
    with torch.no_grad():
        arguments, cached = given(model, False)
        layer = model.memory_attention.layers[0].cross_attn_image
        own = layer.k_proj.forward
        monkeypatch.setattr(layer.k_proj, "forward", lambda x: projected.append(x.shape[1]) or own(x))
        for keys in (None, cached):
            model.with_memory(*arguments, cached=keys)
    split = config.dim // config.memory_dim
    assert projected == [FRAMES * model.memory_tokens + POINTERS * split, POINTERS * split]
    plain, fewer = (count(config, 64, FRAMES, POINTERS, 3, cache_keys=on).memory_attention for on in (False, True))
    less = (FRAMES - 1) * model.memory_tokens * 2 * config.memory_dim * config.dim * config.memory_layers
    assert plain - fewer == 3 * less


@torch.no_grad()
def test_all_layers_together_as_on_a_gpu():
    """Keys of all layers are read at once there: the parts that each layer sees are its own."""
    model = build(KINDS["places"])
    (_, read, codes, *_), cached = given(model, False)
    attention, positions = model.memory_attention, model._position(codes, model.grid)
    turn = attention.key_rotation(model.grid, 0, 0, 1.0)
    expected = list(attention._keys(read.flatten(1, 2) + positions, turn))
    weights = *cached.time, *(layer.cross_attn_image.k_proj.weight for layer in attention.layers)
    time = memory_attention.turned_time(turn.table, *weights, tables=len(cached.time), before=0)
    whole = cached.read(slice(0, attention.key_width), time, read.new_empty(2, 0, attention.key_width))
    for mine, theirs in zip(whole.chunk(len(attention.layers), dim=-1), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
