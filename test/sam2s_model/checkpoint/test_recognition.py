"""Which model a state dict is of: from names and shapes alone, for every known model and what others make of them."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings, strategies as st

from sam2s_model.checkpoint import check_state_dict, recognise
from sam2s_model.checkpoint.recognition import SCORE_HEAD, check_names, known_shapes
from sam2s_model.config import MODELS, PICO
from sam2s_model.errors import CheckpointError
from sam2s_model.network.model import MEMORY_PARTS, Sam2Model

TINY, EDGETAM = MODELS["sam2.1_hiera_tiny"], MODELS["edgetam"]


def tensors(config, **changes) -> dict[str, torch.Tensor]:
    """The state dict of a model, without memory for the weights."""
    shapes = known_shapes(dataclasses.replace(config, **changes))
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def compare(config, state) -> tuple[str, ...]:
    return check_names(known_shapes(config), state, config.name, "x.pt")


def adapters(config, name: str, blocks: int = 6) -> dict[str, torch.Tensor]:
    return {f"image_encoder.trunk.blocks.{i}.{name}": torch.empty(3, device="meta") for i in range(blocks)}


@pytest.mark.parametrize("extras", [
    {}, {"long_term_embedding": True}, {"num_classes": 1}, {"long_term_embedding": True, "num_classes": 9},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("name", MODELS)
def test_each_known_model_is_recognised(name, extras):
    state = tensors(MODELS[name], **extras)
    config = recognise(state, "x.pt")
    assert config == dataclasses.replace(MODELS[name], **extras)
    assert compare(config, state) == ()


@pytest.mark.parametrize("name", MODELS)
def test_an_image_half_counts_as_2_0(name):
    whole = tensors(MODELS[name])
    half = {k: v for k, v in whole.items() if not k.startswith(MEMORY_PARTS)}
    config = recognise(half, "x.pt")
    assert config.name == name.replace("sam2.1_", "sam2_")
    assert set(compare(config, half)) == {k for k in known_shapes(config) if k.startswith(MEMORY_PARTS)}
    with_score = {k: v for k, v in whole.items() if not k.startswith(MEMORY_PARTS) or k.startswith(SCORE_HEAD)}
    assert not any(k.startswith(SCORE_HEAD) for k in compare(recognise(with_score, "x.pt"), with_score))


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=4)
@given(data=st.data())
def test_any_damage_is_named(name, data):
    """Whatever single tensor is lost, renamed or reshaped: the refusal names it, and the model it is nearest to."""
    state = tensors(MODELS[name])
    key = data.draw(st.sampled_from(sorted(state)))
    damage = data.draw(st.sampled_from(["lost", "renamed", "reshaped"]))
    value = state.pop(key)
    if damage != "lost":
        state["other." + key if damage == "renamed" else key] = value.new_empty((*value.shape, 2))
    with pytest.raises(CheckpointError) as refusal:
        compare(recognise(state, "x.pt"), state)
    text = str(refusal.value)
    expected = {
        "lost": f"1 missing: {key}",
        "renamed": f"1 unexpected: other.{key}; 1 missing: {key}",
        "reshaped": f"1 of another shape: {key} {(*value.shape, 2)} instead of {tuple(value.shape)}",
    }
    assert expected[damage] in text and f"{name}" in text and "\n" not in text


def test_a_mismatch_names_the_nearest_model_and_every_difference():
    state = tensors(TINY)
    del state["no_obj_embed_spatial"], state["no_obj_ptr"]
    state["my_head.weight"] = torch.empty(3, 4, device="meta")
    state["no_mem_embed"] = torch.empty(1, 1, 7, device="meta")
    with pytest.raises(CheckpointError) as refusal:
        recognise(state, "x.pt")
    assert str(refusal.value) == (
        "x.pt is not a checkpoint of a known model: nearest is sam2.1_hiera_tiny, from which it differs in "
        "1 unexpected: my_head.weight; 1 of another shape: no_mem_embed (1, 1, 7) instead of (1, 1, 256); "
        f"2 missing: no_obj_ptr, no_obj_embed_spatial (known: {', '.join(MODELS)})"
    )


def test_long_lists_are_counted_and_cut():
    state = {**tensors(TINY), **adapters(TINY, "thing", 12)}
    with pytest.raises(CheckpointError, match=r"12 unexpected: (image\S+thing, ){3}image\S+thing and 8 more$"):
        compare(TINY, state)
    state = {**tensors(TINY), **adapters(TINY, "thing", 8)}
    with pytest.raises(CheckpointError, match=r"8 unexpected: (image\S+thing, ){7}image\S+thing$"):
        compare(TINY, state)


def test_something_else():
    with pytest.raises(
        CheckpointError, match=r"none of its 1 tensors, such as conv.weight \(3,\), is of one \(known: sam2_"
    ):
        recognise({"conv.weight": torch.zeros(3)}, "x.pt")


def test_another_model_than_the_one_asked_for_is_named():
    with pytest.raises(CheckpointError, match="x.pt is not a checkpoint of sam2.1_hiera_tiny: .*; nearest is edgetam$"):
        compare(TINY, tensors(EDGETAM))
    with pytest.raises(CheckpointError, match=r"3 missing: no_obj_embed.*; nearest is sam2_hiera_tiny$"):
        compare(TINY, tensors(MODELS["sam2_hiera_tiny"]))


def test_a_part_of_the_memory_is_not_a_half():
    """Otherwise a damaged file would track without memory, and nobody would notice."""
    state = tensors(TINY)
    lost = [k for k in state if k.startswith("memory_encoder.fuser.")]
    for key in lost:
        del state[key]
    with pytest.raises(CheckpointError, match=f"{len(lost)} missing: memory_encoder.fuser"):
        compare(recognise(state, "x.pt"), state)


@pytest.mark.parametrize("names, words", [
    (["adapter.pw1.0.weight"], r"adapters such as DD-SAM2's \(6 tensors under image_encoder.trunk.blocks.N.adapter.\)"),
    (["Space_Adapter.D_fc1.bias"],
     r"adapters such as DD-SAM2's \(6 tensors under image_encoder.trunk.blocks.N.Space_Adapter"),
    (["attn.qkv.lora_down.weight", "attn.qkv.lora_up.weight"],
     r"LoRA layers \(12 tensors under .*N.attn.qkv.lora_down., .*lora_up"),
    (["mem_ca.fc.0.weight"], r"memory adapters such as DD-SAM2's \(6 tensors"),
])  # fmt: skip
def test_adapters_are_named_and_refused(names, words):
    state = tensors(TINY)
    for name in names:
        state |= adapters(TINY, name)
    with pytest.raises(CheckpointError, match=f"x.pt is sam2.1_hiera_tiny with {words}.*: this model has no such part"):
        compare(recognise(state, "x.pt"), state)


def test_a_text_branch_is_named_and_refused():
    state = {**tensors(TINY), "cross_modal_fusion.a": torch.empty(1), "language_model.b.c": torch.empty(1)}
    with pytest.raises(
        CheckpointError, match=r"a text branch such as ReSurgSAM2's \(2 tensors under cross_modal_fusion., lang"
    ):
        compare(TINY, state)


def test_two_foreign_parts_are_both_named():
    state = {**tensors(TINY), **adapters(TINY, "adapter.pw1.0.weight"), **adapters(TINY, "mem_ca.fc.0.weight", 1)}
    with pytest.raises(CheckpointError, match=r"with adapters such .*\(6 tensors .* and memory adapters .*\(1 tensors"):
        compare(TINY, state)
    with pytest.raises(CheckpointError, match="7 unexpected: .*mem_ca.*; 1 missing: no_obj_ptr$"):
        compare(TINY, {k: v for k, v in state.items() if k != "no_obj_ptr"})


def test_lora_that_renames_is_refused_too():
    state = {re.sub(r"\.qkv\.", ".qkv.original.", k): v for k, v in tensors(TINY).items()}
    state |= adapters(TINY, "attn.qkv.lora_up.weight")
    with pytest.raises(CheckpointError, match="unexpected: .*qkv.original.*missing: .*qkv.weight"):
        compare(recognise(state, "x.pt"), state)


@pytest.mark.parametrize(
    "key", ["no_mem_embed", "image_encoder.trunk.patch_embed.proj.weight", "temporal_semantics.class_embeddings"]
)
def test_a_scalar_where_a_table_belongs(key):
    with pytest.raises(CheckpointError, match=r"\(\) instead of|unexpected: temporal_semantics"):
        state = {**tensors(TINY), key: torch.zeros(())}
        compare(recognise(state, "x.pt"), state)


def test_check_state_dict_takes_a_model(state):
    network = Sam2Model(PICO)
    assert check_state_dict(state, network, "x.pt") == ()
    expected = r"x.pt is sam2s_pico with parts .*--allow-extra leaves them out\): 1 unexpected: a"
    with pytest.raises(CheckpointError, match=expected):
        check_state_dict({**state, "a": torch.zeros(1)}, network, "x.pt")
