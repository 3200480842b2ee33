"""A folder that one process writes at a time: two of them would mix what they append, and nobody would notice."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from sam2s_model.errors import TrainingError
from sam2s_model.files.file_locks import lock

LOCK = ".lock"


def claimed(folder: Path) -> IO[str]:
    """Hold a folder until the file that is returned is closed, or the process ends.

    Raises TrainingError while another process holds it, OSError where the file cannot be made.
    """
    file = (folder / LOCK).open("w")
    try:
        lock(file)
    except BlockingIOError:
        file.close()
        raise TrainingError(
            f"{folder} is being written by another process: wait for its end, or give another folder"
        ) from None
    except OSError:
        file.close()
        raise
    return file
