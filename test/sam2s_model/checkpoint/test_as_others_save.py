"""Checkpoints as other programs save them: wrapped, prefixed, in parts, by other names; and files that are none."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.torch_version import TorchVersion

from sam2s_model.checkpoint import load_model, read_checkpoint
from sam2s_model.checkpoint.convert import convert
from sam2s_model.checkpoint.data_classes import data_classes
from sam2s_model.checkpoint.describe import describe
from sam2s_model.checkpoint.recognition import known_shapes
from sam2s_model.checkpoint.transformers_names import from_transformers, kind_of, to_transformers
from sam2s_model.config import MODELS
from sam2s_model.errors import CheckpointError
from sam2s_model.network.model import MEMORY_PARTS
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.published.sha256 import file_sha256


def prefixed(state, prefix: str) -> dict:
    return {prefix + name: value for name, value in state.items()}


def test_torch_2_5_is_told_no_other_names(monkeypatch):
    """It asks each class for its module and its name; an array by another name than its own was an AttributeError."""
    told = []

    @contextlib.contextmanager
    def safe_globals(known):
        told.extend(f"{one.__module__}.{one.__name__}" for one in known)
        yield

    monkeypatch.setattr(torch, "__version__", TorchVersion("2.5.1"))
    monkeypatch.setattr(torch.serialization, "safe_globals", safe_globals)
    with data_classes():
        pass
    assert "argparse.Namespace" in told and len(told) == len(set(told))
    assert sum(name.endswith(("multiarray.scalar", "multiarray._reconstruct")) for name in told) == 2


def nested(state) -> dict:
    """{"image_encoder": {...}, ...}, as a loop that saves each part of a model by itself."""
    out: dict = {}
    for name, value in state.items():
        root, _, rest = name.partition(".")
        if rest:
            out.setdefault(root, {})[rest] = value
        else:
            out[root] = value
    return out


WRAPPED = {
    "an attribute of a Lightning module": lambda s: {"state_dict": prefixed(s, "sam2.")},
    "two attributes deep, DDP": lambda s: {"state_dict": prefixed(s, "module.net.sam2_model.")},
    "a loss beside the model": lambda s: {"state_dict": {**prefixed(s, "model."), "criterion.weight": torch.ones(2)}},
    "a compiled part": lambda s: {
        "model": {k.replace("image_encoder.", "image_encoder._orig_mod."): v for k, v in s.items()}
    },
    "FSDP": lambda s: {k.replace(".attn.", "._fsdp_wrapped_module.attn."): v for k, v in s.items()},
    "DeepSpeed": lambda s: {"module": s, "global_steps": 4},
    "a wrapper of any name": lambda s: {"net": {"weights": s}, "epoch": 3},
    "an average alone": lambda s: {"ema_state_dict": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    "an average beside it": lambda s: {"net": s, "net_ema": {k: v + 1 for k, v in s.items()}},
    "an average beside it, by prefix": lambda s: {
        "state_dict": {**prefixed(s, "model."), **prefixed(s, "model_ema.module.")}
    },
    "torch's AveragedModel": lambda s: {**prefixed(s, "module."), "n_averaged": torch.tensor(3)},
    "counters of a profiler": lambda s: {
        **s,
        "total_ops": torch.zeros(1),
        "image_encoder.trunk.total_params": torch.zeros(1),
    },
    "numbers among the tensors": lambda s: {**s, "epoch": 3, "best": 0.5},
    "numpy's numbers and options": lambda s: {
        "model": s,
        "best": np.float64(0.9),
        "args": argparse.Namespace(lr=np.float32(1)),
    },
    "each part by itself": nested,
    "a settings dictionary named model": lambda s: {"model": {"dim": 256}, "state_dict": s},
    "parts under prefixes of their own": lambda s: {
        ("enc." if k.startswith("image") else "rest.") + k: v for k, v in s.items()
    },
}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped_in_any_way_it_loads(state, save, how):
    found = read_checkpoint(save(WRAPPED[how](state))).state
    assert set(found) == set(state) and all(torch.equal(found[name], value) for name, value in state.items())


def test_what_is_beside_the_model_is_named(state, save):
    path = save({"state_dict": {**prefixed(state, "model."), "criterion.weight": torch.ones(2)}, "epoch": 3})
    found = describe(path)
    assert (
        found.beside == ("epoch", "criterion.weight")
        and found.prefixes == ("model.",)
        and found.wrappers == ("state_dict",)
    )
    with pytest.warns(UserWarning, match="1 tensors are no part of sam2s_pico and are not used: criterion.weight"):
        load_model(path, device="cpu")


REFUSED = {
    "two models": (
        lambda s: {**prefixed(s, "student."), **prefixed(s, "other.")},
        "holds the model 2 times, with the prefixes",
    ),
    "two wrappers": (lambda s: {"net": s, "net2": s}, "more than one state dict, under 'net' and 'net2'"),
    "no tensors": (lambda s: {"epoch": 3, "config": {"a": 1}}, "holds no state dict: .* the keys 'epoch', 'config'"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_not_clear_is_refused_with_what_is_there(state, save, how):
    content, expected = REFUSED[how]
    with pytest.raises(CheckpointError, match=expected):
        read_checkpoint(save(content(state)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(state, save, value):
    name = "sam_mask_decoder.output_upscaling.3.bias"
    bad = {**state, name: state[name].clone()}
    bad[name][1] = value
    for read in (
        read_checkpoint,
        describe,
        lambda path: load_model(path, device="cpu"),
        lambda path: convert(path, path.with_name("b.pt")),
    ):
        with pytest.raises(
            CheckpointError,
            match=f"not finite .* in 1 of {len(state)} tensors: {name} \\(1 of {state[name].numel()}\\)",
        ):
            read(save({"model": bad}))
    with pytest.raises(CheckpointError, match="and [0-9]+ more; the run that wrote it has diverged"):
        read_checkpoint(save({k: torch.full_like(v, value) for k, v in state.items()}))


@pytest.mark.parametrize(
    "change, what",
    [
        (lambda value: value.to("meta"), "its numbers were not saved"),
        (lambda value: value.to_sparse(), "sparse_coo"),
        (lambda value: value.to(torch.complex64), "complex64"),
    ],
)
def test_tensors_that_are_not_plain_numbers_are_refused_by_name(state, save, change, what):
    for name in ("no_obj_ptr", "sam_mask_decoder.output_upscaling.3.bias"):
        with pytest.raises(CheckpointError, match=f"has 1 of {len(state)} tensors that .*: {name} \\({what}"):
            load_model(save({"model": {**state, name: change(state[name])}}), device="cpu")


def lora(state, prefix: str = "", base: str = ".base_layer", of: str = ".lora_{}.default") -> dict:
    out = {}
    for name, value in state.items():
        if name.endswith("attn.qkv.weight"):
            out[prefix + name.replace(".weight", f"{base}.weight")] = value
            for part, shape in (("A", (4, value.shape[1])), ("B", (value.shape[0], 4))):
                out[prefix + name.replace(".weight", of.format(part) + ".weight")] = torch.zeros(shape)
        else:
            out[prefix + name] = value
    return out


def test_lora_is_named_with_how_to_merge_it(state, save, tmp_path):
    layers = r"LoRA layers \([0-9]+ tensors under image_encoder.trunk.blocks.N.attn.qkv"
    for saved in (lora(state), lora(state, "base_model.model."), lora(state, "base_model.model.sam2.")):
        with pytest.raises(
            CheckpointError, match=f"is sam2s_pico with {layers}.*: merge them into the weights .*merge_and_unload"
        ):
            read_checkpoint(save(saved))
    alone = {name: value for name, value in lora(state, "base_model.model.", of=".lora_{}").items() if "lora_" in name}
    save_file(alone, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=f"has {layers}.*alone, without the model"):
        read_checkpoint(tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="is a folder with LoRA layers alone, as PEFT saves them: merge"):
        resolve_checkpoint(tmp_path)
    of_sam = {**state, "image_encoder.trunk.blocks.0.attn.qkv.linear_a_q.weight": torch.zeros(4, 4)}
    with pytest.raises(CheckpointError, match="is sam2s_pico with LoRA layers"):
        read_checkpoint(save(of_sam))


@pytest.mark.parametrize("name", ["sam2.1_hiera_tiny", "sam2_hiera_small", "edgetam", "sam2s_pico"])
def test_names_of_transformers_there_and_back(name):
    torch.manual_seed(0)
    state = {k: torch.rand(shape) for k, shape in known_shapes(MODELS[name]).items()}
    back = from_transformers(to_transformers(state, kind_of(MODELS[name])))
    assert set(back) == set(state) and all(torch.equal(back[k], v) for k, v in state.items())


def test_files_and_folders_that_transformers_saved(state, tmp_path):
    theirs = {k: v.clone() for k, v in to_transformers(state, "sam2").items()}
    once = {
        k: v for k, v in theirs.items() if k != "shared_image_embedding.positional_embedding"
    }  # saved once, since it is shared
    save_file(once, tmp_path / "model.safetensors")
    assert describe(tmp_path / "model.safetensors").model == "sam2s_pico"
    assert resolve_checkpoint(tmp_path) == tmp_path / "model.safetensors"
    assert load_model(tmp_path, device="cpu").has_memory
    half = {
        k: v
        for k, v in theirs.items()
        if not any(part in k for part in ("memory", "object_pointer", "occlusion", "temporal"))
    }
    half["no_memory_embedding"] = theirs["no_memory_embedding"]
    save_file({f"model.{k}": v for k, v in half.items()}, tmp_path / "half.safetensors")
    found = read_checkpoint(tmp_path / "half.safetensors").state
    assert {k for k in state if k not in found} <= {k for k in state if k.startswith(MEMORY_PARTS)}


def test_a_checkpoint_in_several_files(state, tmp_path):
    names = sorted(state)
    parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, own in parts.items():
        save_file({name: state[name].clone() for name in own}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, own in parts.items() for name in own}}))
    for path in (index, tmp_path, tmp_path / "model-00002-of-00002.safetensors"):
        assert set(read_checkpoint(path).state) == set(state)
    assert resolve_checkpoint(tmp_path) == index and describe(index).size == sum(
        (tmp_path / f).stat().st_size for f in parts
    )
    before = file_sha256(index)
    first = tmp_path / "model-00001-of-00002.safetensors"
    first.write_bytes(first.read_bytes()[:-1] + b"\1")
    assert file_sha256(index) != before, "of what the index names, not of the index alone"
    first.unlink()
    with pytest.raises(CheckpointError, match="of 2 files, and 1 are not there: model-00001-of-00002"):
        read_checkpoint(index)


def test_whole_checkpoints_with_names_of_parts_are_not_joined(state, save):
    """Of five folds the last one's weights were loaded, whichever was asked for."""
    folds = [save({"model": {k: v + i for k, v in state.items()}}, f"fold-{i}-of-2.pt") for i in (1, 2)]
    for path in folds:
        with pytest.raises(CheckpointError, match="2.pt and fold-1-of-2.pt both have 'model'.*-N-of-M: rename it"):
            read_checkpoint(path)
    for path in folds:
        save(state, path.name)
    with pytest.raises(CheckpointError, match=f"both have '{next(iter(state))}', and parts .*: rename it"):
        load_model(folds[0], device="cpu")
    folds[1].unlink()
    with pytest.raises(CheckpointError, match="fold-2-of-2.pt is the first; a file that is a whole .*: rename it"):
        read_checkpoint(folds[0])


