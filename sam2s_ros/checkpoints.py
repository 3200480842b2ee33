"""Which checkpoint a command uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sam2s_model.errors import CheckpointError


def checkpoint_or_default(given: Path | None, source_kind: str, say: Callable[[str], Any]) -> Path:
    """The checkpoint to use: the one given, otherwise the one in the package.

    source_kind: `FrameSource.kind` of what it will be used on
    say: told in one line that the package's own is used, and that it is not for a source like this
    Raises CheckpointError when none was given and the package has none.
    """
    if given is not None:
        if not given.is_file():
            raise CheckpointError(
                f"checkpoint {str(given)!r} does not exist: give the path of a .pt or .safetensors file"
            )
        return given
    from sam2s_model.checkpoint import default_checkpoint

    found = default_checkpoint()
    if found is None:
        raise CheckpointError(
            "no checkpoint was given and the package has none: pass --checkpoint PATH (.pt or .safetensors)"
        )
    line = f"no --checkpoint was given: using {found}, which is in the package"
    if source_kind != "scene":
        line += "; it has seen nothing but the procedural scene: for other images pass a SAM 2.1 checkpoint"
    say(line)
    return found
