"""Files of tensors, which are there complete or as they were before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from sam2s_model.errors import CheckpointError, Sam2sError


@contextmanager
def replacing(path: Path, error_type: type[Sam2sError] = CheckpointError, kept: str = "") -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `path` when all went well, and is gone otherwise.

    kept: what is still there when it cannot be written, as the end of a sentence
    Raises an error of that type then, whichever way the writer inside says that the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # of Python, of torch and of safetensors
        why = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise error_type(f"{path} cannot be written: {why}{kept}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
