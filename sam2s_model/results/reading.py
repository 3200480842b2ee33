"""What was tracked, read back: from a bag of TrackedMasks, a recorder's folder, or a folder of `sam2s track`."""

from __future__ import annotations

import csv
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import Reader

from sam2s_model.colours import spread_colour
from sam2s_model.errors import SourceError
from sam2s_model.paths import expanded
from sam2s_model.recordings.bag_help import what_helps
from sam2s_model.recordings.image_files import images_in, read_labels
from sam2s_model.recordings.open import BAG_SUFFIXES
from sam2s_model.recordings.tracked_masks import TRACKED_MASKS, types_of
from sam2s_model.recordings.tracked_message import tracks_of_message
from sam2s_model.semantics import GENERIC, ClassLabel, LabelSet
from sam2s_model.tracks import State, Tracks

EXPECTED = "a bag with TrackedMasks (masks.mcap), a folder with one, or a folder of `sam2s track`"


@dataclass(frozen=True)
class TrackedFrame:
    """A frame that was tracked. index: its place in the recording, or of the message in the bag; name: of its files"""

    index: int
    name: str
    tracks: Tracks


class TrackedRecording(ABC):
    """Frames that were tracked, which can be iterated again.

    label_set: the classes; images: what they were tracked in, as it was opened, "" where that is not known
    images_crop: the part of its pictures, see `Crop`, "" for all of it
    keys: stamp or name of each frame, in order; of a name the mask may be one that cannot be read
    by_stamp: whether images belong to frames by stamp; otherwise by name
    odd: sentences on what was left out in the last pass
    """

    by_stamp = True

    def __init__(self, spec: str):
        self.spec = spec
        self.label_set: LabelSet = GENERIC
        self.images = self.images_topic = self.images_crop = ""
        self.keys: list[int | str] = []
        self.odd: list[str] = []

    def __iter__(self) -> Iterator[TrackedFrame]:
        self.odd = []
        return self._frames()

    @abstractmethod
    def _frames(self) -> Iterator[TrackedFrame]:
        """Yield the frames from the beginning."""


def open_tracked(spec: str | Path, topic: str = "") -> TrackedRecording:
    """Open what was tracked. topic: of a bag with several of TrackedMasks

    Raises SourceError, one sentence that names the path and what would be right.
    """
    path = expanded(spec)
    if not path.exists():
        raise SourceError(f"{spec} does not exist: expected {EXPECTED}")
    if path.is_dir() and (path / "tracks.csv").is_file() and (path / "masks").is_dir():
        return TrackedFolder(str(spec), path)
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        path = path / "masks.mcap"
    if not path.exists() or (path.is_file() and path.suffix not in BAG_SUFFIXES):
        raise SourceError(f"{spec} has nothing that was tracked: expected {EXPECTED}")
    return TrackedBag(str(spec), path, topic)


class TrackedBag(TrackedRecording):
    """A topic of TrackedMasks in a rosbag2. Raises SourceError when it cannot be read, or has no such topic."""

    def __init__(self, spec: str, path: Path, topic: str = ""):
        super().__init__(spec)
        self._path, self._topic = path, topic
        names: dict[int, str] = {}
        for frame in self:  # messages do not say which classes there may be: those that there were
            names.update(zip(frame.tracks.class_ids.tolist(), frame.tracks.class_names, strict=True))
            self.keys.append(frame.tracks.stamp)
        if names:
            self.label_set = _label_set(names)

    def _frames(self) -> Iterator[TrackedFrame]:
        reader = self._opened()
        try:
            store, read = self._types(reader), 0
            messages = reader.messages([c for c in reader.connections if c.topic == self._chosen(reader)])
            for index in count():
                name = f"{index:06d}"
                try:
                    connection, _, data = next(messages)
                except StopIteration:
                    break
                except Exception as error:  # as below: of a file that is cut or damaged
                    if not read:
                        raise self._unreadable(error) from error
                    self.odd.append(f"the bag cannot be read any further ({type(error).__name__}: {error})")
                    break
                try:
                    tracks = tracks_of_message(store.deserialize_cdr(data, connection.msgtype))
                except Exception as error:  # of a message alone, which may be any bytes
                    why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                    self.odd.append(f"message {name} is malformed ({why})")
                    continue
                read += 1
                yield TrackedFrame(index, name, tracks)
            if self.odd and not read:
                raise SourceError(f"{self.spec} has no message that can be read: {self.odd[0]}")
        finally:
            reader.close()

    def _opened(self) -> Reader:
        try:
            reader = Reader(self._path)
            reader.open()
        except Exception as error:  # a damaged file ends in whatever its bytes lead to
            raise self._unreadable(error) from error
        return reader

    def _types(self, reader: Reader) -> Any:
        """Return the types of the bag's messages. Raises SourceError."""
        try:
            return types_of(reader)
        except SourceError:
            raise
        except Exception as error:  # its definitions are text in the file
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> SourceError:
        help_ = what_helps(self._path)
        reason = (str(error) or type(error).__name__).rstrip(".")
        return SourceError(f"{self.spec} is not a readable rosbag2 recording ({reason})" + f": {help_}" * bool(help_))

    def _chosen(self, reader: Reader) -> str:
        found = sorted({c.topic for c in reader.connections if c.msgtype == TRACKED_MASKS})
        if self._topic:
            for name in (self._topic, "/" + self._topic):
                if name in found:
                    return name
        if not found:
            others = ", ".join(sorted({c.topic for c in reader.connections})) or "none"
            raise SourceError(f"{self.spec} has no topic of TrackedMasks: its topics are: {others}")
        if self._topic or len(found) > 1:
            raise SourceError(f"{self.spec} has TrackedMasks on {', '.join(found)}: give one of them as --mask-topic")
        return found[0]


