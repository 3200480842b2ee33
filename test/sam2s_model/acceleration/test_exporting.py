"""What torch.export takes: the image encoder, and the tracking half with the bank as inputs and outputs."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

from sam2s_model.acceleration import exporting
from sam2s_model.acceleration.exporting import (
    EncoderFile,
    EncoderProgram,
    TrackingProgram,
    beside,
    export_encoder,
    use_exported_encoder,
    weights_beside,
)
from sam2s_model.config import NANO, PICO, ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model

SMALL = dict(embed_dim=8, dim=16, memory_dim=16, decoder_mlp=16, decoder_heads=2, memory_layers=2, memory_ffn=16)
HIERA = dataclasses.replace(PICO, stages=(1, 1, 1, 1), global_blocks=(3,), window_spec=(4, 4, 6, 4), **SMALL)
REPVIT = dataclasses.replace(NANO, stages=(0, 0, 1, 0), decoder_dim=0, **SMALL)  # with latents and a class head


def build(config: ModelConfig) -> Sam2Model:
    torch.manual_seed(0)
    return Sam2Model(config, 64).eval().requires_grad_(False)


def remembered(model: Sam2Model, objects: int = 2) -> tuple[torch.Tensor, ...]:
    config = model.config
    features = model.encode_image(torch.randn(1, 3, 64, 64)).tensors
    memory = torch.randn(objects, 3, model.memory_tokens, config.memory_dim)
    codes, ages = torch.tensor([[6, 0, 1]] * objects), torch.tensor([[9.0, 1, 2, 3]] * objects)
    return *features, memory, codes, torch.randn(objects, 4, config.dim), ages


def check(program: torch.nn.Module, given: tuple[torch.Tensor, ...], other: Sam2Model) -> None:
    """Export: no complex numbers are left, and the exported program computes what the program does with `other`."""
    exported = torch.export.export(program, given, strict=True)
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        assert not (isinstance(value, torch.Tensor) and value.is_complex()), node
    program.model = other
    for own, plain in zip(exported.module()(*given), program(*given), strict=True):
        torch.testing.assert_close(own, plain, atol=1e-4, rtol=1e-4)


def needs_torch(to: str) -> None:
    if torch.__version__ < exporting.SINCE[to]:
        pytest.skip(f"needs torch {exporting.SINCE[to]}, the first that writes {to}")


@pytest.mark.full  # the one in ONNX is exported by the same
@pytest.mark.parametrize("config", [HIERA, REPVIT], ids=["hiera", "repvit"])
@torch.no_grad()
def test_the_image_encoder_as_a_program(config):
    model = build(config)
    check(EncoderProgram(model), (torch.randn(1, 3, 64, 64),), model)


@pytest.mark.full
@pytest.mark.parametrize("config, warm", [(HIERA, False), (REPVIT, True)], ids=["hiera, cold", "repvit, warm"])
@torch.no_grad()
def test_both_halves_as_programs_without_complex_numbers(config, warm):
    model = build(config)
    other = build(config)
    arguments = remembered(other)
    image = torch.randn(1, 3, 64, 64)
    if warm:
        TrackingProgram(model)(*remembered(model)), model.encode_image(image)
    allowed = torch.ones(2, 7, dtype=torch.bool)
    allowed[1, 2] = False
    tracked = (
        (TrackingProgram(model, multimask=False), (*arguments, allowed))
        if warm
        else (TrackingProgram(model), arguments)
    )
    for program, given in ((EncoderProgram(model), (image,)), tracked):
        check(program, given, other)


@pytest.mark.full
@torch.no_grad()
def test_an_encoder_of_machine_code(tmp_path):
    needs_torch("aoti")
    if not shutil.which("g++"):
        pytest.skip("needs g++, by which torch compiles for a CPU")
    model, path = build(dataclasses.replace(HIERA, stages=(1, 1, 1, 1))), tmp_path / "encoder.pt2"
    image = torch.randn(1, 3, 64, 64)
    expected = model.encode_image(image).tensors
    with torch._inductor.config.patch(
        {"cpp.vec_isa_ok": False}
    ):  # without vectors: torch takes seconds to try which there are
        described = export_encoder(model, path)
    assert described.device == "cpu" and described.image_size == 64 and described.difference < 1e-4
    use_exported_encoder(model, path)
    for own, plain in zip(model.encode_image(image).tensors, expected, strict=True):
        torch.testing.assert_close(own, plain, atol=1e-4, rtol=1e-4)

    other = build(HIERA)
    other.image_encoder.trunk.patch_embed.proj.bias.add_(1)
    with pytest.raises(ConfigError, match="made for weights"):
        use_exported_encoder(other, path)
    model.set_image_size(96)
    with pytest.raises(ConfigError, match="made for image_size 64, but this is 96"):
        use_exported_encoder(model, path)
    beside(path).write_text(json.dumps({**json.loads(beside(path).read_text()), "device": "sm_90"}))
    with pytest.raises(ConfigError, match="made for device 'sm_90', but this is 'cpu'"):
        use_exported_encoder(build(HIERA), path)
    beside(path).unlink()
    with pytest.raises(ConfigError, match="encoder.pt2.json, which says what it was made for, cannot be read"):
        use_exported_encoder(model, path)


def run_as(program, monkeypatch, model: Sam2Model, path, *, old: bool = False) -> list[dict]:
    """Let a model encode with a function in place of a file's program; returns how that was loaded."""
    told: list[dict] = []

    def load(path, run_single_threaded=False, device_index=-1):
        told.append(dict(path=path, run_single_threaded=run_single_threaded))
        return program

    load_package = (lambda path: load(path)) if old else load
    monkeypatch.setattr(torch._inductor, "aoti_load_package", load_package, raising=False)  # new in torch 2.6
    beside(path).write_text(json.dumps(dataclasses.asdict(EncoderFile.of(model))))
    use_exported_encoder(model, path)
    return told


