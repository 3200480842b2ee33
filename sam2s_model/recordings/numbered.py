"""Masks in a folder that belong to frames: to images by their names, to a video by frame number, to a bag by stamp."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import cv2

from sam2s_model.errors import SourceError
from sam2s_model.paths import expanded
from sam2s_model.recordings.image_files import images_in, read_labels
from sam2s_model.recordings.json_truth import JsonTruth, json_files, json_truth
from sam2s_model.recordings.mask_files import MaskFiles, numbered_apart
from sam2s_model.recordings.recording import Truth

NS = 1_000_000_000
MAX_FRAME_NUMBER = 10**9  # a larger number is a stamp in ns
NUMBERED_FROM_ONE = "numbered from 1: the first frame is 1"
NUMBERED_FROM_ZERO = "numbered from 0 is assumed: the first frame is 0"

FrameCount = int | Callable[[], int | None] | None
"""How many frames a recording has, or what counts them, which is asked where they matter; None: not known."""


class NumberedMasks:
    """Label images whose names say where they belong: 00030.png, mask_30.png; 1700000000_250000000.png (s, ns).

    A mask of another size than its frame, but of the same proportions, is scaled to it.
    numbers: of the masks, ascending: indices of their frames, or stamps in ns
    by_stamp: whether they are stamps
    unused: a sentence for each mask that has the name of no image
    """

    def __init__(
        self,
        folder: str | Path,
        values: str = "auto",
        frames: FrameCount = None,
        *,
        by_stamp: bool = False,
        images: Sequence[Path] = (),
    ):
        """values: how they are read, see `mask_values.decide`

        frames: of the recording, where masks belong by number: if one has that number, and none has 0, they count
            from 1; where that cannot be told they count from 0, and it is said
        by_stamp: whether numbers are stamps in ns, as those of a bag's masks; all below its `frames` are indices
        images: of the recording, where they are files: a mask belongs to that of its name, and by number where none
            has the name of a mask
        Raises SourceError when it has no masks, names without a number, or two of one number.
        """
        self._folder = folder = expanded(folder)
        self._json = _json_in(folder)
        self.classes: dict[int, str] = self._json.classes if self._json else {}
        masks = [] if self._json else images_in(folder)
        if self._json is None and not masks:
            raise SourceError(f"{folder} has no masks: expected images, named by the number of their frame")
        names = self._json.names if self._json else [path.name for path in masks]
        self._said: list[str] = []  # how they belong, where that is no matter of course
        self.by_stamp, self._at = False, self._of_images(names, images)
        self._by_name = bool(self._at)
        if not self._by_name:
            self._at = self._of_numbers(_by_number(folder, names), frames, by_stamp=by_stamp)
        known = set(self._at.values())
        self.unused = [f"mask {name} has the name of no image" for name in names if name not in known]
        self._files = MaskFiles(folder.name, masks, masks, values)
        self.numbers = sorted(self._at)

    def _of_images(self, names: Sequence[str], images: Sequence[Path]) -> dict[int, str]:
        """Return index of an image -> its mask, by names or what stands for them; empty where nothing does."""
        if apart := numbered_apart(images, [Path(name) for name in names]):
            self._said.append(
                f"images are numbered from {apart[0]} and masks from {apart[1]}, as many of each: they belong in order"
            )
            return dict(enumerate(name for _, name in sorted(_by_number(self._folder, names).items())))
        stems = {Path(name).stem: name for name in names}
        own = [self._json.name_of(image) if self._json else stems.get(image.stem) for image in images]
        if named := {index: name for index, name in enumerate(own) if name is not None}:
            return named
        known, numbers = _image_numbers(images), _by_number(self._folder, names) if images else {}
        by_number = bool(known) and known.keys() >= numbers.keys()
        if images:
            how = "the numbers in the images' names" if by_number else "position"
            self._said.append(f"no mask has the name of an image: they belong by {how}")
        return {known[number]: name for number, name in numbers.items()} if by_number else {}

    def _of_numbers(self, numbers: dict[int, str], frames: FrameCount, *, by_stamp: bool) -> dict[int, str]:
        """Return index of a frame, or its stamp -> its mask, by their numbers."""
        from_one = counts_from_one(numbers, frames)
        if by_stamp:
            count = frames() if callable(frames) else frames
            if count is None or max(numbers, default=0) >= count + from_one:
                self.by_stamp = True
                return numbers
            self._said.append(f"by frame number, not by stamp: none is above the {count} frames")
        if 0 not in numbers:
            self._said.append(NUMBERED_FROM_ONE if from_one else NUMBERED_FROM_ZERO)
        return {number - from_one: name for number, name in numbers.items()}

    def files(self) -> list[Path]:
        """Return the files of the masks."""
        return self._json.files([]) if self._json is not None else list(self._files.paths)

    def describe(self) -> str:
        """Say in one line how numbers and values are read. Raises SourceError for what can be no masks."""
        return "; ".join([(self._json or self._files).describe(), *self._said])

    def describe_lost(self, number: int, numbers: list[int]) -> str:
        """Say in a sentence that a mask is of no frame. numbers: of all frames, ascending"""
        if self._by_name:
            return f"mask {self._at[number]} is of an image that was left out"
        return f"mask {number} belongs to no frame{self._nearest(number, numbers)}"

    def _nearest(self, number: int, numbers: list[int]) -> str:
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
        name = self._at.get(number)
        if name is None:
            return None
        if self._json is not None:
            return self._of_json(self._json, name, size)
        path = self._folder / name
        labels = self._files.reading.labels(read_labels(path))
        (h, w), (height, width) = labels.shape, size
        if abs(w * height - h * width) > max(height, width):  # a side may be off by the rounding of one pixel
            raise SourceError(f"mask {path} is {w}x{h}: expected the proportions of its frame, {width}x{height}")
        if labels.shape != size:
            labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
        return Truth.of_labels(labels)

    def _of_json(self, json: JsonTruth, name: str, size: tuple[int, int]) -> Truth | None:
        truth = json.of_name(name, size)
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


def _image_numbers(images: Sequence[Path]) -> dict[int, int]:
    """Return the number in an image's name -> its index; empty where one has none, or two have the same."""
    found = {number: index for index, image in enumerate(images) if (number := number_in(image)) is not None}
    return found if len(found) == len(images) else {}


def _json_in(path: Path) -> JsonTruth | None:
    """Return the truth in a file of COCO, or in a folder that has JSON and no images; None for any other folder."""
    if path.is_file():
        return json_truth(path.stem, [path])
    if not path.is_dir() or images_in(path):
        return None
    files = json_files(path)
    return json_truth(path.name, files) if files else None


def counts_from_one(numbers: Collection[int], frames: FrameCount) -> bool:
    """Whether what belongs to frames is numbered from 1: one has the number of frames, and none is 0."""
    if 0 in numbers:
        return False
    count = frames() if callable(frames) else frames
    return count is not None and count in numbers


def name_number(path: Path, what: str = "mask") -> int:
    """Return the last number in a name; of two that are joined by . or _ seconds and nanoseconds.

    what: that is called so, for the SourceError that is raised where there is none
    """
    found = number_in(path)
    if found is None:
        raise SourceError(
            f"{what} {path} has no number in its name: expected the number of its frame, or its stamp in ns"
        )
    return found


def number_in(path: Path) -> int | None:
    """Return the number in a name as `name_number` does, None where there is none."""
    found = re.search(r"(?:(\d+)[._](?=\d{9}$))?(\d+)$", path.stem)
    return int(found[2]) + NS * int(found[1] or 0) if found else None
