"""The file of actions that a console and an annotation are asked to keep. Without ROS."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sam2s_model.errors import ConfigError
from sam2s_model.paths import expanded


class ActionLog:
    """Adds each action as a line of JSON to a file. One thread at a time uses it.

    A record that cannot be written, as on a full disk, is left out and nobody who acts is told: what they asked for was
    done. A record that was cut is ended by the next one, so that each line is one record, or the beginning of one.

    name: the option that names the file; path: of the file, nothing for none
    warn: told in a sentence what is left out, once until records can be written again
    Raises ConfigError for a file that cannot be opened.
    """

    def __init__(self, name: str, path: str | Path | None, warn: Callable[[str], Any]):
        self._name, self._path, self._warn = name, path, warn
        self._cut = self._failing = False
        try:
            # unbuffered: what was not written must not be in the way of what comes next
            self._file = expanded(path).open("ab", buffering=0) if path else None
        except OSError as error:
            raise ConfigError(f"{name} {path} cannot be written to ({error.strerror})") from error

    def add(self, record: Mapping[str, Any]) -> None:
        """Write a record, if that can be done."""
        if self._file is None:
            return
        line = json.dumps(record).encode() + b"\n"
        left = b"\n" * self._cut + line
        try:
            while left:
                written = self._file.write(left)
                left, self._cut = left[written:], len(left) > written
        except OSError as error:
            if not self._failing:
                self._warn(f"{self._name} {self._path} cannot be written to ({error.strerror}): actions are left out")
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
