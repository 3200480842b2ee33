"""Folders beside a file, for what is to take its place, which are gone in the end whatever ended their process."""

from __future__ import annotations

import fcntl
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from sam2s_model.files.file_locks import lock

LOCK = "lock"  # a file in the folder, which its process holds while it lives
SUFFIX = ".tmp"
YOUNG = 10  # s, in which a folder's own process has surely locked it


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder of the same file system as a file, and remove it with what is in it.

    Folders that killed processes have left beside the file are removed first. Raises OSError where none can be made.
    """
    _remove_left(path)
    prefix = f".{path.name}."
    with TemporaryDirectory(SUFFIX, prefix, path.parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / LOCK).open("w") as file:
            lock(file)
            yield folder


def _remove_left(path: Path) -> None:
    own = re.compile(re.escape(f".{path.name}.") + r"\w{8}" + re.escape(SUFFIX))  # as tempfile names them
    with suppress(OSError):
        for beside in path.parent.iterdir():
            if own.fullmatch(beside.name) and beside.is_dir() and not _is_used(beside):
                shutil.rmtree(beside, ignore_errors=True)


def _is_used(folder: Path) -> bool:
    """Tell whether a process may still write to a folder; where there are no locks it always may."""
    try:
        if time.time() - folder.stat().st_mtime < YOUNG:
            return True
        with (folder / LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:  # its process ended before, or while it was removed
        return False
    except OSError:
        return True
    return False
