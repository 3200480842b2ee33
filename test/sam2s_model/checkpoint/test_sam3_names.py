"""Files of SAM 3: exactly the tracker and its tower are loaded, the rest is named and never in memory."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam2s_model.checkpoint import load_model, read_checkpoint, recognise
from sam2s_model.checkpoint.convert import convert
from sam2s_model.checkpoint.recognition import check_names, known_shapes, without_weights
from sam2s_model.checkpoint.sam3_names import from_sam3, left_out
from sam2s_model.checkpoint.transformers_names import to_transformers
from sam2s_model.config import MODELS, SAM3
from sam2s_model.errors import CheckpointError
from sam2s_model.network.model import Sam2Model

KEYS = Path(__file__).parents[4] / "shared" / "keys" / "sam3.tsv"
SMALL = dict(embed_dim=32, num_heads=2, stages=(2,), global_blocks=(1,), window_spec=(5,), mlp_dim=48, position_side=4)
NARROW = replace(SAM3, name="sam3_narrow", **SMALL)
BACK = (
    (r"^image_encoder\.trunk\.(.*)\.mlp\.layers\.0\.", r"detector.backbone.vision_backbone.trunk.\1.mlp.fc1."),
    (r"^image_encoder\.trunk\.(.*)\.mlp\.layers\.1\.", r"detector.backbone.vision_backbone.trunk.\1.mlp.fc2."),
    (r"^image_encoder\.trunk\.", "detector.backbone.vision_backbone.trunk."),
    (r"^image_encoder\.neck\.convs\.", "detector.backbone.vision_backbone.sam2_convs."),
    (r"^memory_attention\.", "tracker.transformer.encoder."),
    (r"^memory_encoder\.", "tracker.maskmem_backbone."),
    (r"^(sam_mask_decoder\.transformer\.layers\.\d\.mlp)\.layers\.0\.", r"tracker.\1.lin1."),
    (r"^(sam_mask_decoder\.transformer\.layers\.\d\.mlp)\.layers\.1\.", r"tracker.\1.lin2."),
    (r"^(?!tracker\.|detector\.)", "tracker."),
)


def as_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With the published names, and some of the detector's tensors beside."""
    out = {}
    for name, value in state.items():
        for pattern, new in BACK:
            name = re.sub(pattern, new, name)
        out[name] = value
    out["detector.backbone.vision_backbone.trunk.blocks.0.attn.freqs_cis"] = torch.ones(25, 8, dtype=torch.complex64)
    out["detector.backbone.vision_backbone.convs.0.conv_1x1.bias"] = torch.ones(3)
    out["detector.backbone.language_backbone.encoder.weight"] = torch.full((4, 4), torch.nan)
    out["detector.transformer.decoder.weight"] = torch.ones(2)
    return out


@pytest.fixture(scope="module")
def narrow() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: value.detach() for name, value in Sam2Model(NARROW).state_dict().items()}


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setitem(MODELS, NARROW.name, NARROW)


def test_the_published_tracker_and_tower_are_exactly_the_model():
    if not KEYS.is_file():
        pytest.skip(f"the published key list is not at {KEYS}")
    rows = [line.split("\t") for line in KEYS.read_text().splitlines()]
    published = {name: torch.empty(ast.literal_eval(shape), device="meta") for name, shape, _ in rows}
    assert len(published) == 773
    state = from_sam3(published)
    assert {name: tuple(value.shape) for name, value in state.items()} == known_shapes(SAM3)
    config = recognise(state, "sam3.pt")
    assert config == SAM3 and check_names(known_shapes(config), state, config.name, "sam3.pt") == ()
    assert left_out(published) == (
        "detector.backbone.vision_backbone.trunk.* (32)",
        "detector.backbone.vision_backbone.convs.* (22)",
    )


def test_sizes_of_the_parts():
    count = lambda part: sum(p.numel() for p in part.parameters())  # noqa: E731
    network = without_weights(SAM3)
    encoder = network.image_encoder
    assert round(count(encoder) / 1e6) == 454 and round(count(encoder.neck) / 1e6, 1) == 7.8
    assert round((count(network) - count(encoder)) / 1e6, 2) == 11.74


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_published_file_loads_and_says_what_is_not_run(narrow, known, tmp_path, suffix):
    path = tmp_path / f"sam3{suffix}"
    if suffix == ".pt":
        torch.save({"model": as_published(narrow)}, path)
    else:
        save_file(as_published(narrow), path)
    with pytest.warns(UserWarning, match=r"text prompts are not.*not read: .*language_backbone.encoder.\* \(1\)"):
        model = load_model(path, device="cpu")
    assert model.name == "sam3_narrow" and model.has_memory
    assert all(torch.equal(value, narrow[name]) for name, value in model.state_dict().items())


def test_names_of_transformers(narrow, known, tmp_path):
    theirs = {k: v.clone() for k, v in to_transformers(narrow, "sam3").items()}
    save_file(theirs, tmp_path / "tracker.safetensors")
    as_saved = {}  # of the whole model, the tracker's own names have a prefix
    for name, value in theirs.items():
        if name.startswith("vision_encoder.backbone."):
            as_saved[f"detector_model.{name}"] = value
        elif name.startswith("vision_encoder.neck."):
            as_saved[name.replace("vision_encoder.neck.", "tracker_neck.")] = value
        else:
            as_saved[f"tracker_model.{name}"] = value
    save_file({**as_saved, "detector_model.text_encoder.weight": torch.ones(3)}, tmp_path / "whole.safetensors")
    for file in ("tracker.safetensors", "whole.safetensors"):
        stored = read_checkpoint(tmp_path / file)
        assert recognise(stored.state, file).name == "sam3_narrow"
        for name, value in narrow.items():
            if name == "image_encoder.trunk.pos_embed":  # the class token's row is not there, and not used
                assert torch.equal(stored.state[name][:, 1:], value[:, 1:])
            else:
                assert torch.equal(stored.state[name], value), name
    assert stored.not_read == ("detector_model.text_encoder.* (1)",)