def test_a_decoder_alone_is_named_and_put_over_a_base(state, save, tmp_path):
    decoder = {name: value + 1 for name, value in state.items() if name.startswith("sam_mask_decoder.")}
    part = save({"model": decoder}, "decoder.pt")
    with pytest.raises(
        CheckpointError, match="part of a model, sam2s_pico, without its image encoder: sam_mask_decoder .*--base WHOLE"
    ):
        describe(part)
    whole, out = save(state, "whole.pt"), tmp_path / "out.safetensors"
    assert convert(part, out, base=whole).model == "sam2s_pico"
    found = read_checkpoint(out).state
    assert all(torch.equal(found[name], decoder.get(name, value)) for name, value in state.items())
    with pytest.raises(CheckpointError, match="is no part of .*: 1 of its 1 tensors are not in it"):
        convert(save({"sam_mask_decoder.other": torch.ones(1)}, "other.pt"), tmp_path / "no.pt", base=whole)


NO_CHECKPOINT = {
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 155906050\n",
        "Git LFS pointer to 155,906,050 bytes.*git lfs pull",
    ),
    "a page": (
        b"<!DOCTYPE html>\n<html><head><title>Google Drive -\n Virus scan warning</title>",
        r"HTML or XML page \(Google Drive - Virus scan warning\)",
    ),
    "an error as XML": (
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "HTML or XML page, not the file itself",
    ),
    "an error as JSON": (b'{"error": "not found"}', "is JSON text, not tensors"),
    "a gzip archive": (b"\x1f\x8b\x08\0" + b"x" * 40, "is a gzip archive: unpack it first"),
    "zeros": (bytes(5000), "begins with 4096 bytes of 0"),
    "a pointer of git-annex": (b"/annex/objects/SHA256E-s1--a.pt\n", "git-annex pointer"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("what", NO_CHECKPOINT)
def test_what_is_no_checkpoint_is_named_as_what_it_is(tmp_path, what, suffix):
    content, expected = NO_CHECKPOINT[what]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=expected):
        read_checkpoint(path)


@pytest.mark.parametrize("pattern, expected", [
    ("__0_0.distcp", "dcp_to_torch"), ("data.pkl", "unpacked .pt"),
    ("global_step4/mp_rank_00_model_states.pt", "mp_rank_00_model_states.pt"),
])  # fmt: skip
def test_folders_of_others_are_named(tmp_path, pattern, expected):
    (tmp_path / pattern).parent.mkdir(exist_ok=True)
    (tmp_path / pattern).write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"is a folder of .*{expected}"):
        resolve_checkpoint(tmp_path)


def test_another_network_is_named(save):
    path = save(
        {"image_encoder.patch_embed.proj.weight": torch.ones(3), "mask_decoder.iou_token.weight": torch.ones(3)}
    )
    with pytest.raises(CheckpointError, match="it is one of SAM 1"):
        describe(path)


def test_a_home_folder_is_found(state, save, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(state, "mine.pt")
    assert describe("~/mine.pt").model == "sam2s_pico" and resolve_checkpoint("~/mine.pt") == Path(tmp_path) / "mine.pt"
