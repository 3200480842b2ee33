"""Images with boxes: frames/ with images, boxes/ with text files of the same stems (YOLO's lines)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.recordings.sequences import frame_sequences
from sam2s_model.training.clip import VOID
from sam2s_model.training.datasets.folder import FolderRecording
from sam2s_model.training.datasets.values import Values


@dataclass(frozen=True)
class Box:
    """value: class + 1, as a label image would say it; corners: (2, 2) float32, 0..1, x y."""

    value: int
    corners: np.ndarray


class BoxRecording(FolderRecording):
    """Frames whose objects are known by their boxes alone. A teacher can make masks of them; here they have none.

    rows: of the class table, of each value
    """

    def __init__(self, name: str, images: list[Path], boxes: dict[str, Path], values: Values):
        super().__init__(
            name, images, [], replace(values, masks="auto")
        )  # those of boxes are classes, whatever masks have
        self._boxes, self._values = boxes, values

    def boxes(self, index: int) -> list[Box]:
        """The boxes of a frame; none where it has no file. Raises SourceError for a line that is not a box."""
        path = self._boxes.get(self._images[index].stem)
        return [] if path is None else read_boxes(path)

    def parts(self, values: Values, pack=None) -> list[BoxRecording]:
        return [BoxRecording(f"{self.name}/{image.stem}", [image], self._boxes, self._values) for image in self._images]


def read_boxes(path: Path) -> list[Box]:
    """The boxes of a text file of lines "class x y width height". Raises SourceError."""
    found = []
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"boxes {path} cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            kind, *place = line.split()
            kind, (x, y, width, height) = int(kind), (float(part) for part in place)
        except ValueError as error:
            raise SourceError(f"line {number} of {path} is {line!r}: expected class, x, y, width, height") from error
        corners = np.array([[x - width / 2, y - height / 2], [x + width / 2, y + height / 2]], np.float32).clip(0, 1)
        if not 0 <= kind < VOID - 1 or not (corners[1] > corners[0]).all():
            raise SourceError(
                f"line {number} of {path} is {line!r}: expected a class of 0 to {VOID - 2} and a box in the image"
            )
        found.append(Box(kind + 1, corners))
    return found


def box_recordings(path: str | Path, values: Values) -> list[BoxRecording]:
    """The recording in a folder with frames/ and boxes/, or those in its subfolders. Raises SourceError without any boxes."""
    found = []
    for sequence in frame_sequences(Path(path)):
        folder = sequence.images[0].parents[1] / "boxes" if sequence.images else Path(path)
        boxes = {file.stem: file for file in sorted(folder.glob("*.txt"))}
        if not any(image.stem in boxes for image in sequence.images):
            raise SourceError(
                f"{folder} has no boxes of an image beside it: expected text files named as the images are"
            )
        found.append(BoxRecording(sequence.name, list(sequence.images), boxes, values))
    return found
