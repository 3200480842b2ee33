"""Files of tensors, which are there complete or as they were before."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from sam2s_model.device_errors import is_of_device
from sam2s_model.errors import CheckpointError, Sam2sError

STALE = 60  # s without a change, after which nobody writes a file any more


@contextmanager
def with_usual_mode(temporary: Path, path: Path) -> Iterator[None]:
    """Give what is written inside to `temporary` the mode of the file `path`, or else that of any new file.

    For safetensors, whose writer makes files that nobody but their owner can read. Raises OSError.
    """
    temporary.touch()
    mode = stat.S_IMODE((path if path.exists() else temporary).stat().st_mode)
    yield
    temporary.chmod(mode)


@contextmanager
def replacing(path: Path, error_type: type[Sam2sError] = CheckpointError, kept: str = "") -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `path` when all went well, and is gone otherwise.

    kept: what is still there when it cannot be written, as the end of a sentence
    Raises an error of that type then, whichever way the writer inside says that the disk is full; errors of a GPU, and
    for want of memory, stay as they are. What killed processes have left beside the file is removed.
    """
    _remove_left(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # of Python, of torch and of safetensors
        if not isinstance(error, OSError) and is_of_device(error):
            raise
        why = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise error_type(f"{path} cannot be written: {why}{kept}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """Remove what processes that are no more have left beside a file; a process of another machine writes all along."""
    own = re.compile(re.escape(f".{path.name}.") + r"(\d+)\.tmp")
    with suppress(OSError):
        for beside in path.parent.iterdir():
            found = own.fullmatch(beside.name)
            if found and not _is_alive(int(found[1])) and time.time() - beside.stat().st_mtime > STALE:
                beside.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True
