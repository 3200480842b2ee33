"""What tells that the files of a recording have changed: their number, bytes and newest change."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sam2s_model.paths import expanded
from sam2s_model.recordings.recording import Recording


def file_stamp(files: Iterable[Path]) -> list[int]:
    """Return number, bytes and newest change (ns) of files; [] where there are none. What is gone counts as empty."""
    sizes, changes = [], []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            sizes.append(0)
            continue
        sizes.append(status.st_size)
        changes.append(status.st_mtime_ns)
    return [len(sizes), sum(sizes), max(changes, default=0)] if sizes else []


def recording_stamp(recording: Recording) -> list[int]:
    """Return the stamp of the files of an opened recording and of its truth; [] for a stream and the scene."""
    return file_stamp(recording.files())


def source_stamp(source: str, leave_out: Path | None = None) -> list[int]:
    """Return the stamp of a source that is not opened: a file, or all in a folder; [] for what is none on this machine.

    Links to folders are followed, as by what opens it, and each folder counts once.
    leave_out: a folder that may be inside, such as that of the results
    """
    path = expanded(source)
    out = None if leave_out is None else leave_out.resolve()
    try:
        if path.is_file():
            return file_stamp([path])
        found, seen = list[Path](), {path.resolve(), out}
        for folder, below, names in os.walk(path, followlinks=True):
            there = {Path(folder, name).resolve(): name for name in below}
            below[:] = [name for place, name in there.items() if place not in seen]
            seen.update(there)
            found += [Path(folder, name) for name in names]
    except (OSError, ValueError):  # a URL may be longer than a name
        return []
    return file_stamp(found)
