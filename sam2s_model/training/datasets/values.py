"""What the values in label images mean."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_model.errors import ConfigError
from sam2s_model.recordings.mask_values import VOID, MaskReading, told_values
from sam2s_model.recordings.recording import IndexedRecording
from sam2s_model.semantics import LabelSet
from sam2s_model.training.data_config import SourceConfig


@dataclass(frozen=True)
class ClassValues:
    """rows: value -> row of the class table; other: row of all other values, -1 unknown

    table: names of the class table's rows, for recordings that know the names of their classes
    masks: what the values become, where that is told; otherwise how it is found out, see `mask_values.decide`
    """

    rows: dict[int, int]
    other: int = -1
    masks: str | MaskReading = "auto"
    table: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: SourceConfig, classes: tuple[str, ...]) -> ClassValues:
        """Read a source's label set and class name.

        Names that the table has no row for are the source's `class_name`, or unknown. Raises ConfigError for a label
        set that cannot be read, or of which no name is in the table.
        """
        other = classes.index(source.class_name) if source.class_name else -1
        masks = _told(source) or source.mask_values
        if not source.label_set:
            return cls({}, other, masks, classes)
        labels = LabelSet.from_yaml(source.label_set).classes
        rows = {label.id: classes.index(label.name) for label in labels if label.name in classes}
        if not rows and other < 0:
            names = ", ".join(label.name for label in labels)
            raise ConfigError(
                f"{source.label_set} has the classes {names}: expected at least one of {', '.join(classes)}"
            )
        return cls(rows, other, masks, classes)

    def row(self, value: int) -> int:
        return self.rows.get(value, self.other)

    def rows_of(self, recording: IndexedRecording) -> dict[int, int]:
        """Return label -> row of the class table.

        The row is that of the label set, else that of the name which the recording has for the label's class.

        Raises SourceError where the recording's masks can be no masks.
        """
        named = {} if self.rows else {label: name for label, name in recording.classes.items() if name in self.table}
        labels = range(1, 2 if recording.binary else VOID)
        return {label: self.table.index(named[label]) if label in named else self.row(label) for label in labels}


def _told(source: SourceConfig) -> MaskReading | None:
    """Say what the values become where the source says it value by value; nothing is guessed then."""
    if not (source.threshold or source.values or source.ignore):
        return None
    return told_values(source.threshold, source.values, source.ignore)
