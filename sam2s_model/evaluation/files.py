"""Recordings whose images and masks are files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.evaluation.recording import ASSUMED_FPS, FIRST_STAMP_NS, VOID, Frame, Recording, Truth
from sam2s_model.image_files import masks_are_binary, read_labels, read_rgb

TruthOf = Callable[[Path], "Truth | None"]
"""The ground truth of an image file, or None where it has none. Raises SourceError when it cannot be read."""


class FileRecording(Recording):
    """Images as files, in the order given. images: their paths"""

    def __init__(
        self,
        name: str,
        data_set: str,
        images: Sequence[Path],
        truth_of: TruthOf,
        fps: float = ASSUMED_FPS,
        classes: dict[int, str] | None = None,
    ):
        """Raises SourceError when there are no images."""
        if not images:
            raise SourceError(f"recording {name} has no images: expected at least one")
        super().__init__(name, data_set, fps, classes)
        self.images, self._truth_of = list(images), truth_of
        self.length = len(self.images)

    def _frames(self) -> Iterator[Frame]:
        size = None
        for index, path in enumerate(self.images):
            image = read_rgb(path)
            if image is None:
                self._note_odd(f"frame {path.name} cannot be decoded")
                continue
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                (h, w), (height, width) = image.shape[:2], size
                self._note_odd(f"frame {path.name} is {w}x{h}, the first one is {width}x{height}")
                continue
            try:
                truth = self._fitting(self._truth_of(path), path.name, size)
            except SourceError as error:
                self._note_odd(str(error))
                truth = None
            yield Frame(index, FIRST_STAMP_NS + round(index * 1e9 / self.fps), path.stem, image, truth)


class LabelFiles:
    """Label images by the stem of their image: 0 none, 255 void, other values are objects.

    Where nine of them, evenly spread, hold nothing but 0 and 255 they are binary, and 255 is object 1.
    """

    def __init__(self, name: str, masks: Sequence[Path], images: Sequence[Path]):
        """Raises SourceError when there are masks, and none of them belongs to an image."""
        self._masks = {mask.stem: mask for mask in masks}
        if masks and not any(image.stem in self._masks for image in images):
            first = f"{masks[0].name} and {images[0].name}" if images else f"{masks[0].name}, and there are no images"
            raise SourceError(f"no mask of {name} has the name of an image: the first are {first}")

    @cached_property
    def _binary(self) -> bool:
        return masks_are_binary(list(self._masks.values()))

    def __call__(self, image: Path) -> Truth | None:
        path = self._masks.get(image.stem)
        return None if path is None else Truth.of_labels(self.labels(path))

    def labels(self, path: Path) -> np.ndarray:
        """(H, W) uint8 of a mask file. Raises SourceError."""
        labels = read_labels(path)
        return (labels == VOID).astype(np.uint8) if self._binary else labels


class ObjectFiles:
    """Binary masks, a file for each object and image: whatever is not 0 is the object; objects may overlap.

    Of an object without a file for an annotated image nothing is known.
    """

    def __init__(self, masks: Mapping[int, Sequence[Path]], stem_of: Callable[[Path], str] = lambda path: path.stem):
        """masks: object -> its files; stem_of: the stem of the image that a mask belongs to"""
        self._masks = {label: {stem_of(path): path for path in paths} for label, paths in masks.items()}

    def __call__(self, image: Path) -> Truth | None:
        found = {label: paths[image.stem] for label, paths in self._masks.items() if image.stem in paths}
        return Truth({label: read_labels(path) > 0 for label, path in found.items()}, complete=False) if found else None
