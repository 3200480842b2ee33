"""Common to the tests of downloads: a file, its entry in a catalogue, and what a folder must have afterwards."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from sam2s_model.published.catalog import Published
from sam2s_model.published.download import download
from sam2s_model.published.sha256 import stored_sha256

CONTENT = random.Random(0).randbytes(1_500_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "weights.pt"
PART, NOTE, SUM, REJECTED = (NAME + suffix for suffix in (".part", ".part.json", ".sha256", ".rejected"))


def made(server, **changes) -> Published:
    known = dict(url=f"{server.url}/{NAME}", size=len(CONTENT), sha256=DIGEST)
    return Published("weights", NAME, "sam2s_pico", "MIT", "https://example.com", **{**known, **changes})


def get(entry: Published, folder: Path, **options) -> Path:
    return download(entry, folder, **{"wait": 0.001, "timeout": 5.0, **options})


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_complete(folder: Path) -> None:
    assert (folder / NAME).read_bytes() == CONTENT and files(folder) == {NAME, SUM}
    assert stored_sha256(folder / NAME) == DIGEST


def made_at(address: str) -> Published:
    return Published("weights", NAME, "sam2s_pico", "MIT", "https://example.com", f"{address}/{NAME}")
