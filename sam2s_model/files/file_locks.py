"""Locks of files (flock), by which a process sees that another one is at a file."""

from __future__ import annotations

import errno
import fcntl
import warnings
from typing import IO, Any

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # of file systems that have none, as some of clusters


def lock(file: IO[Any]) -> None:
    """Lock a file for this process alone, until it is closed. Warns where the file system has no locks.

    file: open for writing: NFS gives no lock for one that is not
    Raises BlockingIOError while another process holds it, and OSError where there is no telling.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{file.name} is on a file system without locks ({error.strerror}): nothing keeps another process from "
            "writing there, too",
            stacklevel=3,
        )