@pytest.mark.parametrize("old", [False, True], ids=["new torch", "old torch"])
def test_a_program_that_waits_between_threads_is_not_captured(old, tmp_path, monkeypatch):
    """It asks for events, which would end the capture and all later ones of the process."""
    model, path = build(HIERA), tmp_path / "encoder.pt2"
    told = run_as(lambda image: [image] * 3, monkeypatch, model, path, old=old)
    assert told == [dict(path=str(path), run_single_threaded=not old)]
    assert model.capturable == (not old)
    model.set_image_size(96)
    assert model.capturable and not model.is_compiled


def test_threads_that_share_a_program_take_turns(tmp_path, monkeypatch):
    inside, most = [], []

    def program(image):
        inside.append(image)
        time.sleep(0.01)
        most.append(len(inside))
        inside.pop()
        return [image] * 3

    model = build(HIERA)
    run_as(program, monkeypatch, model, tmp_path / "encoder.pt2")
    image = torch.zeros(1, 3, 64, 64)

    def encode() -> None:
        with torch.no_grad():
            model.encode_image(image)

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


@pytest.mark.parametrize(
    "config, whole",
    [
        pytest.param(HIERA, True, id="hiera"),
        pytest.param(REPVIT, False, id="repvit, weights beside", marks=pytest.mark.full),
    ],
)
def test_an_encoder_as_onnx(config, whole, tmp_path, monkeypatch):
    """It is run by onnxruntime, beside torch, and has the names that are promised; in one file, if that has room."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"needs {name}: pip install -r requirements/export.txt")
    needs_torch("onnx")
    import onnx

    if not whole:
        monkeypatch.setattr(exporting, "ONE_FILE", 0)
    model, path = build(config), tmp_path / "encoder.onnx"
    described = export_encoder(model, path, to="onnx")
    assert described.difference is not None and described.difference < 1e-5
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(str(path)).graph
    assert [value.name for value in graph.input] == ["image"]
    assert [value.name for value in graph.output] == ["coarse", "middle", "fine"]
    assert json.loads(beside(path).read_text())["image_size"] == 64
    assert weights_beside(path).exists() != whole


def export_as(monkeypatch, model: Sam2Model, path, fails: BaseException | None = None, off=0.0) -> EncoderFile:
    """Export with a compiler that writes some bytes, or fails thereafter; `off` is added to its features."""

    def compiled(program, package_path):
        Path(package_path).write_bytes(b"new")
        if fails is not None:
            raise fails

    def loaded(path, run_single_threaded=False):
        return lambda image: [features + off for features in model._encode(image)]

    monkeypatch.setattr(torch.export, "export", lambda program, given, strict: program)
    monkeypatch.setattr(torch, "__version__", TorchVersion(exporting.SINCE["aoti"]))  # an older one has neither of both
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compiled, raising=False)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", loaded, raising=False)
    return export_encoder(model, path)


@pytest.mark.parametrize(
    "fails, off, said",
    [
        (KeyboardInterrupt(), 0.0, None),
        (RuntimeError("no compiler"), 0.0, "cannot export the encoder to aoti: no compiler"),
        (None, 9.0, "features differ from torch's by"),
    ],
)
def test_an_export_that_fails_leaves_the_older_encoder_as_it_is(fails, off, said, tmp_path, monkeypatch):
    path = tmp_path / "encoder.pt2"
    path.write_bytes(b"old")
    beside(path).write_text("of the old one")
    with pytest.raises((ConfigError, KeyboardInterrupt), match=said):
        export_as(monkeypatch, build(HIERA), path, fails, off)
    assert path.read_bytes() == b"old" and beside(path).read_text() == "of the old one"
    assert len(list(tmp_path.iterdir())) == 2


def test_no_encoder_stands_beside_the_description_of_another(tmp_path, monkeypatch):
    path = tmp_path / "encoder.pt2"
    path.write_bytes(b"old")
    beside(path).write_text("of the old one")
    described = export_as(monkeypatch, build(HIERA), path)
    assert path.read_bytes() == b"new" and json.loads(beside(path).read_text()) == dataclasses.asdict(described)

    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_whole", full)
    with pytest.raises(ConfigError, match="encoder.pt2 cannot be written to .No space left.*: give another OUTPUT"):
        export_as(monkeypatch, build(HIERA), path)
    assert [file.name for file in tmp_path.iterdir()] == ["encoder.pt2"]


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path, monkeypatch):
    left = tmp_path / ".encoder.pt2.abcdefgh.tmp"
    left.mkdir()
    (left / "encoder.pt2").write_bytes(b"half")
    os.utime(left, (1, 1))
    export_as(monkeypatch, build(HIERA), tmp_path / "encoder.pt2")
    assert {file.name for file in tmp_path.iterdir()} == {"encoder.pt2", "encoder.pt2.json"}


@pytest.mark.parametrize(
    "version, to, least", [("2.4.1", "onnx", r"2\.5"), ("2.4.1", "aoti", r"2\.6"), ("2.5.1+cpu", "aoti", r"2\.6")]
)
def test_a_torch_that_cannot_write_it_is_named(version, to, least, tmp_path, monkeypatch):
    """That of 2.4 takes a path for ONNX, and writes nothing there."""
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    with pytest.raises(ConfigError, match=f"cannot write an exported program as {to}: expected {least} or newer"):
        export_encoder(build(REPVIT), tmp_path / f"encoder{exporting.KINDS[to]}", to=to)


@pytest.mark.parametrize(
    "to, name, said",
    [
        ("trt", "encoder.pt2", "expected aoti or onnx"),
        ("aoti", "encoder.onnx", "ends with .pt2"),
        ("onnx", "encoder.pt2", "ends with .onnx"),
    ],
)
def test_what_cannot_be_exported(to, name, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        export_encoder(build(REPVIT), tmp_path / name, to)
