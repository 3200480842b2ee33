"""What was meant by a name or a path that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

LIKENESS = 0.75  # of difflib's ratio, 0 to 1, from which it may be a slip of the hand


def meant(given: object, names: Iterable[object]) -> str:
    """Return the end of a sentence, " (did you mean NAME?)", with the name most like the given one; "" when none is.

    >>> meant("mach", ["fifo", "match"])
    ' (did you mean match?)'
    """
    found = closest(str(given), [str(name) for name in names])
    return f" (did you mean {found}?)" if found else ""


def meant_path(given: Path) -> str:
    """Return the same for a path: the one there is if each part of it is the most like the given one."""
    found = Path(given.anchor)
    for part in given.parts[bool(given.anchor) :]:
        name: str | None = part
        if not (found / part).exists():
            name = closest(part, _entries(found))
        if name is None:
            return ""
        found = found / name
    return f" (did you mean {found}?)" if found != given else ""


def closest(given: str, names: Iterable[str]) -> str | None:
    """Return the name that is most like the given one, whatever the case of its letters; None: none is.

    A name that has all words of the given one, as "sam2.1_hiera_tiny" those of "sam2.1_tiny", comes before others.
    """
    given, known = given.lower(), {name.lower(): name for name in names}
    more = [name for name in known if _words(given) and _words(given) <= _words(name)]
    found = get_close_matches(given, more, n=1, cutoff=0.0) or get_close_matches(given, known, n=1, cutoff=LIKENESS)
    return known[found[0]] if found else None


def _entries(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError:  # it may not be read, or is a file
        return []


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", name))
