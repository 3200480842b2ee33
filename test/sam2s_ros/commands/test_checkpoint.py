"""`sam2s checkpoint` as a user sees it, and names in place of paths in the other commands."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect as py_inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam2s_model.checkpoint.eight_bit import FEWEST
from sam2s_model.errors import CheckpointError
from sam2s_model.published.catalog import CATALOG, Published
from sam2s_ros.commands.checkpoint import convert as convert_command
from sam2s_ros.commands.checkpoints import checkpoint_or_default
from sam2s_ros.commands.cli import main

RUN = [sys.executable, "-m", "sam2s_ros.commands.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
SCENE = "scene:?width=96&height=80&frames=3&seed=1&fps=20"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A complete checkpoint of the smallest model with random weights."""
    import torch

    from sam2s_model.config import PICO
    from sam2s_model.network.model import Sam2Model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save({"model": Sam2Model(PICO, 64).state_dict(), "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> Path:
    import torch

    path = tmp_path_factory.mktemp("other") / "resnet.pt"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(10)}, path)
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SAM2S_MIRROR", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache" / "sam2s"


@pytest.fixture
def entry(file_server, weights, monkeypatch) -> Published:
    """An entry of the catalogue that the server has."""
    file_server.content = weights.read_bytes()
    digest = hashlib.sha256(file_server.content).hexdigest()
    url, size = f"{file_server.url}/ours.pt", len(file_server.content)
    made = Published("ours", "ours.pt", "sam2s_pico", "MIT", "https://example.com", url, size, digest)
    monkeypatch.setitem(CATALOG, "ours", made)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return made


def sam2s(*arguments: object) -> int:
    return main(["checkpoint", *map(str, arguments)])


def test_help_is_fast():
    began = time.monotonic()
    done = subprocess.run([*RUN, "checkpoint", "--help"], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0 and all(name in done.stdout for name in ("list", "download", "inspect", "convert"))
    assert time.monotonic() - began < 15


def test_download_then_use_by_name(cache, entry, file_server, capsys, tmp_path):
    assert sam2s("download", "ours") == 0
    shown = capsys.readouterr()
    assert f"{cache}/ours.pt: sam2s_pico, licence: MIT; --checkpoint ours uses it" in shown.out and shown.err == ""
    assert (cache / "ours.pt").read_bytes() == file_server.content

    assert sam2s("download", "ours") == 0
    assert "is there already, and its sha256 is right" in capsys.readouterr().out and len(file_server.requests) == 1
    assert sam2s("inspect", "ours") == 0
    assert "the published file ours.pt" in capsys.readouterr().out
    assert sam2s("list") == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "│ ours " in line)
    assert f"known {entry.sha256[:8]}" in row and "ours.pt" in row and "MIT" in row

    arguments = [
        "track",
        SCENE,
        "--checkpoint",
        "ours",
        "--image-size",
        "64",
        "--device",
        "cpu",
        "--output",
        tmp_path / "out",
    ]
    assert main([*map(str, arguments)]) == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["checkpoint"] == str(cache / "ours.pt")
    assert len(file_server.requests) == 1, "only `sam2s checkpoint download` uses the network"


