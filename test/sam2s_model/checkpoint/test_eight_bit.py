"""Weights in 8 bits: close to what they were, stable, and a broken file is refused with what is wrong."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam2s_model.checkpoint import load_model, read_checkpoint
from sam2s_model.checkpoint.eight_bit import FEWEST, SCALE, channel_axes, quantise, restore, store
from sam2s_model.config import MODELS, PICO
from sam2s_model.errors import CheckpointError

LINEAR = "memory_attention.layers.0.linear1.weight"


def plain(weight: torch.Tensor, axis: int) -> torch.Tensor:
    """Rounded with the largest magnitude of each channel as 127."""
    scale = weight.abs().amax([a for a in range(weight.ndim) if a != axis], keepdim=True) / 127
    return (weight / scale).round() * scale


@pytest.mark.parametrize("shape, axis", [((48, 96), 0), ((32, 8, 3, 3), 0), ((16, 32, 2, 2), 1)])
def test_rounding_is_per_channel_and_better_than_the_plain_one(shape, axis):
    torch.manual_seed(0)
    gains = (
        torch.logspace(-4, 2, shape[axis]).movedim(0, -1).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    )
    weight = torch.randn(shape) ** 3 * gains  # with outliers, and channels a million times as large as others
    values, scale = quantise(weight, axis)
    assert values.dtype == torch.int8 and values.shape == weight.shape and scale.dtype == torch.float32
    assert scale.shape == gains.shape and values.abs().max() <= 127
    errors, others = (
        (found - weight).square().transpose(0, axis).flatten(1).sum(1)
        for found in (values * scale, plain(weight, axis))
    )
    assert (errors <= others * (1 + 1e-5)).all() and errors.sum() < others.sum()
    size = weight.square().transpose(0, axis).flatten(1).sum(1)
    assert (errors < 2e-3 * size).all()


def test_a_second_time_nothing_changes():
    torch.manual_seed(1)
    values, scale = quantise(torch.randn(32, 200) ** 3, 0)
    again, scale_again = quantise(values * scale, 0)
    assert torch.equal(values, again) and torch.allclose(scale, scale_again, rtol=1e-6, atol=0)


def test_channels_of_zeros_and_of_tiny_numbers():
    weight = torch.randn(4, 64)
    weight[1], weight[2] = 0.0, weight[2] * 1e-30
    values, scale = quantise(weight, 0)
    assert scale.isfinite().all() and (scale > 0).all() and (values[1] == 0).all()
    assert torch.allclose(values * scale, weight, rtol=0.02, atol=0.02 * float(weight[0].abs().max()))


def test_output_channels_of_each_kind_of_layer():
    axes = channel_axes(MODELS["sam2_hiera_tiny"])
    assert axes["image_encoder.trunk.blocks.0.attn.qkv.weight"] == axes["image_encoder.neck.convs.0.conv.weight"] == 0
    assert axes["sam_mask_decoder.output_upscaling.0.weight"] == 1, "a transposed convolution has them second"
    assert "image_encoder.trunk.patch_embed.proj.weight" not in axes, "it takes pixels"
    assert "image_encoder.trunk.body.stem.conv1.c.weight" not in channel_axes(MODELS["edgetam"])
    embeddings = (
        "image_encoder.trunk.pos_embed",
        "sam_mask_decoder.mask_tokens.weight",
        "sam_mask_decoder.transformer.norm_final_attn.weight",
    )
    assert not axes.keys() & set(embeddings)


@pytest.fixture
def stored(state) -> dict[str, torch.Tensor]:
    return store(state, PICO, "a.pt")


def test_there_and_back(state, stored):
    back, names = restore(stored, "a.pt")
    axes = channel_axes(PICO)
    assert set(names) == {n for n, v in state.items() if n in axes and v.numel() >= FEWEST} and LINEAR in names
    assert list(back) == list(state)
    for name, value in state.items():
        if name in names:
            assert back[name].dtype == torch.float32 and (back[name] - value).norm() < 0.01 * value.norm(), name
        else:
            assert torch.equal(back[name], value), name
    rounded = sum(state[name].numel() for name in names)
    assert rounded > 0.9 * sum(value.numel() for value in state.values())


def test_the_caller_says_from_how_many_numbers_on(state):
    names = restore(store(state, PICO, "a.pt", fewest=100_000), "a.pt")[1]
    assert names and all(state[name].numel() >= 100_000 for name in names) and LINEAR not in names


def test_a_file_loads_as_any_other(tmp_path, state, stored):
    save_file(stored, tmp_path / "a.safetensors")
    torch.save({"model": {f"module.{k}": v for k, v in stored.items()}}, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        read = read_checkpoint(tmp_path / name)
        assert set(read.state) == set(state) and LINEAR in read.eight_bit
        model = load_model(tmp_path / name, image_size=64, device="cpu")
        assert model.name == "sam2s_pico" and model.has_memory
        assert torch.equal(model.state_dict()[LINEAR], stored[LINEAR] * stored[LINEAR + SCALE])


def test_a_file_without_8_bit_weights_is_as_it_was(state):
    same, names = restore(state, "a.pt")
    assert names == () and all(same[name] is value for name, value in state.items())


def _without(stored):
    del stored[LINEAR + SCALE]


def _without_weight(stored):
    del stored[LINEAR]


def _set(name, change):
    def apply(stored):
        stored[name] = change(stored[name])

    return apply


def _filled(value):
    return _set(LINEAR + SCALE, lambda scale: torch.cat((torch.full_like(scale[:1], value), scale[1:])))


@pytest.mark.parametrize("spoil, words", [
    (_without, rf"{LINEAR} has 8-bit weights and no scale, {LINEAR}{SCALE} is missing"),
    (_without_weight, rf"{LINEAR}{SCALE} is the scale of 8-bit weights, and {LINEAR} is not there, not int8"),
    (_set(LINEAR, torch.Tensor.half), rf"and {LINEAR} is float16, not int8"),
    (_set(LINEAR + SCALE, lambda scale: scale[:-1].clone()),
     r"has the shape \(383, 1\), expected one number per channel of \(384, 96\)"),
    (_set(LINEAR + SCALE, torch.flatten), r"has the shape \(384,\), expected"),
    (_set(LINEAR + SCALE, lambda scale: scale.expand(-1, 96).contiguous()), r"has the shape \(384, 96\), expected"),
    (_set(LINEAR + SCALE, torch.Tensor.long), "not finite or not greater than 0"),
    (_filled(float("nan")), "not finite or not greater than 0"),
    (_filled(float("inf")), "not finite or not greater than 0"),
    (_filled(0.0), "not finite or not greater than 0"),
    (_filled(-1.0), "not finite or not greater than 0"),
    (_set(LINEAR, lambda weight: weight.clone().fill_(-128)), "has the value -128, expected -127 to 127"),
])  # fmt: skip
def test_a_broken_file_is_refused(tmp_path, stored, spoil, words):
    spoil(stored)
    save_file(stored, tmp_path / "a.safetensors")
    assert load_file(tmp_path / "a.safetensors").keys() == stored.keys()
    with pytest.raises(CheckpointError, match=f"a.safetensors is broken: .*{words}"):
        load_model(tmp_path / "a.safetensors", device="cpu")


def test_weights_that_are_not_finite_cannot_be_stored(state):
    with pytest.raises(CheckpointError, match=f"a.pt: {LINEAR} has numbers that are not finite"):
        store({**state, LINEAR: state[LINEAR] / 0}, PICO, "a.pt")
