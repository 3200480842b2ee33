"""What was meant by a name or a path that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

LIKENESS = 0.75  # of difflib's ratio, 0 to 1, from which it may be a slip of the hand
SUFFIXES = (".pt", ".pth", ".safetensors")  # of checkpoint files


def similar_name(given: str, names: Iterable[str]) -> str | None:
    """Find the name most like the given one, without regard to case and a suffix; None if none is like it.

    A name that has all words of the given one, as "sam2.1_hiera_tiny" those of "sam2.1_tiny", comes before others.
    """
    suffix = next((suffix for suffix in SUFFIXES if given.lower().endswith(suffix)), "")
    return _closest(given[: len(given) - len(suffix)], names)


def similar_path(given: Path) -> str | None:
    """Find the file meant by a mistyped path: each part that does not exist is replaced by the one most like it.

    None if a part is like nothing that is there.
    """
    found = Path(given.anchor)
    for index, part in enumerate(given.parts[bool(given.anchor) :], start=1 + bool(given.anchor)):
        if not (found / part).exists():
            last = index == len(given.parts)
            closest = _closest(part, _entries(found, files=last))
            if closest is None:
                return None
            part = closest
        found = found / part
    return str(found) if found.is_file() else None


def _entries(folder: Path, files: bool) -> list[str]:
    """Names of the checkpoint files, or of the folders, in a folder."""
    try:
        return [e.name for e in folder.iterdir() if (e.suffix in SUFFIXES and e.is_file() if files else e.is_dir())]
    except OSError:  # it may not be read, or is a file
        return []


def _closest(given: str, names: Iterable[str]) -> str | None:
    given, known = given.lower(), {name.lower(): name for name in names}
    more = [name for name in known if _words(given) and _words(given) <= _words(name)]
    found = get_close_matches(given, more, n=1, cutoff=0.0) or get_close_matches(given, known, n=1, cutoff=LIKENESS)
    return known[found[0]] if found else None


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", name))
