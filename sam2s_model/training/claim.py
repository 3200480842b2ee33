"""A folder that one process writes at a time: two of them would mix what they append, and nobody would notice."""

from __future__ import annotations

import errno
import fcntl
import warnings
from pathlib import Path
from typing import IO

from sam2s_model.errors import TrainingError

LOCK = ".lock"
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # of file systems that have none, as some of clusters


def claimed(folder: Path) -> IO[str]:
    """Hold a folder until the file that is returned is closed, or the process ends.

    Raises TrainingError while another process holds it, OSError where the file cannot be made.
    """
    file = (folder / LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise TrainingError(
            f"{folder} is being written by another process: wait for its end, or give another folder"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            file.close()
            raise
        warnings.warn(
            f"{folder} is on a file system without locks ({error.strerror}): nothing keeps another process from "
            "writing there, too",
            stacklevel=2,
        )
    return file
