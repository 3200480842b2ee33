"""Which checkpoint was meant by a name or a path that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sam2s_model.similar import closest

SUFFIXES = (".pt", ".pth", ".safetensors")  # of checkpoint files


def similar_name(given: str, names: Iterable[str]) -> str | None:
    """Find the name most like the given one, without regard to case and a suffix; None if none is like it.

    A name that has all words of the given one, as "sam2.1_hiera_tiny" those of "sam2.1_tiny", comes before others.
    """
    suffix = next((suffix for suffix in SUFFIXES if given.lower().endswith(suffix)), "")
    return closest(given[: len(given) - len(suffix)], names)


def similar_path(given: Path) -> str | None:
    """Find the file meant by a mistyped path: each part that does not exist is replaced by the one most like it.

    None if a part is like nothing that is there.
    """
    found = Path(given.anchor)
    for index, part in enumerate(given.parts[bool(given.anchor) :], start=1 + bool(given.anchor)):
        if not (found / part).exists():
            last = index == len(given.parts)
            meant = closest(part, _entries(found, files=last))
            if meant is None:
                return None
            part = meant
        found = found / part
    return str(found) if found.is_file() else None


def _entries(folder: Path, files: bool) -> list[str]:
    """Names of the checkpoint files, or of the folders, in a folder."""
    try:
        return [e.name for e in folder.iterdir() if (e.suffix in SUFFIXES and e.is_file() if files else e.is_dir())]
    except OSError:  # it may not be read, or is a file
        return []
