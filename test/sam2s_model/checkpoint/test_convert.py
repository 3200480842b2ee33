"""Converting: the same tensors in another file, checked first, written at once or not at all."""

from __future__ import annotations

import dataclasses
import resource

import pytest
import torch
from safetensors.torch import load_file

from sam2s_model.checkpoint import load_model, read_checkpoint
from sam2s_model.checkpoint.convert import convert
from sam2s_model.checkpoint.describe import describe
from sam2s_model.checkpoint.recognition import known_shapes
from sam2s_model.config import MODELS, PICO
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.network.model import MEMORY_PARTS, Sam2Model
from sam2s_model.published.sha256 import file_sha256


def assert_same(path, state, kind=None) -> None:
    read = read_checkpoint(path).state
    assert set(read) == set(state)
    for key, value in state.items():
        expected = value.to(kind) if kind and value.is_floating_point() else value
        assert read[key].dtype == expected.dtype and torch.equal(read[key], expected), key


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("half", [False, True])
def test_there_and_back(save, state, tmp_path, suffix, half):
    source = save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "optimizer": {"lr": 1}})
    target = tmp_path / f"b{suffix}"
    done = convert(source, target, half=half)
    assert (done.model, done.tensors, done.missing, done.size) == ("sam2s_pico", len(state), (), target.stat().st_size)
    assert_same(target, state, torch.float16 if half else None)
    stored = read_checkpoint(target)
    assert stored.prefixes == () and stored.wrappers == (() if suffix == ".safetensors" else ("model",))
    metadata = stored.metadata if suffix == ".safetensors" else torch.load(target, weights_only=True)["metadata"]
    assert metadata["model"] == "sam2s_pico" and metadata["source_sha256"] == file_sha256(source)
    assert (target.stat().st_size < 0.6 * source.stat().st_size) == half
    assert load_model(target, image_size=64, device="cpu").has_memory
    back = tmp_path / "back.pt"
    convert(target, back)
    assert_same(back, state, torch.float16 if half else None)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.pt", target.name, "back.pt"])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_in_8_bits(save, state, tmp_path, suffix):
    source = save(state)
    target = tmp_path / f"b{suffix}"
    done = convert(source, target, int8=True, image_size=96)
    assert (done.model, done.tensors, done.missing) == ("sam2s_pico", len(state), ()) and done.in_eight_bits > 50
    assert target.stat().st_size < 0.3 * source.stat().st_size
    stored = read_checkpoint(target)
    assert len(stored.eight_bit) == done.in_eight_bits and stored.image_size == 96
    assert stored.metadata["changed"].startswith(
        f"{done.in_eight_bits} weights rounded to 8 bits, one scale per output channel"
    )
    assert stored.metadata["source_sha256"] == file_sha256(source)
    for name, value in state.items():
        found = stored.state[name]
        if name in stored.eight_bit:
            assert found.dtype == torch.float32 and (found - value).norm() <= 0.01 * value.norm(), name
        else:
            assert torch.equal(found, value.half() if value.is_floating_point() else value), name
    assert load_model(target, device="cpu").image_size == 96

    again = tmp_path / f"c{suffix}"
    convert(target, again, int8=True)
    twice = read_checkpoint(again).state
    assert all(torch.allclose(twice[name], value, rtol=1e-6, atol=0) for name, value in stored.state.items())
    back = tmp_path / "back.safetensors"
    convert(target, back)
    assert_same(back, stored.state)
    assert read_checkpoint(back).eight_bit == () and "changed" not in read_checkpoint(back).metadata
    assert read_checkpoint(back).image_size == 96, "it goes along"


def test_a_part_over_a_whole_one_in_8_bits(save, state, tmp_path):
    whole = tmp_path / "whole.safetensors"
    convert(save(state), whole, int8=True, image_size=96)
    part = {name: value + 1 for name, value in state.items() if name.startswith("sam_mask_decoder.")}
    out, again = tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    convert(save({"state_dict": {f"net.{name}": value for name, value in part.items()}}, "part.pt"), out, base=whole)
    assert_same(out, {**read_checkpoint(whole).state, **part})
    assert read_checkpoint(out).image_size == 96 and read_checkpoint(out).eight_bit == ()
    done = convert(tmp_path / "part.pt", again, base=whole, int8=True)
    found = read_checkpoint(again)
    assert len(found.eight_bit) == done.in_eight_bits > 50 and found.metadata["source"] == "part.pt"
    assert all(
        (found.state[name] - value).norm() <= 0.01 * value.norm()
        for name, value in part.items()
        if name in found.eight_bit
    )


