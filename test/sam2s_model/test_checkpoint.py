"""Loading: strict, recognised from keys and shapes, and every refusal names what is wrong."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sam2s_model.checkpoint import file_sha256, load_model, recognise
from sam2s_model.config import MODELS, PICO
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.model import MEMORY_PARTS, Sam2Model

SHARED = Path(__file__).resolve().parents[3] / "shared" / "weights" / "sam2_hiera_tiny_image_part.fp16.pt"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(1)
    return Sam2Model(PICO).state_dict()


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


def test_an_image_half_loads_and_names_what_is_missing(tmp_path, state):
    path = tmp_path / "half.pt"
    torch.save({"model": {k: v.half() for k, v in state.items() if not k.startswith(MEMORY_PARTS)}}, path)
    model = load_model(path, device="cpu")
    assert not model.has_memory and not model.has_object_score
    assert set(model.missing) == {k for k in state if k.startswith(MEMORY_PARTS)}
    assert model.dtype == torch.float32


def test_the_shared_image_half_of_sam2_tiny():
    if not SHARED.is_file():
        pytest.skip(reason=f"no weights at {SHARED}")
    stored = torch.load(SHARED, weights_only=True)
    model = load_model(SHARED, image_size=64, device="cpu")
    assert model.name == "sam2_hiera_tiny" and set(model.missing) == set(stored["missing"])
    assert len(stored["model"]) + len(model.missing) == len(model.state_dict()) == 468


@pytest.mark.parametrize("name", MODELS)
def test_each_known_model_is_recognised(name):
    with torch.device("meta"):
        state = Sam2Model(MODELS[name]).state_dict()
    assert recognise(state, "x").name == name


class _Trap:
    def __reduce__(self):
        return (print, ("code in a checkpoint was run",))


def test_refusals(tmp_path, state, capsys):
    def saved(name, content):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    renamed = {("encoder." + k if i == 0 else k): v for i, (k, v) in enumerate(state.items())}
    reshaped = {**state, "no_mem_embed": torch.zeros(1, 1, 7)}
    (tmp_path / "text.pt").write_text("not a checkpoint")
    (tmp_path / "empty_file.pt").write_bytes(b"")
    (tmp_path / "bytes.pt").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(_Trap()))
    cases = [
        (tmp_path / "nowhere.pt", {}, "does not exist"),
        (tmp_path, {}, "does not exist"),
        (tmp_path / "text.pt", {}, "is not a .pt checkpoint that loads with weights only"),
        (tmp_path / "empty_file.pt", {}, "is not a .pt checkpoint"),
        (tmp_path / "bytes.pt", {}, "is not a .pt checkpoint"),
        (tmp_path / "text.safetensors", {}, "is not a .safetensors checkpoint that loads"),
        (tmp_path / "code.pt", {}, "is not a .pt checkpoint that loads with weights only"),
        (saved("list.pt", [1, 2]), {}, "holds no state dict"),
        (saved("empty.pt", {}), {}, "holds no state dict"),
        (saved("numbers.pt", {0: torch.zeros(1)}), {}, "holds no state dict"),
        (saved("other.pt", {"conv.weight": torch.zeros(3)}), {}, "not a checkpoint of a known model: nearest is"),
        (saved("good.pt", state), dict(model="sam2.1_hiera_tiny"), "is not a checkpoint of sam2.1_hiera_tiny: .* of another shape"),
        (saved("renamed.pt", renamed), dict(model="sam2s_pico"), "1 unexpected: encoder.maskmem_tpos_enc"),
        (saved("reshaped.pt", reshaped), dict(model="sam2s_pico"), r"no_mem_embed \(1, 1, 7\) instead of \(1, 1, 96\)"),
        (
            saved("cut.pt", {k: v for k, v in state.items() if k != "sam_mask_decoder.iou_token.weight"}),
            dict(model="sam2s_pico"),
            "1 missing: sam_mask_decoder.iou_token.weight",
        ),
    ]
    for path, options, words in cases:
        with pytest.raises(CheckpointError, match=words):
            load_model(path, device="cpu", **options)
    assert "code in a checkpoint was run" not in capsys.readouterr().out


@pytest.mark.parametrize("options, words", [
    (dict(model="sam9"), "model 'sam9' is not known"),
    (dict(device="tpu"), "device is 'tpu': expected auto, cpu, cuda or cuda:N"),
    (dict(device="cuda:99"), "device is 'cuda:99' but torch .* sees"),
    (dict(device="cpu", precision="fp8"), "precision is 'fp8': expected auto, fp32, bf16, fp16"),
    (dict(device="cpu", precision="fp16"), "precision is 'fp16' on a CPU"),
    (dict(device="cpu", image_size=100), "image_size is 100: expected a multiple of 32"),
])  # fmt: skip
def test_options_are_checked(tmp_path, state, options, words):
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=words):
        load_model(tmp_path / "a.pt", **options)


def test_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc" * 1_000_000)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
