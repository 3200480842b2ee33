"""Masks in a folder that belong to frames of a video or of a bag: by frame number, or by stamp."""

from __future__ import annotations

import re
from pathlib import Path

import cv2

from sam2s_model.errors import SourceError
from sam2s_model.evaluation.files import LabelFiles
from sam2s_model.evaluation.recording import Truth
from sam2s_model.image_files import images_in

NS = 1_000_000_000


class NumberedMasks:
    """Label images whose names say where they belong: 00030.png, mask_30.png; 1700000000_250000000.png (s, ns).

    A mask of another size than its frame, but of the same proportions, is scaled to it.
    numbers: of the masks, ascending
    """

    def __init__(self, folder: str | Path):
        """Raises SourceError when it has no masks, or names without a number."""
        folder = Path(folder)
        masks = images_in(folder)
        if not masks:
            raise SourceError(f"{folder} has no masks: expected images, named by the number of their frame")
        self._paths = {_number(path): path for path in masks}
        self._read = LabelFiles(folder.name, masks, masks)
        self.numbers = sorted(self._paths)

    def truth(self, number: int, size: tuple[int, int]) -> Truth | None:
        """The truth of a frame of size (H, W), None where there is no mask. Raises SourceError."""
        path = self._paths.get(number)
        if path is None:
            return None
        labels = self._read.labels(path)
        (h, w), (height, width) = labels.shape, size
        if abs(w * height - h * width) > max(height, width):  # a side may be off by the rounding of one pixel
            raise SourceError(f"mask {path} is {w}x{h}: expected the proportions of its frame, {width}x{height}")
        if labels.shape != size:
            labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        return Truth.of_labels(labels)


def _number(path: Path) -> int:
    """The last number in a name; of two that are joined by . or _ seconds and nanoseconds."""
    found = re.search(r"(?:(\d+)[._](?=\d{9}$))?(\d+)$", path.stem)
    if not found:
        raise SourceError(f"mask {path} has no number in its name: expected the number of its frame, or its stamp in ns")
    return int(found[2]) + NS * int(found[1] or 0)