def test_convert_gives_transformers_names(narrow, known, tmp_path):
    torch.save(as_published(narrow), tmp_path / "sam3.pt")
    theirs = tmp_path / "theirs.safetensors"
    assert convert(tmp_path / "sam3.pt", theirs, to="transformers").model == "sam3_narrow"
    expected = to_transformers(narrow, "sam3")
    assert set(load_file(theirs)) == set(expected) and all(
        torch.equal(v, expected[k]) for k, v in load_file(theirs).items()
    )


def test_sam_3_1_is_refused_by_name(narrow, save):
    state = {name.replace("tracker.", "tracker.model."): value for name, value in as_published(narrow).items()}
    with pytest.raises(CheckpointError, match="is SAM 3.1, whose tracker is another network"):
        read_checkpoint(save(state))


DETECTOR = 370_000_000  # numbers in the detector and the text encoder, about
PEAKS = "loading: MB kept, and most that were held"
PEAK = """
import dataclasses, json, sys, warnings
import torch
from sam2s_model.checkpoint import load_model
from sam2s_model.config import MODELS, ModelConfig

def status(what):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(what))

torch.set_num_threads(1)
options = json.loads(sys.argv[2])
options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
name = "wide" if options else "sam3"
MODELS[name] = dataclasses.replace(MODELS["sam3"], name=name, **options)
warnings.simplefilter("ignore")
load_model("sam2s_pico", device="cpu")
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
model = load_model(sys.argv[1], device="cpu", precision=sys.argv[3])
assert model.name == name
print(sum(v.numel() * v.element_size() for v in model.state_dict().values()), status("VmHWM") - before)
"""


def peak_of_loading(path: Path, options: dict, precision: str) -> tuple[int, int]:
    """Bytes that a model keeps, and most bytes of memory that a process got while it loaded it.

    options: of `ModelConfig`, in which it is another than SAM 3
    """
    with path.open("rb") as file:  # pages that still have to be written to the disk cannot be given back
        os.fsync(file)
    command = [sys.executable, "-c", PEAK, str(path), json.dumps(options), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept, peak = map(int, done.stdout.split())
    return kept, peak


@pytest.mark.parametrize(
    "suffix, precision",
    [
        (".pt", "bf16"),
        pytest.param(".safetensors", "fp32", marks=pytest.mark.full),
        pytest.param(".pt", "fp32", marks=pytest.mark.full),
        pytest.param(".safetensors", "bf16", marks=pytest.mark.full),
    ],
)
def test_loading_needs_hardly_more_memory_than_is_kept(tmp_path, suffix, precision, record_property):
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell a process how much memory it has had")
    options = dict(embed_dim=640, num_heads=8, stages=(8,), global_blocks=(7,), mlp_dim=2560)
    config = replace(SAM3, name="wide", **options)
    state = {name: torch.zeros(shape) for name, shape in known_shapes(config).items()}
    state = as_published(state) | {"detector.transformer.decoder.weight": torch.zeros(60_000_000)}
    path = tmp_path / f"wide{suffix}"
    torch.save({"model": state}, path) if suffix == ".pt" else save_file(state, path)
    del state
    kept, peak = peak_of_loading(path, options, precision)
    path.unlink()
    record_property("table", (PEAKS, f"{'kept':>8}{'peak':>8}", f"wide{suffix} {precision}", row(kept, peak)))
    assert peak < 1.2 * kept


@pytest.mark.full
@pytest.mark.parametrize("suffix, precision", [(".pt", "bf16"), (".safetensors", "fp32")])
def test_loading_all_of_sam_3_needs_hardly_more_memory_than_is_kept(tmp_path, suffix, precision, record_property):
    """With all published tensors of tracker and tower, and as many numbers beside them as detector and text have."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell a process how much memory it has had")
    if not KEYS.is_file():
        pytest.skip(f"the published key list is not at {KEYS}")
    rows = [line.split("\t") for line in KEYS.read_text().splitlines()]
    state = {
        name: torch.zeros(ast.literal_eval(shape), dtype=getattr(torch, kind.removeprefix("torch.")))
        for name, shape, kind in rows
    }
    state["detector.backbone.language_backbone.encoder.weight"] = torch.zeros(DETECTOR)
    path = tmp_path / f"sam3{suffix}"
    torch.save({"model": state}, path) if suffix == ".pt" else save_file(state, path)
    del state
    kept, peak = peak_of_loading(path, {}, precision)
    path.unlink()
    record_property("table", (PEAKS, f"{'kept':>8}{'peak':>8}", f"sam3{suffix} {precision}", row(kept, peak)))
    assert kept > 465e6 * (2 if precision == "bf16" else 4)
    assert peak < 1.2 * kept


def row(kept: int, peak: int) -> str:
    return f"{kept / 1e6:8.0f}{peak / 1e6:8.0f}"
