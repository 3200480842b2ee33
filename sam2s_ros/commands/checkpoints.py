"""Which checkpoint a command uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sam2s_model.published.catalog import (
    DEFAULT_ON_CPU,
    DEFAULT_ON_GPU,
    default_checkpoint,
    explain_default,
    resolve_checkpoint,
)


def checkpoint_or_default(given: str | Path | None, source_kind: str, device: str, say: Callable[[str], Any]) -> Path:
    """Return the checkpoint to use: the one given, otherwise the package's default for the device.

    given: a path, or a name of the catalogue, see `resolve_checkpoint`; None: not given
    source_kind: `Recording.kind` of what it will be used on; device: "auto", "cpu", "cuda" or "cuda:N"
    say: told in one line that the package's own is used, and that there is a better one for a source like this
    Raises CheckpointError when there is no such file, or none was given and the package has none.
    """
    if given is not None:
        return resolve_checkpoint(given)
    found = default_checkpoint(device)
    line = f"no --checkpoint was given: {explain_default(device)}"
    if source_kind != "scene" and found.stem == DEFAULT_ON_CPU:
        line += f"; on real images --checkpoint {DEFAULT_ON_GPU}, which is slower, follows objects better"
    say(line)
    return found
