"""Masks in a folder that belong to frames of a video or of a bag: by frame number, or by stamp."""

from __future__ import annotations

import bisect
import re
from collections.abc import Container, Iterable
from pathlib import Path

import cv2

from sam2s_model.errors import SourceError
from sam2s_model.paths import expanded
from sam2s_model.recordings.image_files import images_in, read_labels
from sam2s_model.recordings.json_truth import JsonTruth, json_files, json_truth
from sam2s_model.recordings.mask_files import MaskFiles
from sam2s_model.recordings.recording import Truth

NS = 1_000_000_000
MAX_FRAME_NUMBER = 10**9  # a larger number is a stamp in ns


class NumberedMasks:
    """Label images whose names say where they belong: 00030.png, mask_30.png; 1700000000_250000000.png (s, ns).

    A mask of another size than its frame, but of the same proportions, is scaled to it.
    numbers: of the masks, ascending
    """

    def __init__(self, folder: str | Path, values: str = "auto", frames: int | None = None, *, by_stamp: bool = False):
        """values: how they are read, see `mask_values.decide`

        frames: of the video, where masks belong by number: if one has that number, and none has 0, they count from 1
        by_stamp: whether numbers are stamps in ns, which a bag's are
        Raises SourceError when it has no masks, names without a number, or two of one number.
        """
        folder = expanded(folder)
        self.by_stamp = by_stamp
        self._json = _json_in(folder)
        self.classes: dict[int, str] = self._json.classes if self._json else {}
        if self._json is not None:
            self._names = _by_number(folder, self._json.names)
            self.from_one = counts_from_one(self._names, frames)
            self._names = {number - self.from_one: name for number, name in self._names.items()}
            self.numbers = sorted(self._names)
            return
        masks = images_in(folder)
        if not masks:
            raise SourceError(f"{folder} has no masks: expected images, named by the number of their frame")
        self._paths = {number: folder / name for number, name in _by_number(folder, [p.name for p in masks]).items()}
        self.from_one = counts_from_one(self._paths, frames)
        self._paths = {number - self.from_one: path for number, path in self._paths.items()}
        self._files = MaskFiles(folder.name, masks, masks, values)
        self.numbers = sorted(self._paths)

    def files(self) -> list[Path]:
        """Return the files of the masks."""
        return self._json.files([]) if self._json is not None else list(self._paths.values())

    def describe(self) -> str:
        """Say in one line how numbers and values are read. Raises SourceError for what can be no masks."""
        return (self._json or self._files).describe() + "; numbered from 1: the first frame is 1" * self.from_one

    def describe_nearest(self, number: int, numbers: list[int]) -> str:
        """Say which frame is nearest, to end the sentence on a mask of no frame. numbers: of all frames, ascending"""
        at = bisect.bisect(numbers, number)
        nearest = min(numbers[max(0, at - 1) : at + 1], key=lambda other: abs(other - number), default=None)
        if nearest is None:
            return ""
        if not self.by_stamp:
            by_name = ", a mask is named by its frame's number" if number > MAX_FRAME_NUMBER else ""
            return f": the nearest is {nearest}{by_name}"
        if number < MAX_FRAME_NUMBER:
            return f": it is named by a number, and a bag's masks are by their frame's stamp in ns, such as {nearest}"
        return f": the nearest is {abs(number - nearest) * 1e-6:.6g} ms away"

    def truth(self, number: int, size: tuple[int, int]) -> Truth | None:
        """Return the truth of a frame of size (H, W), None where there is no mask. Raises SourceError."""
        if self._json is not None:
            return self._of_json(self._json, number, size)
        path = self._paths.get(number)
        if path is None:
            return None
        labels = self._files.reading.labels(read_labels(path))
        (h, w), (height, width) = labels.shape, size
        if abs(w * height - h * width) > max(height, width):  # a side may be off by the rounding of one pixel
            raise SourceError(f"mask {path} is {w}x{h}: expected the proportions of its frame, {width}x{height}")
        if labels.shape != size:
            labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        return Truth.of_labels(labels)

    def _of_json(self, json: JsonTruth, number: int, size: tuple[int, int]) -> Truth | None:
        name = self._names.get(number)
        truth = None if name is None else json.of_name(name, size)
        wrong = next((mask.shape for mask in truth.masks.values() if mask.shape != size), None) if truth else None
        if wrong:
            raise SourceError(
                f"the areas of {name} are of {wrong[1]}x{wrong[0]} px: expected its frame's {size[1]}x{size[0]}"
            )
        return truth


def _by_number(source: Path, names: Iterable[str]) -> dict[int, str]:
    """Return number -> name of what is in a source. Raises SourceError for two of one number, and as `name_number`."""
    found: dict[int, str] = {}
    for name in names:
        number = name_number(source / name)
        if found.setdefault(number, name) != name:
            raise SourceError(
                f"{source} has two masks of number {number}, {found[number]} and {name}: leave one of them"
            )
    return found


def _json_in(path: Path) -> JsonTruth | None:
    """Return the truth in a file of COCO, or in a folder that has JSON and no images; None for any other folder."""
    if path.is_file():
        return json_truth(path.stem, [path])
    if not path.is_dir() or images_in(path):
        return None
    files = json_files(path)
    return json_truth(path.name, files) if files else None


def counts_from_one(numbers: Container[int], frames: int | None) -> bool:
    """Whether masks are numbered from 1: one has the number of frames, and none is 0."""
    return frames is not None and frames in numbers and 0 not in numbers


def name_number(path: Path, what: str = "mask") -> int:
    """Return the last number in a name; of two that are joined by . or _ seconds and nanoseconds.

    what: that is called so, for the SourceError that is raised where there is none
    """
    found = re.search(r"(?:(\d+)[._](?=\d{9}$))?(\d+)$", path.stem)
    if not found:
        raise SourceError(
            f"{what} {path} has no number in its name: expected the number of its frame, or its stamp in ns"
        )
    return int(found[2]) + NS * int(found[1] or 0)