def test_the_mean_of_what_was_learnt_and_what_it_began_with(save, state, tmp_path):
    start, learnt = save(state, "start.pt"), tmp_path / "learnt.safetensors"
    convert(save({k: v + 2.0 if v.is_floating_point() else v for k, v in state.items()}, "more.pt"), learnt)
    target = tmp_path / "mean.safetensors"
    convert(learnt, target, mean_with=start)
    assert_same(target, {k: (v + (v + 2.0)) / 2 if v.is_floating_point() else v for k, v in state.items()})
    stored = read_checkpoint(target).metadata
    assert (stored["mean_with"], stored["mean_with_sha256"]) == ("start.pt", file_sha256(start))
    less = save({k: v for k, v in state.items() if k != "no_obj_ptr"}, "less.pt")
    with pytest.raises(CheckpointError, match="are no checkpoints of one model: they differ in no_obj_ptr"):
        convert(learnt, tmp_path / "none.pt", mean_with=less)


def test_names_of_classes_go_along(save, state, tmp_path):
    config = dataclasses.replace(PICO, num_classes=2)
    torch.manual_seed(0)
    torch.save(
        {"model": {**Sam2Model(config).state_dict(), **state}, "metadata": {"classes": "a,b"}}, tmp_path / "a.pt"
    )
    convert(tmp_path / "a.pt", tmp_path / "b.safetensors", half=True)
    convert(tmp_path / "b.safetensors", tmp_path / "c.pth", int8=True)
    assert load_model(tmp_path / "c.pth", device="cpu").class_names == ("a", "b")


def test_a_policy_that_there_is_not_is_refused(save, state):
    path = save({"model": state, "metadata": {"memory_policy": "best"}})
    with pytest.raises(CheckpointError, match="metadata says that memory_policy is 'best', expected one of fifo, efp"):
        load_model(path, device="cpu")


def test_tensors_that_share_memory(save, state, tmp_path):
    pool = torch.randn(max(v.numel() for v in state.values()))
    shared = {key: pool[: value.numel()].reshape(value.shape) for key, value in state.items()}
    shared["no_mem_embed"] = torch.zeros(1).expand(state["no_mem_embed"].shape)
    convert(save(shared), tmp_path / "b.safetensors")
    assert_same(tmp_path / "b.safetensors", shared)


def test_an_image_half_stays_one(save, state, tmp_path):
    source = save({k: v for k, v in state.items() if not k.startswith(MEMORY_PARTS)})
    # an image half counts as 2.0, and there is no 2.0 of the smallest model: its version keys are not looked at
    assert set(convert(source, tmp_path / "b.pt").missing) == {k for k in state if k.startswith(MEMORY_PARTS)}


