"""Shared memory of Fast DDS that processes have left which were killed."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SHM = "/dev/shm"
SEGMENT = re.compile(r"fast(rtps|dds)_[0-9a-f]{16}")  # the second by Fast DDS 3
LOCK = "_el"  # at the end of the name of the file whose lock (flock) a segment's process holds while it lives
YOUNG = 1.0  # s; a process that starts makes that file a moment before it locks it


@dataclass(frozen=True)
class Orphans:
    """Segments without a process. count: of those that can be removed; bytes: of them all"""

    count: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.count} segments, {self.bytes / 2**20:.0f} MiB"


def orphans(folder: str = SHM) -> Orphans:
    """Count what processes that were killed have left."""
    return _sum(folder, remove=False)


def remove_orphans(folder: str = SHM) -> Orphans:
    """Remove what they have left, except another user's, who alone may. Return what was removed."""
    return _sum(folder, remove=True)


def _sum(folder: str, *, remove: bool) -> Orphans:
    sizes = []
    for lock in _locks(Path(folder)):
        segment = lock.with_name(lock.name.removesuffix(LOCK))
        try:
            with _of_nobody(lock) as free:
                if not free:
                    continue
                size = segment.stat().st_size
                if remove:
                    segment.unlink()
                    lock.unlink()
                sizes.append(size)
        except OSError:  # it has just ended, or is another user's
            continue
    return Orphans(len(sizes), sum(sizes))


def _locks(folder: Path) -> list[Path]:
    try:
        return [
            path
            for path in folder.iterdir()
            if path.name.endswith(LOCK) and SEGMENT.fullmatch(path.name.removesuffix(LOCK))
        ]
    except OSError:
        return []


@contextmanager
def _of_nobody(lock: Path) -> Iterator[bool]:
    """Tell whether no process holds it; then this one does, in the context. Raises OSError if it does not open."""
    with lock.open("rb") as file:
        # of the future: the clock has stepped back since then
        if 0 <= time.time() - os.fstat(file.fileno()).st_mtime < YOUNG:
            yield False
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
