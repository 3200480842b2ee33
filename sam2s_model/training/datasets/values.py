"""What the values in label images mean."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_model.errors import ConfigError
from sam2s_model.recordings.mask_values import MaskReading, told_values
from sam2s_model.semantics import LabelSet
from sam2s_model.training.data_config import SourceConfig


@dataclass(frozen=True)
class Values:
    """rows: value -> row of the class table; other: row of all other values, -1 unknown

    masks: what the values become, where that is told; otherwise how it is found out, see `mask_values.decide`
    """

    rows: dict[int, int]
    other: int = -1
    masks: str | MaskReading = "auto"

    @classmethod
    def of(cls, source: SourceConfig, classes: tuple[str, ...]) -> Values:
        """From a source's label set and class name.

        Names that the table has no row for are the source's `class_name`, or unknown. Raises ConfigError for a label
        set that cannot be read, or of which no name is in the table.
        """
        other = classes.index(source.class_name) if source.class_name else -1
        masks = _told(source) or source.mask_values
        if not source.label_set:
            return cls({}, other, masks)
        labels = LabelSet.from_yaml(source.label_set).classes
        rows = {label.id: classes.index(label.name) for label in labels if label.name in classes}
        if not rows and other < 0:
            names = ", ".join(label.name for label in labels)
            raise ConfigError(
                f"{source.label_set} has the classes {names}: expected at least one of {', '.join(classes)}"
            )
        return cls(rows, other, masks)

    def row(self, value: int) -> int:
        return self.rows.get(value, self.other)


def _told(source: SourceConfig) -> MaskReading | None:
    """What the values become where the source says it value by value; nothing is guessed then."""
    if not (source.threshold or source.values or source.ignore):
        return None
    return told_values(source.threshold, source.values, source.ignore)