def test_download_to_a_folder_from_a_mirror(cache, entry, file_server, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM2S_MIRROR", f"{file_server.url}/hospital")
    assert sam2s("download", "ours", "--output", tmp_path / "models") == 0
    assert "uses it" not in capsys.readouterr().out and not cache.exists()
    assert file_server.requests[-1][0] == "/hospital/ours.pt"
    assert sam2s("download", "ours", "--mirror", f"{file_server.url}/other") == 0
    assert file_server.requests[-1][0] == "/other/ours.pt"


def test_a_cut_download_goes_on_with_the_same_command(cache, entry, file_server, answer, capsys):
    file_server.plan = [answer(cut=3_000_000), *[answer(status=503)] * 5]
    assert sam2s("download", "ours") == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and "ours.pt.part, and the same command goes on from there" in shown.err
    assert "the connection was cut after 3.0 of" in shown.out
    assert sam2s("download", "ours") == 0
    assert file_server.ranges[-1] == "bytes=3000000-" and (cache / "ours.pt").read_bytes() == file_server.content


def test_a_wrong_hash_is_code_2(cache, entry, file_server, capsys):
    file_server.content = file_server.content[:-1] + b"?"
    assert sam2s("download", "ours") == 2
    said = capsys.readouterr().err
    assert entry.sha256 in said and hashlib.sha256(file_server.content).hexdigest() in said and said.count("\n") == 1
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("expected, content, words", [
    ("sam2.1_hiera_tiny", None, "it is a checkpoint of sam2s_pico, and sam2.1_hiera_tiny was expected"),
    ("sam2s_pico", "resnet", "is not a checkpoint of a known model"),
    ("sam2s_pico", b"<html>sign in</html>", "is not a .pt checkpoint that loads with weights only"),
])  # fmt: skip
def test_a_file_that_is_not_the_model_is_put_aside(
    cache, entry, file_server, resnet, capsys, monkeypatch, expected, content, words
):
    if content is not None:
        file_server.content = resnet.read_bytes() if content == "resnet" else content
    monkeypatch.setitem(CATALOG, "ours", dataclasses.replace(entry, model=expected, size=None, sha256=None))
    assert sam2s("download", "ours") == 2
    said = capsys.readouterr().err
    assert words in said and "is not ours, it is kept as" in said and said.count("\n") == 1
    assert [p.name for p in cache.iterdir()] == ["ours.pt.rejected"]


def test_an_interrupted_download_leaves_what_has_arrived(file_server, answer, weights, tmp_path):
    """SIGINT while the server is silent: no traceback, and the part is still there."""
    file_server.content = weights.read_bytes()
    file_server.plan = [answer(cut=2_000_000), answer(stall=60.0)]
    code = (
        "import sys; from sam2s_model.published.catalog import *; from sam2s_ros.commands.cli import main;"
        "CATALOG['ours'] = Published("
        f"'ours', 'ours.pt', 'sam2s_pico', 'MIT', 'https://x', '{file_server.url}/ours.pt');"
        "sys.exit(main(['checkpoint', 'download', 'ours']))"
    )
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 30
    while len(file_server.requests) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (
        process.returncode == 130
        and errors.count("\n") == 1
        and errors.startswith("interrupted: what has arrived is kept")
    )
    assert (tmp_path / "sam2s" / "ours.pt.part").stat().st_size == 2_000_000


def test_inspect_as_text_and_json(weights, cache, capsys):
    assert sam2s("inspect", weights) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if not line.startswith("l"))
    assert shown["model"] == "sam2s_pico" and shown["memory"] == "yes" and shown["stored"] == "under 'model'"
    assert shown["parameters"] == "2,060,522" and shown["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert sam2s("inspect", weights, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "sam2s_pico" and found["missing"] == [] and found["beside"] == ["epoch"]


def test_convert(weights, cache, capsys, tmp_path):
    target = tmp_path / "small.safetensors"
    assert sam2s("convert", weights, target, "--half") == 0
    assert f"{target}: sam2s_pico, 371 tensors, 4.2 MB" in capsys.readouterr().out
    assert sam2s("inspect", target, "--json") == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["source"] == "random.pt"
    assert sam2s("convert", weights, target) == 2
    assert "small.safetensors exists: give another path, or --force" in capsys.readouterr().err
    assert sam2s("convert", weights, target, "--force") == 0


def test_convert_to_8_bits_and_inspect(weights, cache, capsys, tmp_path):
    target = tmp_path / "small.safetensors"
    assert sam2s("convert", weights, target, "--int8", "--image-size", "96") == 0
    said = re.fullmatch(
        rf"{target}: sam2s_pico, 371 tensors, (\d+) of them in 8 bits, 2.3 MB\n", capsys.readouterr().out
    )
    assert sam2s("inspect", target) == 0
    shown = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert shown["8-bit weights"] == (
        f"{said[1]} of 371 tensors, one scale per output channel; made from random.pt, sha256 {digest}"
    )
    assert shown["input"] == "96 px" and shown["that is"].endswith("; with 8-bit weights")
    assert sam2s("convert", weights, tmp_path / "larger.pt", "--int8", "--int8-from", 100_000) == 0
    assert int(re.search(r"(\d+) of them in 8 bits", capsys.readouterr().out)[1]) < int(said[1])
    assert py_inspect.signature(convert_command).parameters["int8_from"].default == FEWEST, "said without loading torch"
    assert sam2s("convert", weights, tmp_path / "b.pt", "--int8", "--half") == 2
    assert "--half and --int8 exclude each other" in capsys.readouterr().err


def test_what_is_in_the_package_is_listed_and_inspected_by_name(cache, capsys):
    assert sam2s("list") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "in the package" in line]
    assert [re.search(r"sam2s_\w+", row)[0] for row in rows] == ["sam2s_nano", "sam2s_pico", "sam2s_tiny"]
    assert sam2s("inspect", "sam2s_tiny", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "sam2_hiera_tiny" and found["in_eight_bits"] == 35 and found["image_size"] == 512


def test_list_says_where_to_get_what_cannot_be_downloaded(cache, capsys):
    assert sam2s("list") == 0
    shown = capsys.readouterr().out
    assert all(f"│ {name} " in shown for name in [*CATALOG, "sam2s_pico"])
    (row,) = (line for line in shown.splitlines() if "│ efficienttam_s_512x512 " in line)
    assert "anything, light" in row and "512 px" in row and "Apache-2.0" in row and "136.4 MB" in row
    (row,) = (line for line in shown.splitlines() if "│ sam3 " in line)
    assert "SAM License" in row and "1008 px" in row and "by hand" in row
    assert "get sam2.1_hiera_s_endo18.pth from https://github.com/jinlab-imvr/Surgical-SAM-2 and put it into" in shown
    assert not cache.exists()


@pytest.mark.parametrize("arguments, words", [
    (["download", "sam2s_tiny"], "checkpoint 'sam2s_tiny' is in the package: there is nothing to download"),
    (["inspect", "sam2s_tinny"], "'sam2s_tinny' does not exist: did you mean 'sam2s_tiny'"),
    (["download", "sam4"], "no checkpoint 'sam4' is published: expected one of sam2.1_hiera_tiny"),
    (["download", "sam3"], "cannot be downloaded from here: get sam3.pt from https://huggingface.co/facebook/sam3"),
    (["download", "sam2_hiera_s_endo18"], "cannot be downloaded from here: get sam2_hiera_s_endo18.pth from https://"),
    (["download", "edgetam", "--mirror", "nfs://x"], "mirror 'nfs://x' is not one to download from"),
    (["inspect", "edgetam"], "get it with `sam2s checkpoint download edgetam`"),
    (["inspect", "/no/such.pt"], "'/no/such.pt' does not exist"),
    (["inspect", "RESNET"], "resnet.pt is not a checkpoint of a known model: none of its 2 tensors"),
    (["convert", "RESNET", "/tmp/never.pt"], "resnet.pt is not a checkpoint of a known model"),
])  # fmt: skip
def test_bad_input_is_one_sentence_and_code_2(arguments, words, resnet, cache, capsys):
    assert sam2s(*(resnet if a == "RESNET" else a for a in arguments)) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.strip().splitlines()) == 1


def test_a_mismatch_as_a_shell_sees_it(resnet):
    done = subprocess.run([*RUN, "checkpoint", "inspect", str(resnet)], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"{resnet} is not a checkpoint of a known model")


def test_names_and_paths_for_the_other_commands(weights, cache, tmp_path):
    said = []
    assert checkpoint_or_default(weights, "video", "cpu", said.append) == weights
    assert (
        checkpoint_or_default("sam2s_pico", "scene", "cpu", said.append).name == "sam2s_pico.safetensors" and said == []
    )
    with pytest.raises(CheckpointError, match="get it with `sam2s checkpoint download sam2.1_hiera_tiny`"):
        checkpoint_or_default(Path("sam2.1_hiera_tiny"), "video", "cpu", said.append)
