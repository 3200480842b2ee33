"""Trust in a file: its sha256 is the known one, or the one it had when it was first seen."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from sam2s_model.errors import CheckpointError
from sam2s_model.paths import write_whole
from sam2s_model.published.shards import files_of


def file_sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes; of a checkpoint in several files, of all of them in order."""
    digest = hashlib.sha256()
    for part in files_of(Path(path)):
        with open(part, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def sha256_file(path: Path) -> Path:
    """Where the sha256 of a file is stored: beside it, as `sha256sum` writes it and `sha256sum -c` reads it."""
    return path.with_name(path.name + ".sha256")


def stored_sha256(path: Path) -> str | None:
    """Read the stored digest of a file; None when there is none. Raises CheckpointError for a file that holds none."""
    store = sha256_file(path)
    if not store.exists():
        return None
    words = store.read_text(errors="replace").split()
    if not words or not re.fullmatch(r"[0-9a-fA-F]{64}", words[0]):
        raise CheckpointError(f"{store} does not begin with a sha256 of 64 hex digits: remove it if you trust {path}")
    return words[0].lower()


def store_sha256(path: Path, digest: str) -> None:
    """Store the digest of a file beside it."""
    write_whole(sha256_file(path), f"{digest}  {path.name}\n")


def verify(path: Path, known: str | None, size: int | None = None) -> str:
    """Compare a file with the size and the sha256 it must have, and return its digest.

    known: hex digest, or None: then with the one stored beside the file, and where there is none either, the file is
    trusted now and its digest is stored, where the folder can be written to
    size: bytes; None: not known
    Raises CheckpointError that gives both sizes, or both digests.
    """
    again = "it is damaged or another file; remove it and get it again"
    if size is not None and (there := path.stat().st_size) != size:
        raise CheckpointError(f"{path} has {there:,} bytes, not the {size:,} that are known for it: {again}")
    expected = known or stored_sha256(path)
    digest = file_sha256(path)
    if expected is None:
        with suppress(OSError):  # a folder that only an administrator writes to: nobody else changes the file either
            store_sha256(path, digest)
    elif digest != expected:
        origin = "that is known for it" if known else f"in {sha256_file(path).name}, stored when it was first seen"
        raise CheckpointError(f"{path} has sha256 {digest}, not {expected} {origin}: {again}")
    return digest
