"""classes.yaml beside frames/ and masks/: the class of each object, by its value in the masks, `{1: scissors}`."""

from __future__ import annotations

from pathlib import Path

import yaml

from sam2s_model.errors import SourceError

CLASS_FILE = "classes.yaml"


def read_classes(folder: Path) -> dict[int, str]:
    """Return object -> name of its class; nothing where a folder has no such file. Raises SourceError."""
    path = folder / CLASS_FILE
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(n, int) and isinstance(c, str) for n, c in found.items()):
        raise SourceError(f"{path} is no table of objects: expected their values in masks, such as {{1: scissors}}")
    return found
