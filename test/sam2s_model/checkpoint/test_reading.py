"""Reading files: the ways a state dict is stored, and what is refused. Code in a file is never run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sam2s_model.checkpoint import read_checkpoint, read_state_dict, reading
from sam2s_model.errors import CheckpointError
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.published.sha256 import file_sha256

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.zeros((), dtype=torch.int64)}


def same(state) -> bool:
    return list(state) == list(TENSORS) and all(
        (state[k] == v).all() and state[k].dtype == v.dtype for k, v in TENSORS.items()
    )


@pytest.mark.parametrize("content, wrappers, prefixes, beside", [
    (TENSORS, (), (), ()),
    ({"model": TENSORS}, ("model",), (), ()),
    ({"state_dict": TENSORS, "epoch": 3}, ("state_dict",), (), ("epoch",)),
    ({"model_state_dict": TENSORS, "optimizer": {"state": {}}}, ("model_state_dict",), (), ("optimizer",)),
    ({"model_state": TENSORS, "note": "x"}, ("model_state",), (), ("note",)),
    ({"model": {"state_dict": TENSORS}, "epoch": 1}, ("model", "state_dict"), (), ("epoch",)),
    ({"model": TENSORS, "average": TENSORS}, ("model",), (), ("average",)),
    ({f"module.{k}": v for k, v in TENSORS.items()}, (), ("module.",), ()),
    ({"model": {f"module._orig_mod.{k}": v for k, v in TENSORS.items()}}, ("model",), ("module.", "_orig_mod."), ()),
    ({"state_dict": {f"model.{k}": v for k, v in TENSORS.items()}}, ("state_dict",), ("model.",), ()),
])  # fmt: skip
def test_ways_to_store_a_state_dict(save, content, wrappers, prefixes, beside):
    stored = read_checkpoint(save(content))
    assert same(stored.state) and stored.format == "pt" and stored.metadata == {}
    assert (stored.wrappers, stored.prefixes, stored.beside) == (wrappers, prefixes, beside)


def test_a_prefix_that_not_all_names_have_stays(save):
    mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert list(read_state_dict(save(mixed))) == ["module.a", "b"]


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a"])
def test_safetensors_under_any_name(tmp_path, name):
    save_file(TENSORS, tmp_path / name, metadata={"model": "x"})
    stored = read_checkpoint(tmp_path / name)
    assert (
        same(dict(sorted(stored.state.items())))
        and stored.format == "safetensors"
        and stored.metadata == {"model": "x"}
    )


def test_what_torch_saved_under_any_name(tmp_path):
    for name in ("a.safetensors", "a.bin", "a"):
        torch.save({"model": TENSORS}, tmp_path / name)
        stored = read_checkpoint(tmp_path / name)
        assert same(stored.state) and stored.format == "pt"


def test_metadata_lie_beside_the_state_dict_of_a_pt_file(save):
    words = {"classes": "a,b", "image_size": "512"}
    stored = read_checkpoint(save({"model": TENSORS, "metadata": words, "epoch": 3}))
    assert same(stored.state) and stored.metadata == words and stored.beside == ("epoch",)
    assert stored.class_names == ("a", "b") and stored.image_size == 512
    other = read_checkpoint(save({"model": TENSORS, "metadata": {"step": 3}}))
    assert other.metadata == {} and other.beside == ("metadata",) and other.image_size == 0


class _Trap:
    def __reduce__(self):
        return (print, ("code in a checkpoint was run",))


def test_p34_refusals(tmp_path, save, capfd):
    def written(name: str, content: bytes):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    loop: dict = {}
    loop["model"] = loop
    whole = save(TENSORS, "whole.pt").read_bytes()
    save_file(TENSORS, tmp_path / "whole.safetensors")
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    for size in ("x", "-32", "100", "512.0"):
        save_file(TENSORS, tmp_path / f"size{size}.safetensors", metadata={"image_size": size})
    not_pt, not_state = "is not a .pt checkpoint that loads with weights only", "holds no state dict: expected"
    cases = [
        (tmp_path / "nowhere.pt", "nowhere.pt' does not exist: give the path of a .pt or .safetensors file"),
        (tmp_path, "is a folder: give the path of a .pt or .safetensors file"),
        (written("text.pt", b"not a checkpoint"), f"{not_pt}: it was not written by torch.save"),
        (written("empty_file.pt", b""), f"{not_pt}: .*; it is empty: 0 bytes"),
        (written("bytes.pt", bytes(range(256)) * 4), not_pt),
        (written("half.pt", whole[: len(whole) // 2]), "it is cut: it has [0-9,]+ bytes, and its end is missing"),
        (written("text.safetensors", b"not a checkpoint"), "is not a .safetensors checkpoint that loads"),
        (
            written("half.safetensors", (tmp_path / "whole.safetensors").read_bytes()[:-4]),
            "it is cut: it has .* of .* bytes",
        ),
        (written("short.safetensors", struct.pack("<Q", len(header)) + header), "it is cut: it has .* of .* bytes"),
        (
            written("code.pt", pickle.dumps(_Trap(), protocol=2)),
            f"{not_pt}: it names .*print, and what a file names is never run",
        ),
        (save({"model": TENSORS, "config": _Trap()}, "config.pt"), "it names .*print, and what"),
        (save([1, 2], "list.pt"), not_state),
        (save({}, "empty.pt"), not_state),
        (save({"model": {}}, "empty_model.pt"), not_state),
        (save({"model": {"a": 1}}, "no_tensors.pt"), not_state),
        (save({"weights": TENSORS}, "unknown_wrapper.pt"), f"{not_state}.* and it has the keys 'weights'"),
        (save({0: torch.zeros(1)}, "numbers.pt"), not_state),
        (save(torch.zeros(3), "tensor.pt"), not_state),
        (save(loop, "loop.pt"), not_state),
        *(
            (
                tmp_path / f"size{size}.safetensors",
                f"its metadata says that image_size is '{size}', expected a multiple of 32 or 16 or 14, px",
            )
            for size in ("x", "-32", "100", "512.0")
        ),
        (
            save({"model": TENSORS, "state_dict": TENSORS}, "two.pt"),
            "more than one state dict, under 'model' and 'state_dict'",
        ),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path, words in cases:
            with pytest.raises(CheckpointError, match=words) as refusal:
                read_checkpoint(path)
            assert "\n" not in str(refusal.value) and "Re-running" not in str(refusal.value), refusal.value
    seen = capfd.readouterr()
    assert "code in a checkpoint was run" not in seen.out and seen.err == ""


def test_a_file_that_may_not_be_read_is_said(save):
    """Run by root, which may read everything, the test is of another user for a moment."""
    was_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path, closed = Path(folder) / "own.pt", Path(folder) / "closed"
        shutil.copy(save(TENSORS), path)
        shutil.copy(path, path.with_suffix(".safetensors"))
        closed.mkdir()
        for one in (path, path.with_suffix(".safetensors"), closed):
            one.chmod(0)
        if was_root:
            os.seteuid(65534)
        try:
            for one in (path, path.with_suffix(".safetensors"), closed / "own.pt"):
                with pytest.raises(CheckpointError, match=f"{one.name}' cannot be read: Permission denied"):
                    read_checkpoint(one)
            with pytest.raises(CheckpointError, match="own.pt' cannot be read: Permission denied"):
                resolve_checkpoint(closed / "own.pt")
        finally:
            if was_root:
                os.seteuid(0)
            closed.chmod(0o700)
    with pytest.raises(CheckpointError, match="cannot be read: File name too long"):
        read_checkpoint("x" * 300)


def test_the_digest_is_that_of_the_files_that_were_read(save, tmp_path, monkeypatch):
    """One that is replaced meanwhile, as by a training that ends, is read again; it is refused while this goes on."""
    path = save(TENSORS)
    assert read_checkpoint(path, digest=True).sha256 == file_sha256(path) and read_checkpoint(path).sha256 == ""
    newer = tmp_path / "newer"
    torch.save({"c": torch.ones(1)}, newer)

    def replaced(path):
        if newer.exists():
            os.replace(newer, path)
        return file_sha256(path)

    monkeypatch.setattr(reading, "file_sha256", replaced)
    stored = read_checkpoint(path, digest=True)
    assert list(stored.state) == ["c"] and stored.sha256 == file_sha256(path)

    times = iter(range(10))

    def written(path):
        os.utime(path, ns=(1, next(times)))
        return file_sha256(path)

    monkeypatch.setattr(reading, "file_sha256", written)
    with pytest.raises(CheckpointError, match="a.pt was written to while it was read, 2 times: read it when it is"):
        read_checkpoint(path, digest=True)
    assert next(times) == reading.ATTEMPTS


def test_a_mount_that_gives_a_file_another_inode_each_time_is_read_from(save, monkeypatch):
    path = save(TENSORS)
    inode = os.stat(path).st_ino

    def again(path):
        shutil.copy2(path, f"{path}.copy")
        os.replace(f"{path}.copy", path)
        return file_sha256(path)

    monkeypatch.setattr(reading, "file_sha256", again)
    assert same(read_checkpoint(path, digest=True).state) and os.stat(path).st_ino != inode