def test_refusals(save, state, tmp_path):
    source = save(state)
    (tmp_path / "there.pt").write_bytes(b"precious")
    large = {**state, "no_obj_ptr": torch.full_like(state["no_obj_ptr"], 1e6)}
    cases = [
        (source, "b.onnx", {}, "b.onnx ends in '.onnx': expected one of .pt, .pth, .safetensors"),
        (source, "there.pt", {}, "there.pt exists: give another path, or --force to write over it"),
        (source, "no/b.pt", {}, "there is no folder .*/no: give the path of a file"),
        (tmp_path / "nowhere.pt", "b.pt", {}, "nowhere.pt' does not exist"),
        (save({**state, "more": torch.zeros(1)}, "more.pt"), "b.pt", {}, "1 unexpected: more"),
        (
            save(large, "large.pt"),
            "b.pt",
            {"half": True},
            r"no_obj_ptr has values up to 1e\+06, and fp16 ends at 65504",
        ),
    ]
    infinite = {**state, "memory_attention.layers.0.linear1.weight": torch.full((384, 96), torch.inf)}
    cases.append(
        (
            save(infinite, "infinite.pt"),
            "b.pt",
            {"int8": True},
            r"not finite \(NaN or infinite\) in 1 of .*linear1.weight",
        )
    )
    cases.append((save(large, "large.pt"), "b.pt", {"int8": True}, "no_obj_ptr has values up to"))
    for options, words in (
        (dict(half=True, int8=True), "--half and --int8 exclude each other"),
        (dict(image_size=100), "image_size is 100: expected a multiple of 32"),
    ):
        with pytest.raises(ConfigError, match=words):
            convert(source, tmp_path / "b.pt", **options)
    before = {p.name for p in tmp_path.iterdir()}
    for given, target, options, words in cases:
        with pytest.raises(CheckpointError, match=words):
            convert(given, tmp_path / target, **options)
    assert {p.name for p in tmp_path.iterdir()} == before and (tmp_path / "there.pt").read_bytes() == b"precious"
    convert(source, tmp_path / "there.pt", force=True)
    assert_same(tmp_path / "there.pt", state)
    convert(source, source, force=True)
    assert_same(source, state)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_full_disk_leaves_nothing(save, state, tmp_path, suffix):
    source = save(state)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match=f"b{suffix} cannot be written"):
            convert(source, tmp_path / f"b{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("name", ["sam2s_pico", "edgetam"])
def test_names_of_transformers_and_back(save, tmp_path, name):
    torch.manual_seed(0)
    state = {k: torch.rand(shape) for k, shape in known_shapes(MODELS[name]).items()}
    theirs, back = tmp_path / "theirs.safetensors", tmp_path / "back.pt"
    done = convert(save(state), theirs, to="transformers")
    names = set(load_file(theirs))
    assert done.tensors == len(names) and {"vision_encoder.neck.convs.0.weight", "no_memory_embedding"} < names
    assert convert(theirs, back).model == name
    found = read_checkpoint(back).state
    assert set(found) == set(state) and all(torch.equal(found[k], v) for k, v in state.items())


def test_what_transformers_has_no_place_for_is_refused(state, save, tmp_path):
    torch.manual_seed(0)
    light = {k: torch.rand(shape) for k, shape in known_shapes(MODELS["efficienttam_ti"]).items()}
    half = {k: v for k, v in state.items() if not k.startswith(MEMORY_PARTS)}
    cases = [
        (light, dict(to="transformers"), CheckpointError, "cannot have transformers' names: it has no such model"),
        (half, dict(to="transformers"), CheckpointError, r"names: it lacks \d+ tensors"),
        (
            {**state, "long_term_tpos_enc": torch.ones(1, 1, 1, 32)}, dict(to="transformers"), CheckpointError,
            "it has an embedding",
        ),
        (state, dict(to="onnx"), ConfigError, "--to is 'onnx': expected 'transformers'"),
        (state, dict(to="transformers", int8=True), ConfigError, "which stores no 8-bit weights"),
    ]  # fmt: skip
    for content, options, kind, words in cases:
        with pytest.raises(kind, match=words):
            convert(save(content), tmp_path / "never.safetensors", **options)


def test_parts_that_nobody_knows_are_left_out_when_asked_for(state, save, tmp_path):
    extra = {
        "class_token": torch.ones(1, 96),
        "text_head.layers.0.weight": torch.ones(5, 96),
        "text_head.layers.1.weight": torch.ones(7, 5),
        "text_head.layers.0.bias": torch.ones(5),
    }
    path = save({**state, **extra})
    with pytest.raises(
        CheckpointError, match="is sam2s_pico with parts .*--allow-extra leaves them out.*4 unexpected: class_token"
    ):
        load_model(path, device="cpu")
    said = (
        "class_token (1 tensor, 96 numbers: (1, 96))",
        "text_head.layers.N (3 tensors, 520 numbers: (5, 96), (5,), (7, 5))",
    )
    with pytest.warns(UserWarning, match="is sam2s_pico and more, which is left out: class_token .*; text_head"):
        model = load_model(path, device="cpu", allow_extra=True)
    assert model.has_memory and all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert describe(path, allow_extra=True).left_out == said
    assert convert(path, tmp_path / "clean.pt", allow_extra=True).left_out == said
    assert load_model(tmp_path / "clean.pt", device="cpu").has_memory
    less = {k: v for k, v in {**state, **extra}.items() if k != "no_obj_ptr"}
    with pytest.warns(UserWarning, match="left out"), pytest.raises(CheckpointError, match="1 missing: no_obj_ptr"):
        load_model(save(less), device="cpu", allow_extra=True)
