"""Paths as users write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sam2s_model.errors import ConfigError


def expanded(path: str | Path) -> Path:
    """A path with ~ and ~user as a shell would expand them, which it does not after an equals sign, nor in a YAML file.

    Raises ConfigError for a user that is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: {error}") from error


def expanded_arguments(arguments: list[str]) -> list[str]:
    """Those of a command line, with ~ expanded where it begins one, or what follows the first = of an option."""

    def expand(text: str) -> str:
        option, value = re.fullmatch(r"(?s)(--[\w-]+=)?(.*)", text).groups()
        return (option or "") + (str(expanded(value)) if re.match(r"~([A-Za-z_][\w-]*)?(/|$)", value) else value)

    return [expand(text) for text in arguments]


def expanded_table(value: Any) -> Any:
    """What a YAML file holds, with ~/ expanded where it begins a text."""
    if isinstance(value, dict):
        return {key: expanded_table(own) for key, own in value.items()}
    if isinstance(value, list):
        return [expanded_table(own) for own in value]
    return str(expanded(value)) if isinstance(value, str) and value.startswith("~/") else value


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise ConfigError when there is a file with something in it, unless it may be written over."""
    try:
        size = path.stat().st_size if path.is_file() else 0
    except OSError as error:
        raise ConfigError(f"{path} cannot be looked at ({error.strerror}): give another --output") from error
    if size and not overwrite:
        raise ConfigError(f"{path} exists already ({size} bytes): give another name, or --overwrite")


def claim_file(path: Path, *, overwrite: bool) -> None:
    """Make an empty file for a result, so that whether it can be written is known before, not after hours.

    Raises ConfigError as `check_free` does, or when it cannot be written.
    """
    check_free(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written to ({error.strerror}): give another --output") from error