class TrackedFolder(TrackedRecording):
    """A folder of `sam2s track`: tracks.csv and masks/. Raises SourceError when it cannot be read.

    A frame without an object has no row in the table: its stamp is 0, and its index that after the frame before it.
    """

    by_stamp = False

    def __init__(self, spec: str, path: Path):
        super().__init__(spec)
        self._path = path
        self._rows, self._cut = _rows_by_name(path / "tracks.csv")
        self._masks = images_in(path / "masks")
        self.keys += [mask.stem for mask in self._masks]
        summary = _summary(path / "summary.json")
        source = summary.get("source", {})
        self.images, self.images_topic = str(source.get("spec", "")), str(source.get("topic", ""))
        self.images_crop = str(source.get("crop", ""))
        classes = summary.get("label_set", {}).get("classes", [])
        if classes:
            labels = tuple(ClassLabel(int(c["id"]), str(c["name"]), _rgb(c["color"])) for c in classes)
            self.label_set = LabelSet(str(summary["label_set"]["name"]), labels)
        else:  # the run was killed
            names = {int(row["class_id"]): row["class"] for rows in self._rows.values() for row in rows}
            self.label_set = _label_set(names) if names else GENERIC

    def _frames(self) -> Iterator[TrackedFrame]:
        index = -1
        self.odd += self._cut
        for path in self._masks:
            rows = self._rows.get(path.stem, [])
            index = int(rows[0]["frame"]) if rows else index + 1
            try:
                yield TrackedFrame(index, path.stem, _tracks(rows, read_labels(path)))
            except (SourceError, ValueError) as error:
                self.odd.append(f"frame {path.stem} cannot be read ({error})")


def _rows_by_name(path: Path) -> tuple[dict[str, list[Mapping[str, str]]], list[str]]:
    """Read the rows of each frame, and a sentence for each row that is left out. Raises SourceError."""
    found: dict[str, list[Mapping[str, str]]] = {}
    odd = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            for row in table:
                if why := _why_odd(row):
                    odd.append(f"row {table.line_num} of {path.name} is left out: {why}")
                else:
                    found.setdefault(row["name"], []).append(row)
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise SourceError(f"{path} is not a table of `sam2s track` ({type(error).__name__}: {error})") from error
    return found, odd


def _why_odd(row: Mapping[str, str | None]) -> str:
    """Say what is wrong with a row, "" where it is whole. Raises KeyError where the table lacks a column."""
    lacking = [column for column in row if row[column] is None]
    if lacking:
        return f"it was cut, and lacks {', '.join(lacking)}"
    for column in ("frame", "class_id"):
        if not str(row[column]).isdecimal():
            return f"its {column} is {row[column]!r}, and no number"
    return ""


def _summary(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tracks(rows: list[Mapping[str, str]], label_map: np.ndarray) -> Tracks:
    """Make the tracks of a frame again. Raises ValueError for rows that are none."""
    if not rows:
        return Tracks.empty(0, *label_map.shape)
    try:
        rows = sorted(rows, key=lambda row: int(row["object_id"]))
        edges = [[int(row[edge]) for edge in ("x0", "y0", "x1", "y1")] for row in rows]
        return Tracks(
            stamp=int(rows[0]["stamp_ns"]),
            label_map=label_map,
            object_ids=np.array([int(row["object_id"]) for row in rows], np.int64),
            labels=np.array([int(row["label"]) for row in rows], np.uint8),
            class_ids=np.array([int(row["class_id"]) for row in rows], np.uint8),
            class_names=tuple(row["class"] for row in rows),
            states=np.array([State[row["state"]] for row in rows], np.uint8),
            scores=_numbers(rows, "score"),
            predicted_ious=_numbers(rows, "predicted_iou"),
            boxes=np.array(edges, np.int32),
            areas=np.array([int(row["area"]) for row in rows], np.int64),
            centroids=np.stack([_numbers(rows, "centroid_x"), _numbers(rows, "centroid_y")], axis=1),
            class_scores=_numbers(rows, "class_score"),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"its rows lack {error}") from error


def _numbers(rows: list[Mapping[str, str]], column: str) -> np.ndarray:
    """(N,) float32; what is empty is NaN."""
    return np.array([float(row[column]) if row[column] else math.nan for row in rows], np.float32)


def _label_set(names: Mapping[int, str]) -> LabelSet:
    """Make a label set of class ids and names, each with a hue of its own; a name that repeats gets its id."""
    labels: list[ClassLabel] = []
    for number, (class_id, name) in enumerate(sorted(names.items())):
        taken = not name or name in {label.name for label in labels}
        labels.append(ClassLabel(class_id, f"{name} {class_id}".strip() if taken else name, spread_colour(number)))
    return LabelSet("recorded", tuple(labels))


def _rgb(color: list[int]) -> tuple[int, int, int]:
    red, green, blue = color
    return int(red), int(green), int(blue)
