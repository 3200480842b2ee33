"""What the values in label images mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam2s_model.errors import ConfigError
from sam2s_model.semantics import LabelSet
from sam2s_model.training.clip import VOID
from sam2s_model.training.data_config import SourceConfig


@dataclass(frozen=True)
class Values:
    """rows: value -> row of the class table; other: row of all other values, -1 unknown

    meaning: 256 labels, what each value becomes: 0 none, 1..254 an object, 255 not scored; None: the values are the labels,
        unless they are 0 and 255 alone, where 255 is object 1
    """

    rows: dict[int, int]
    other: int = -1
    meaning: np.ndarray | None = None

    @classmethod
    def of(cls, source: SourceConfig, classes: tuple[str, ...]) -> Values:
        """From a source's label set and class name.

        Names that the table has no row for are the source's `class_name`, or unknown. Raises ConfigError for a label
        set that cannot be read, or of which no name is in the table.
        """
        other = classes.index(source.class_name) if source.class_name else -1
        meaning = _meaning(source)
        if not source.label_set:
            return cls({}, other, meaning)
        labels = LabelSet.from_yaml(source.label_set).classes
        rows = {label.id: classes.index(label.name) for label in labels if label.name in classes}
        if not rows and other < 0:
            names = ", ".join(label.name for label in labels)
            raise ConfigError(f"{source.label_set} has the classes {names}: expected at least one of {', '.join(classes)}")
        return cls(rows, other, meaning)

    def row(self, value: int) -> int:
        return self.rows.get(value, self.other)


def _meaning(source: SourceConfig) -> np.ndarray | None:
    if not (source.threshold or source.values or source.ignore):
        return None
    values = np.arange(256, dtype=np.uint8)
    meaning = values.copy()
    if source.threshold:
        meaning = (values >= source.threshold).astype(np.uint8)
    if source.values:
        meaning[~np.isin(values, source.values)] = 0
    meaning[list(source.ignore)] = VOID
    return meaning
