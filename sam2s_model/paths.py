"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from sam2s_model.errors import ConfigError


def expanded(path: str | Path) -> Path:
    """A path with ~ and ~user as a shell would expand them, which it does not after an equals sign, nor in a YAML file.

    Raises ConfigError for a user that is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: {error}") from error
