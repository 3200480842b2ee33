"""Images with boxes: frames/ with images, boxes/ with text files of the same stems (YOLO's lines)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.mask_values import VOID
from sam2s_model.recordings.sequences import frame_sequences
from sam2s_model.training.datasets.recording import TrainingRecording
from sam2s_model.training.datasets.values import ClassValues


@dataclass(frozen=True)
class Box:
    """value: class + 1, as a label image would say it; corners: (2, 2) float32, 0..1, x y; score: of a detector"""

    value: int
    corners: np.ndarray
    score: float = 1.0


class BoxRecording(TrainingRecording):
    """Frames whose objects are known by their boxes alone. A teacher can make masks of them; here they have none.

    classes: of the class table, of each value; box_files: by the stems of images
    """

    recording: FileRecording

    def __init__(
        self, recording: FileRecording, boxes: Mapping[str, Path], classes: Mapping[int, int], only: int | None = None
    ):
        """boxes: becomes `box_files`"""
        super().__init__(recording, classes, only=only)
        self.box_files = boxes

    def boxes(self, index: int) -> list[Box]:
        """Return the boxes of a frame; none where it has no file. Raises SourceError for a line that is not a box."""
        path = self.box_files.get(self.recording.stem(self._frames[index]))
        return [] if path is None else read_boxes(path)

    def parts(self) -> list[TrainingRecording]:
        return [BoxRecording(self.recording, self.box_files, self.classes, index) for index in self._frames]


def read_boxes(path: Path) -> list[Box]:
    """Return the boxes of a text file of lines "class x y width height [score]". Raises SourceError."""
    found = []
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"boxes {path} cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            first, *place = line.split()
            kind, (x, y, width, height, *score) = int(first), map(float, place)
            (certain,) = score or [1.0]
            if not np.isfinite((x, y, width, height, certain)).all():  # cut to the image it would be a box
                raise ValueError("a number is not finite")
        except ValueError as error:
            raise SourceError(
                f"line {number} of {path} is {line!r}: expected class, x, y, width, height, all finite"
            ) from error
        corners = np.array([[x - width / 2, y - height / 2], [x + width / 2, y + height / 2]], np.float32).clip(0, 1)
        if not 0 <= kind < VOID - 1 or not (corners[1] > corners[0]).all():
            raise SourceError(
                f"line {number} of {path} is {line!r}: expected a class of 0 to {VOID - 2} and a box in the image"
            )
        found.append(Box(kind + 1, corners, certain))
    return found


def box_recordings(path: Path, values: ClassValues) -> list[TrainingRecording]:
    """Open a folder with frames/ and boxes/, or its subfolders. Raises SourceError without any boxes."""
    found: list[TrainingRecording] = []
    for sequence in frame_sequences(path):
        folder = sequence.images[0].parents[1] / "boxes" if sequence.images else path
        boxes = {file.stem: file for file in sorted(folder.glob("*.txt"))}
        if not any(image.stem in boxes for image in sequence.images):
            raise SourceError(
                f"{folder} has no boxes of an image beside it: expected text files named as the images are"
            )
        recording = FileRecording(sequence.name, path.name, sequence.images, None)
        found.append(BoxRecording(recording, boxes, values.rows_of(recording)))
    return found
