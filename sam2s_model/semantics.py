"""Label sets: which class ids there are, what they are called and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from sam2s_model.errors import ConfigError, ErrorCode, RequestError
from sam2s_model.paths import expanded
from sam2s_model.tracks import MAX_LABEL


@dataclass(frozen=True)
class ClassLabel:
    """id: 1..254, value in the semantic image. color: RGB, 0..255 each."""

    id: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """A named table of classes, ascending by id, at least one. The first is the default of a new object."""

    name: str
    classes: tuple[ClassLabel, ...]

    def __post_init__(self):
        ids = [c.id for c in self.classes]
        if not ids or ids != sorted(set(ids)) or ids[0] < 1 or ids[-1] > MAX_LABEL:
            raise ConfigError(
                f"label set {self.name!r} has class ids {ids}: expected at least one, ascending, in 1..{MAX_LABEL}"
            )
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names) or "" in names:
            raise ConfigError(f"label set {self.name!r} has class names {names}: expected each once and none empty")

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelSet:
        """Read ``{name: ..., classes: [{id: ..., name: ..., color: [r, g, b]}, ...]}``.

        Raises ConfigError when the file is missing or is not such a table.
        """
        try:
            table = yaml.safe_load(expanded(path).read_text())
            classes = tuple(ClassLabel(int(c["id"]), str(c["name"]), rgb(c["color"])) for c in table["classes"])
            return cls(str(table["name"]), classes)
        except ConfigError:
            raise
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is not a label set ({type(error).__name__}: {error})") from error

    def by_name(self, name: str) -> ClassLabel:
        """Look up the class called `name`; "" means the first. Raises RequestError (UNKNOWN_CLASS)."""
        if not name:
            return self.classes[0]
        for label in self.classes:
            if label.name == name:
                return label
        known = ", ".join(c.name for c in self.classes)
        raise RequestError(
            ErrorCode.UNKNOWN_CLASS, f"class {name!r} is not in label set {self.name!r}: expected one of {known}"
        )


GENERIC = LabelSet("generic", (ClassLabel(1, "instrument", (0, 200, 120)), ClassLabel(2, "object", (230, 160, 0))))


def rgb(color: Iterable[int]) -> tuple[int, int, int]:
    """Return a colour as three whole numbers. Raises ValueError for another number of them."""
    red, green, blue = color
    return int(red), int(green), int(blue)
