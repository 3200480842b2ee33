"""The compiled image encoder: it gives what the plain one gives, as one program, or an error says why it cannot."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch

from sam2s_model.acceleration.compiling import compile_for_inference
from sam2s_model.checkpoint import load_model
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
def nothing_is_compiled_yet():
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
