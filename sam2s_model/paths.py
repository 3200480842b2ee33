"""Paths as users write them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sam2s_model.errors import ConfigError


def expanded(path: str | Path) -> Path:
    """Expand ~ and ~user as a shell would, which does not do it after an equals sign, nor in a YAML file.

    Raises ConfigError for a user that is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: {error}") from error


def expanded_arguments(arguments: list[str]) -> list[str]:
    """Those of a command line, with ~ expanded where it begins one, or what follows the first = of an option."""

    def expand(text: str) -> str:
        begin = re.match(r"--[\w-]+=", text)
        option, value = (begin[0], text[begin.end() :]) if begin else ("", text)
        return option + (str(expanded(value)) if re.match(r"~([A-Za-z_][\w-]*)?(/|$)", value) else value)

    return [expand(text) for text in arguments]


def expanded_table(value: Any) -> Any:
    """Expand ~/ at the beginning of every text in what a YAML file holds."""
    if isinstance(value, dict):
        return {key: expanded_table(own) for key, own in value.items()}
    if isinstance(value, list):
        return [expanded_table(own) for own in value]
    return str(expanded(value)) if isinstance(value, str) and value.startswith("~/") else value


def write_whole(path: Path, text: str) -> None:
    """Replace a file: it has the old content or all of the new one, also when the machine goes down. Raises OSError."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes may write the same file
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
