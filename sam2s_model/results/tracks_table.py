"""A row for each object of each frame: tracks.csv, or Parquet."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sam2s_model.errors import ConfigError
from sam2s_model.tracks import State, Tracks

COLUMNS = (
    "frame", "name", "stamp_ns", "object_id", "label", "class_id", "class", "class_score", "state", "score",
    "predicted_iou", "x0", "y0", "x1", "y1", "area", "centroid_x", "centroid_y",
)  # fmt: skip
"""Boxes and centroid in px of the image, x1 and y1 exclusive; state: a name of `State`; empty: not known."""
TEXTS = ("name", "class", "state")
NUMBERS = ("class_score", "score", "predicted_iou", "centroid_x", "centroid_y")  # the others are whole numbers


def rows(frame: int, name: str, tracks: Tracks) -> Iterator[dict[str, Any]]:
    """Yield a row for each object. frame: its place in the recording; name: of the image, or of its mask."""
    for i in range(len(tracks)):
        state = int(tracks.states[i])
        yield dict(
            frame=frame,
            name=name,
            stamp_ns=tracks.stamp,
            object_id=int(tracks.object_ids[i]),
            label=int(tracks.labels[i]),
            class_id=int(tracks.class_ids[i]),
            **{"class": tracks.class_names[i]},
            class_score=_number(tracks.class_scores[i] if tracks.class_scores is not None else math.nan),
            state=State(state).name if state in list(State) else str(state),
            score=_number(tracks.scores[i]),
            predicted_iou=_number(tracks.predicted_ious[i]),
            **{edge: int(value) for edge, value in zip(("x0", "y0", "x1", "y1"), tracks.boxes[i], strict=True)},
            area=int(tracks.areas[i]),
            centroid_x=_number(tracks.centroids[i][0]),
            centroid_y=_number(tracks.centroids[i][1]),
        )


class TracksCsv:
    """A CSV file that has all frames so far at any moment, whatever ends the process. Use as a context, or close it.

    Raises OSError when it cannot be written.
    """

    def __init__(self, path: Path):
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS)
        try:
            self._writer.writeheader()
            self._file.flush()
        except OSError:
            with suppress(OSError):  # it writes once more
                self._file.close()
            raise

    def __enter__(self) -> TracksCsv:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, frame: int, name: str, tracks: Tracks) -> None:
        """Add the rows of a frame. Raises OSError."""
        self._writer.writerows(rows(frame, name, tracks))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def check_parquet() -> None:
    """Raise ConfigError where pyarrow is not there, so that it is said before hours of work."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow, which is not installed: pip install 'sam2s_ros[parquet]'") from error


def write_parquet(table: Path, path: Path) -> None:
    """Write a tracks.csv as Parquet. Raises ConfigError where pyarrow is not there."""
    check_parquet()
    import pyarrow
    from pyarrow import csv as arrow_csv, parquet

    # told, not guessed: "000012" is a name, and a column without a value has a type as well
    types = {name: pyarrow.string() if name in TEXTS else pyarrow.int64() for name in COLUMNS}
    types |= dict.fromkeys(NUMBERS, pyarrow.float64())
    parquet.write_table(arrow_csv.read_csv(table, convert_options=arrow_csv.ConvertOptions(column_types=types)), path)


def _number(value: Any) -> float | str:
    """Six digits, or nothing for NaN."""
    return "" if math.isnan(value) else round(float(value), 6)
