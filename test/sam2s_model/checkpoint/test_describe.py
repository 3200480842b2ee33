"""What is said about a file."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from sam2s_model.checkpoint.convert import convert
from sam2s_model.checkpoint.describe import describe
from sam2s_model.checkpoint.recognition import known_shapes
from sam2s_model.config import MODELS, PICO
from sam2s_model.errors import CheckpointError
from sam2s_model.network.model import MEMORY_PARTS
from sam2s_model.published.catalog import CATALOG
from sam2s_model.published.sha256 import file_sha256


def zeros(config, **changes) -> dict[str, torch.Tensor]:
    """A state dict that takes the memory of one number."""
    shapes = known_shapes(dataclasses.replace(config, **changes))
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def test_a_complete_file(tmp_path, state):
    path = tmp_path / "a.safetensors"
    save_file({k: v.half() if v.ndim > 1 else v for k, v in state.items()}, path, metadata={"steps": "7"})
    found = describe(path)
    assert (found.model, found.format, found.memory, found.missing) == ("sam2s_pico", "safetensors", True, ())
    assert found.size == path.stat().st_size and found.sha256 == file_sha256(path) and found.metadata == {"steps": "7"}
    assert found.tensors == len(state) == sum(found.dtypes.values()) and set(found.dtypes) == {"float16", "float32"}
    assert found.image_size == PICO.image_size and found.classes == 0 and not found.long_term_embedding
    assert json.loads(json.dumps(found.as_dict()))["model"] == "sam2s_pico"


@pytest.mark.parametrize("name, parameters", [("sam2.1_hiera_tiny", 38_962_498), ("sam2.1_hiera_large", 224_446_642)])
def test_parameters_are_counted_as_published(save, name, parameters):
    assert describe(save(zeros(MODELS[name]))).parameters == parameters


def test_the_buffers_of_normalisations_are_no_parameters(save):
    assert 13.8e6 < describe(save(zeros(MODELS["edgetam"]))).parameters < 14e6


ALIKE = "names and shapes do not tell them apart"


@pytest.mark.parametrize("name, changes, meaning", [
    ("sam2_hiera_small", {}, f"SAM 2.0 small, or a fine-tune of it such as SurgSAM2: {ALIKE}"),
    ("sam2.1_hiera_small", {}, f"SAM 2.1 small, or a fine-tune of it such as SurgSAM2: {ALIKE}"),
    ("sam2.1_hiera_base_plus", {}, "SAM 2.1 base+, or a fine-tune of it: names"),
    ("sam2.1_hiera_base_plus", {"num_classes": 3},
     "SAM 2.1 base+ with the additions of SAM2S, or a fine-tune of it: names"),
    ("edgetam", {}, "edgetam, or a fine-tune of it"),
])  # fmt: skip
def test_a_fine_tune_is_not_told_apart(save, name, changes, meaning):
    found = describe(save(zeros(MODELS[name], **changes)))
    assert found.meaning.startswith(meaning) and found.classes == changes.get("num_classes", 0)


def test_an_image_half(save):
    half = {k: v for k, v in zeros(MODELS["sam2.1_hiera_tiny"]).items() if not k.startswith(MEMORY_PARTS)}
    found = describe(save({"model": half, "note": "x"}))
    assert found.meaning == "the image half of SAM 2.0 or 2.1 tiny: what tells the two apart is in the memory's parts"
    assert not found.memory and "memory_encoder.out_proj.weight" in found.missing
    assert found.wrappers == ("model",) and found.beside == ("note",)


def test_8_bit_weights_are_said(tmp_path, save, state):
    convert(save({k: v for k, v in state.items()}), tmp_path / "b.safetensors", int8=True, image_size=96)
    found, before = describe(tmp_path / "b.safetensors"), describe(tmp_path / "a.pt")
    assert found.meaning.endswith("; with 8-bit weights") and before.in_eight_bits == 0
    assert found.in_eight_bits == found.dtypes["int8"] > 50 and set(found.dtypes) == {"int8", "float16"}
    assert (found.tensors, found.parameters, found.missing) == (before.tensors, before.parameters, ())
    assert found.image_size == 96 and found.metadata["source_sha256"] == before.sha256


def test_a_published_file_is_known_by_its_sha256(save, state, monkeypatch):
    path = save(state)
    entry = dataclasses.replace(CATALOG["edgetam"], name="ours", file="ours.pt", sha256=file_sha256(path))
    monkeypatch.setitem(CATALOG, "ours", entry)
    assert describe(path).meaning == "the published file ours.pt"


def test_a_file_that_is_none(save, state):
    with pytest.raises(CheckpointError, match="1 unexpected: more"):
        describe(save({**state, "more": torch.zeros(1)}))
