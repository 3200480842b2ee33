"""From a file to a model: strictly, also files with exactly the published names and shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sam2s_model.checkpoint import load_model
from sam2s_model.config import PICO
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.network.model import MEMORY_PARTS, Sam2Model

SHARED = Path(__file__).resolve().parents[4] / "shared"
HALF = SHARED / "weights" / "sam2_hiera_tiny_image_part.fp16.pt"
KEYS = {
    "sam2.1_t": "sam2.1_hiera_tiny", "sam2.1_s": "sam2.1_hiera_small", "sam2.1_b+": "sam2.1_hiera_base_plus",
    "sam2.1_l": "sam2.1_hiera_large", "sam2_s": "sam2_hiera_small", "edgetam": "edgetam",
}  # fmt: skip


@pytest.mark.parametrize("name", ["a.pt", "bare.pt", "a.safetensors"])
def test_a_complete_checkpoint_loads(tmp_path, state, name):
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(state, path)
    else:
        torch.save(state if name == "bare.pt" else {"model": state}, path)
    model = load_model(path, image_size=64, device="cpu")
    assert model.name == "sam2s_pico" and model.has_memory and model.missing == () and model.image_size == 64
    assert all((value == state[key]).all() for key, value in model.state_dict().items())
    assert not model.training and not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "keys, name",
    [pytest.param(*row, id=row[0], marks=pytest.mark.full if row[0].endswith("_l") else ()) for row in KEYS.items()],
)
def test_published_names_and_shapes_load_strictly(keys, name, tmp_path):
    """Every tensor of the published file arrives in the model, bit by bit, and none of the model's is left over."""
    table = SHARED / "keys" / f"{keys}.tsv"
    if not table.is_file():
        pytest.skip(reason=f"no list of published keys at {table}")
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    shapes = {key: (tuple(json.loads(shape)), getattr(torch, kind)) for key, shape, kind in rows}
    state = _random(shapes)
    torch.save({"model": state}, tmp_path / "a.pt")
    model = load_model(tmp_path / "a.pt", device="cpu", precision="fp32")
    assert model.name == name and model.missing == () and model.has_memory
    loaded = model.state_dict()
    assert {key: (tuple(value.shape), value.dtype) for key, value in loaded.items()} == shapes
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def _random(shapes) -> dict[str, torch.Tensor]:
    """Random tensors, each with values of its own, cut out of one pool: a file of 900 MB takes 30 MB."""
    largest = max(torch.Size(shape).numel() for shape, _ in shapes.values())
    pool = torch.randn(largest + len(shapes), generator=torch.Generator().manual_seed(0))
    out = {}
    for i, (key, (shape, kind)) in enumerate(shapes.items()):
        count = torch.Size(shape).numel()
        out[key] = pool[i : i + count].reshape(shape) if kind.is_floating_point else torch.full(shape, i, dtype=kind)
    return out


def test_a_file_says_the_size_of_its_input(tmp_path, state):
    save_file(state, tmp_path / "a.safetensors", metadata={"image_size": "96"})
    assert load_model(tmp_path / "a.safetensors", device="cpu").image_size == 96
    assert load_model(tmp_path / "a.safetensors", image_size=64, device="cpu").image_size == 64
    save_file(state, tmp_path / "b.safetensors", metadata={"image_size": "0"})
    assert load_model(tmp_path / "b.safetensors", device="cpu").image_size == PICO.image_size


def test_names_are_taken_as_the_command_line_takes_them(tmp_path, state, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load_model("sam2s_pico", image_size=64, device="cpu").name == "sam2s_pico"
    (tmp_path / "sam2s").mkdir()
    torch.save({"model": state}, tmp_path / "sam2s" / "sam2.1_hiera_s_endo18.pth")
    assert load_model("sam2.1_hiera_s_endo18", image_size=64, device="cpu").name == "sam2s_pico"
    for given, words in (
        ("sam2_hiera_tiny", "get it with `sam2s checkpoint download sam2_hiera_tiny`"),
        ("sam2.1_tiny", "'sam2.1_tiny' does not exist: did you mean 'sam2.1_hiera_tiny'"),
        ("sam2s/sam2.1_hiera_s_endo17.pth", "did you mean 'sam2s/sam2.1_hiera_s_endo18.pth'"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_model(given, device="cpu")


def test_an_image_half_loads_and_names_what_is_missing(save, state):
    path = save({"model": {k: v.half() for k, v in state.items() if not k.startswith(MEMORY_PARTS)}})
    model = load_model(path, device="cpu", model="sam2s_pico")
    assert not model.has_memory and not model.has_object_score
    assert set(model.missing) == {k for k in state if k.startswith(MEMORY_PARTS)}
    assert model.dtype == torch.float32


def test_the_shared_image_half_of_sam2_tiny():
    if not HALF.is_file():
        pytest.skip(reason=f"no weights at {HALF}")
    stored = torch.load(HALF, weights_only=True)
    model = load_model(HALF, image_size=64, device="cpu")
    assert model.name == "sam2_hiera_tiny" and set(model.missing) == set(stored["missing"])
    assert len(stored["model"]) + len(model.missing) == len(model.state_dict()) == 468


@pytest.mark.parametrize("model", ["auto", "sam2s_pico"])
def test_the_additions_of_sam2s_come_from_the_file(save, state, model):
    import dataclasses

    torch.manual_seed(2)
    config = dataclasses.replace(PICO, long_term_embedding=True, num_classes=5)
    more = {**Sam2Model(config).state_dict(), **state}
    loaded = load_model(save({"model": more}), model=model, device="cpu")
    assert loaded.config == config and loaded.has_memory
    assert all(torch.equal(value, more[key]) for key, value in loaded.state_dict().items())


def test_a_model_of_another_name_is_refused(save, state):
    path = save({"model": state})
    with pytest.raises(
        CheckpointError, match="is not a checkpoint of sam2.1_hiera_tiny: .* of another shape.*nearest is sam2s_pico"
    ):
        load_model(path, model="sam2.1_hiera_tiny", device="cpu")


@pytest.mark.parametrize("options, words", [
    (dict(model="sam9"), "model 'sam9' is not known"),
    (dict(device="tpu"), "device is 'tpu': expected auto, cpu, cuda or cuda:N"),
    (dict(device="cuda:99"), "device is 'cuda:99' but torch .* sees"),
    (dict(device="cpu", precision="fp8"), "precision is 'fp8': expected auto, fp32, bf16, fp16, int8"),
    (dict(device="cpu", precision="fp16"), "precision is 'fp16' on a CPU"),
    (dict(device="cpu", image_size=100), "image_size is 100: expected a multiple of 32"),
])  # fmt: skip
def test_options_are_checked(save, state, options, words):
    with pytest.raises(ConfigError, match=words):
        load_model(save(state), **options)
