"""Which checkpoint a command uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sam2s_model.errors import CheckpointError
from sam2s_model.published.catalog import default_checkpoint, resolve_checkpoint


def checkpoint_or_default(given: str | Path | None, source_kind: str, say: Callable[[str], Any]) -> Path:
    """The checkpoint to use: the one given, otherwise the one in the package.

    given: a path, or a name of the catalogue, see `resolve_checkpoint`; None: not given
    source_kind: `FrameSource.kind` of what it will be used on
    say: told in one line that the package's own is used, and that it is not for a source like this
    Raises CheckpointError when there is no such file, or none was given and the package has none.
    """
    if given is not None:
        return resolve_checkpoint(given)
    found = default_checkpoint()
    if found is None:
        raise CheckpointError(
            "no checkpoint was given and the package has none: pass --checkpoint with a .pt or .safetensors file, or a "
            "name of `sam2s checkpoint list`"
        )
    line = f"no --checkpoint was given: using {found}, which is in the package"
    if source_kind != "scene":
        line += "; on real images a published SAM 2.1 checkpoint follows objects better"
    say(line)
    return found
