"""What is published, and the file that a name stands for."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sam2s_model
from sam2s_model.config import MODELS, POLICY_NAMES
from sam2s_model.errors import CheckpointError
from sam2s_model.published import catalog
from sam2s_model.published.catalog import (
    CATALOG,
    Published,
    cache_folder,
    default_checkpoint,
    explain_default,
    published,
    resolve_checkpoint,
)
from sam2s_model.published.sha256 import file_sha256, sha256_file, store_sha256, stored_sha256, verify

HAND = "sam2.1_hiera_s_endo18"  # no sha256 is known for it


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "sam2s").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return cache_folder()


def test_every_entry_is_complete():
    assert set(MODELS) - {"sam2s_pico", "sam2s_nano"} <= set(CATALOG)
    for name, entry in CATALOG.items():
        assert entry.name == name and entry.model in MODELS and entry.licence and entry.page.startswith("https://")
        assert name not in MODELS or entry.model == name
        assert entry.purpose and entry.policy in ("", *POLICY_NAMES) and entry.image_size in (0, 512)
        if entry.url:
            assert entry.url.startswith("https://") and entry.url.endswith(f"/{entry.file}")
            assert entry.size > 1_000_000 and (entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256))
    digests = [entry.sha256 for entry in CATALOG.values() if entry.sha256]
    assert len(set(digests)) == len(digests) == 13


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.size and name != "sam3"])
def test_sizes_fit_the_models(name):
    """A file has 4 bytes for each number of the model, and names and a pickle around them."""
    from sam2s_model.checkpoint.recognition import without_weights

    state = without_weights(MODELS[CATALOG[name].model]).state_dict()
    numbers = sum(value.numel() for value in state.values())
    assert 4 * numbers < CATALOG[name].size < 4 * numbers + 400 * len(state) + 200_000


def test_the_catalogue_needs_no_torch():
    code = "import sys, sam2s_model.published.download, sam2s_ros.commands.checkpoints; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_p34_nothing_else_can_download():
    clients = re.compile(
        r"^\s*(import|from) (urllib\.request|http\.client|requests|httpx|huggingface_hub)\b"
        r"|^\s*(import aiohttp|from aiohttp import .*(Client|request))",  # of aiohttp the console takes the server
        re.M,
    )
    folder = Path(sam2s_model.__file__).parent
    sources = [*folder.rglob("*.py"), *folder.parent.joinpath("sam2s_ros").rglob("*.py")]
    assert len(sources) > 50
    assert {path.name for path in sources if clients.search(path.read_text())} == {"transfer.py"}


@pytest.mark.parametrize(
    "value, expected", [("/somewhere", "/somewhere/sam2s"), ("relative", "~/.cache/sam2s"), ("", "~/.cache/sam2s")]
)
def test_the_cache_folder(value, expected, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache_folder() == Path(expected).expanduser()


def test_a_path_is_itself(cache, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"a")
    assert resolve_checkpoint(tmp_path / "a.pt") == tmp_path / "a.pt"
    assert resolve_checkpoint("a.pt") == Path("a.pt")
    (tmp_path / "edgetam").write_bytes(b"a file of that name comes first")
    assert resolve_checkpoint(Path("edgetam")) == Path("edgetam")


@pytest.mark.parametrize("name", ["sam2s_nano", "sam2s_pico", "sam2s_tiny"])
def test_the_packaged_ones_have_names(cache, name):
    assert resolve_checkpoint(name) == Path(sam2s_model.__file__).parent / "weights" / f"{name}.safetensors"
    with pytest.raises(CheckpointError, match=f"'{name}' is in the package: there is nothing to download"):
        published(name)


@pytest.mark.parametrize("device, cuda, name, kind", [
    ("cpu", True, "sam2s_nano", "CPU"),
    ("cuda", True, "sam2s_tiny", "GPU"),
    ("cuda:1", True, "sam2s_tiny", "GPU"),
    ("auto", True, "sam2s_tiny", "GPU"),
    ("auto", False, "sam2s_nano", "CPU"),
])  # fmt: skip
def test_the_default_is_the_devices(monkeypatch, device, cuda, name, kind):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)  # the same answer on every machine
    assert default_checkpoint(device) == resolve_checkpoint(name)
    assert explain_default(device) == f"using {name}, the package's default on a {kind}"


def test_a_package_without_the_default_says_so(monkeypatch):
    monkeypatch.setattr(catalog, "packaged_checkpoints", dict)
    with pytest.raises(
        CheckpointError, match="no checkpoint was given, and sam2s_nano is not in the package: give the path"
    ):
        default_checkpoint("cpu")


@pytest.mark.parametrize("given, words", [
    ("edgetam", r"'edgetam' is not in .*/cache/sam2s: get it with `sam2s checkpoint download edgetam`$"),
    ("edgetam.pt", r"'edgetam.pt' does not exist: .*download edgetam`, and pass the name edgetam$"),
    (HAND, rf"get {HAND}.pth from https://github.com/jinlab-imvr/Surgical-SAM-2 and put it into .*/cache/sam2s$"),
    ("nothing.pt", "'nothing.pt' does not exist: give the path of .*or a name of `sam2s checkpoint list`$"),
    ("models/edgetam.pt", "'models/edgetam.pt' does not exist: give the path"),
    ("sam2.1_tiny",
     "'sam2.1_tiny' does not exist: did you mean 'sam2.1_hiera_tiny'\\? Otherwise give the path of .*list`$"),
    ("sam2s-tiny.safetensors", "did you mean 'sam2s_tiny'"),
    ("cache/ours.pt", "did you mean 'cache/yours.pt'"),
    ("cache", "'cache' is a folder: give the path of a .pt or .safetensors file"),
    ("x" * 300, "'xxx.*x' cannot be read: File name too long"),
])  # fmt: skip
def test_what_is_not_there_says_how_to_get_it(cache, given, words):
    (cache.parent / "yours.pt").touch()
    with pytest.raises(CheckpointError, match=words):
        resolve_checkpoint(given)


def test_a_name_is_compared_with_the_known_sha256(cache, monkeypatch):
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(CATALOG, "ours", Published("ours", "ours.pt", "sam2s_pico", "MIT", "https://x", sha256=digest))
    (cache / "ours.pt").write_bytes(b"weights")
    assert resolve_checkpoint("ours") == cache / "ours.pt"
    (cache / "ours.pt").write_bytes(b"others")
    with pytest.raises(
        CheckpointError, match=f"sha256 {hashlib.sha256(b'others').hexdigest()}, not {digest} that is known"
    ):
        resolve_checkpoint("ours")
    monkeypatch.setitem(CATALOG, "ours", Published("ours", "ours.pt", "sam2s_pico", "MIT", "https://x", size=7))
    with pytest.raises(CheckpointError, match="ours.pt has 6 bytes, not the 7 that are known for it"):
        resolve_checkpoint("ours")
    assert not sha256_file(cache / "ours.pt").exists()


def test_an_unknown_sha256_is_trusted_at_first_use(cache):
    file = cache / f"{HAND}.pth"
    file.write_bytes(b"weights")
    assert resolve_checkpoint(HAND) == file
    assert stored_sha256(file) == file_sha256(file) == hashlib.sha256(b"weights").hexdigest()
    assert resolve_checkpoint(HAND) == file
    file.write_bytes(b"changed")
    with pytest.raises(CheckpointError, match=f"{HAND}.pth.sha256, stored when it was first seen"):
        resolve_checkpoint(HAND)
    sha256_file(file).write_text("what is this\n")
    with pytest.raises(CheckpointError, match="does not begin with a sha256 of 64 hex digits"):
        resolve_checkpoint(HAND)


def test_a_published_file_is_used_as_it_was_trained(cache, tmp_path, monkeypatch):
    from sam2s_model.checkpoint import load_model
    from sam2s_model.checkpoint.convert import convert
    from sam2s_model.published.catalog import packaged_checkpoints, published_as

    pico = packaged_checkpoints()["sam2s_pico"]
    entry = Published(
        "ours", "ours.safetensors", "sam2s_pico", "MIT", "https://x", "", pico.stat().st_size, file_sha256(pico),
        image_size=128, policy="efp",
    )  # fmt: skip
    assert published_as(pico) is None and load_model(pico, device="cpu").image_size == 192
    monkeypatch.setitem(CATALOG, "ours", entry)
    model = load_model(pico, device="cpu")
    assert (model.image_size, model.config.policy) == (128, "efp")
    assert load_model(pico, device="cpu", image_size=64).image_size == 64, "what is asked for comes first"
    once, again = tmp_path / "once.pt", tmp_path / "again.safetensors"
    convert(pico, once)
    convert(once, again, half=True)
    for made in (once, again):  # is another file, which no sha256 tells any more
        model = load_model(made, device="cpu")
        assert (model.image_size, model.config.policy) == (128, "efp")
    convert(pico, again, image_size=64, force=True)
    model = load_model(again, device="cpu")
    assert (model.image_size, model.config.policy) == (64, "efp")
    other = tmp_path / "other.safetensors"
    other.write_bytes(pico.read_bytes()[:-1] + b"x")
    assert published_as(other) is None
    (cache / "sam2_hiera_s_endo18.pth").touch()
    assert published_as(cache / "sam2_hiera_s_endo18.pth").policy == "efp", "there its name says what it is"


def test_the_stored_sha256_is_one_that_sha256sum_checks(tmp_path):
    file = tmp_path / "a b.pt"
    file.write_bytes(b"abc" * 1_000_000)
    store_sha256(file, file_sha256(file))
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum on this machine")
    done = subprocess.run(["sha256sum", "-c", "a b.pt.sha256"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "a b.pt: OK\n"
    assert verify(file, None) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
