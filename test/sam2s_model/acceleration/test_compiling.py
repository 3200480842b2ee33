"""The compiled image encoder: it gives what the plain one gives, as one program, or an error says why it cannot."""

from __future__ import annotations

import dataclasses
import os
import shutil
from functools import partial

import pytest
import torch

from sam2s_model.acceleration.compiling import (
    FOLDER,
    compile_for_inference,
    keep_programs,
    pays_off,
    program_folder,
)
from sam2s_model.checkpoint import load_model, loading
from sam2s_model.config import PICO, ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.tracking.tracker import Tracker

SMALL = dict(embed_dim=8, dim=16, memory_dim=16, decoder_mlp=16, decoder_heads=2, memory_layers=1, memory_ffn=16)
HIERA = dataclasses.replace(PICO, stages=(1, 1, 1, 1), global_blocks=(3,), window_spec=(4, 4, 6, 4), **SMALL)
REPVIT = dataclasses.replace(PICO, backbone="repvit_m1", stages=(0, 0, 1, 0), **SMALL)
LEAST = dataclasses.replace(REPVIT, stages=(0, 0, 0, 0))


@pytest.fixture(autouse=True)
def nothing_is_compiled_yet(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path / "programs"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def build(config: ModelConfig, dtype: torch.dtype = torch.float32) -> Sam2Model:
    torch.manual_seed(0)
    return Sam2Model(config, 64).to(dtype).eval().requires_grad_(False)


@torch.inference_mode()
def encode(model: Sam2Model, seed: int = 1) -> tuple[torch.Tensor, ...]:
    image = torch.randn(1, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(seed))
    return model.encode_image(image.to(model.dtype)).tensors


def programs() -> int:
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def check(got, expected, allowed: float) -> None:
    for own, plain in zip(got, expected, strict=True):
        assert own.shape == plain.shape and own.dtype == plain.dtype and own.stride() == plain.stride()
        assert (own - plain).abs().max() < allowed * plain.abs().max()


@pytest.mark.parametrize(
    "config, dtype, allowed",
    [
        pytest.param(HIERA, torch.bfloat16, 0.03, id="hiera in bf16", marks=pytest.mark.full),
        pytest.param(REPVIT, torch.float32, 1e-5, id="repvit"),
    ],
)
def test_it_is_one_program_for_all_frames_and_for_models_of_one_kind(config, dtype, allowed):
    model, other = build(config, dtype), build(config, dtype)
    for parameter in other.parameters():
        parameter.mul_(1.1)
    expected = [[encode(m, seed) for seed in range(3)] for m in (model, other)]
    for m, of_frames in zip((model, other), expected, strict=True):
        m.compile_encoder("aot_eager")
        for seed, features in enumerate(of_frames):
            check(encode(m, seed), features, allowed)
    assert programs() == 1


def test_training_and_another_size_are_as_ever():
    model = build(LEAST)
    model.compile_encoder("eager")
    image = torch.randn(1, 3, 64, 64, requires_grad=True)
    assert model.encode_image(image).coarse.requires_grad
    model.set_image_size(96)
    assert encode(model)[0].shape[-2:] == (6, 6) and programs() == 1


def test_there_may_be_more_programs_than_torch_allows_by_itself():
    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    for size in range(2, 14):
        x = torch.ones(size)
        assert torch.equal(compile_for_inference(double, x, backend="eager")(x), 2 * x) and programs() == size - 1


def test_int8_is_refused():
    with pytest.raises(ConfigError, match="compile is true, but precision is 'int8'"):
        load_model(resolve_checkpoint("sam2s_pico"), image_size=64, device="cpu", precision="int8", compiled=True)


@pytest.mark.parametrize(
    "problem, said",
    [
        (
            RuntimeError("Cannot find a working triton installation.\nMore information"),
            "Cannot find a working triton installation.",
        ),
        (
            RuntimeError("C++ compile error\n\nOutput:\na.h:1: fatal error: Python.h: No such file"),
            "a.h:1: fatal error: Python.h: No such file",
        ),
        (AssertionError(), "AssertionError"),
    ],
    ids=["no triton", "no headers", "without words"],
)
def test_what_torch_lacks_is_said(problem, said):
    def lacks(graph, inputs):
        raise problem

    with pytest.raises(ConfigError) as refused:
        compile_for_inference(torch.neg, torch.ones(2), backend=lacks)
    assert str(refused.value) == f"compile is true, but torch {torch.__version__} cannot: {said}"


def test_it_pays_off_on_a_gpu_unless_the_same_bits_are_wanted(monkeypatch):
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    assert not pays_off(torch.device("cpu")) and pays_off(torch.device("cuda:0"))
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert not pays_off(torch.device("cuda:0"))


def test_where_it_pays_it_is_compiled_and_a_warning_says_why_not(monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "pays_off", lambda device: asked.append(device) or len(asked) > 1)
    load = partial(load_model, resolve_checkpoint("sam2s_pico"), image_size=64, device="cpu", compiled=None)
    monkeypatch.setattr(Sam2Model, "compile_encoder", lambda self: self.encode_with(Sam2Model._encode))
    assert not load().is_compiled and load().is_compiled and load(precision="fp32", compiled=False).is_compiled is False

    def lacks(self):
        raise ConfigError("torch cannot: no Triton")

    monkeypatch.setattr(Sam2Model, "compile_encoder", lacks)
    with pytest.warns(UserWarning, match="not compiled, and is slower: torch cannot: no Triton"):
        assert not load().is_compiled
    with pytest.raises(ConfigError, match="no Triton"):
        load(compiled=True)


def test_programs_are_kept_in_the_users_cache(monkeypatch, tmp_path):
    from torch._inductor.codecache import cache_dir

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(FOLDER, "")
    keep_programs()
    assert cache_dir() == str(tmp_path / "sam2s" / "programs") == str(program_folder())
    monkeypatch.setenv(FOLDER, str(tmp_path / "own"))
    keep_programs()
    assert cache_dir() == str(tmp_path / "own") and torch._inductor.config.fx_graph_cache
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv(FOLDER)
    keep_programs()
    assert FOLDER not in os.environ, "torch's own, where the folder cannot be made"


def test_a_program_is_compiled_once(monkeypatch, tmp_path):
    if not shutil.which("g++"):
        pytest.skip("needs g++, by which torch compiles for a CPU")
    monkeypatch.setenv(FOLDER, str(tmp_path))

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return 2 * x + 1

    x, found = torch.ones(3), []
    for _ in range(2):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        with torch._inductor.config.patch({"cpp.vec_isa_ok": False}), torch.no_grad():
            assert torch.equal(compile_for_inference(scaled, x)(x), scaled(x))
        found.append(torch._dynamo.utils.counters["inductor"]["fxgraph_cache_hit"])
    assert found == [0, 1] and any(tmp_path.rglob("*.so"))


@pytest.mark.full
def test_in_a_tracker_by_the_compiler_of_this_machine(frames):
    if not shutil.which("g++"):
        pytest.skip("needs g++, by which torch compiles for a CPU")
    trackers = [Tracker(build(LEAST), "fifo") for _ in range(2)]
    with torch._inductor.config.patch(
        {"cpp.vec_isa_ok": False}
    ):  # without vectors: torch takes seconds to try which there are
        trackers[0].model.compile_encoder()
    for stamp, image in enumerate(frames[:3], start=1):
        for tracker in trackers:
            tracker.step(stamp, image)
        check(*(tracker._history.newest.features.tensors for tracker in trackers), 1e-4)
    assert programs() == 1
