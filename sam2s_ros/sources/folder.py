"""A folder of images, or one with frames/ and masks/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.image_files import IMAGE_SUFFIXES, images_in, masks_are_binary, read_labels, read_rgb
from sam2s_ros.sources.base import FIRST_STAMP_NS, Frame, FrameSource

ASSUMED_FPS = 25.0  # images have no rate of their own


class FolderSource(FrameSource):
    """Images in natural order (2 before 10), at 25 Hz.

    A folder with frames/ and masks/ gives ground truth: a mask belongs to the image of the same stem, and an image
    may have none. Masks are PNGs of labels (grey or palette); when nine of them, evenly spread, hold nothing but
    0 and 255 they are binary, and 255 becomes label 1. In lossy masks (jpg) everything from 128 on is label 1.

    Raises SourceError when the folder has no images, or the first one cannot be read.
    """

    kind = "folder"

    def __init__(self, spec: str, path: Path):
        super().__init__(spec)
        paired = (path / "frames").is_dir()
        folder = path / "frames" if paired else path
        self._images = images_in(folder)
        if not self._images:
            raise SourceError(f"{folder} has no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        masks = images_in(path / "masks") if paired and (path / "masks").is_dir() else []
        self._masks = {mask.stem: mask for mask in masks}
        first = read_rgb(self._images[0])
        if first is None:
            raise SourceError(f"{self._images[0]} is not a readable image, and it is the first one of {spec}")
        self.size = first.shape[:2]
        self.fps = ASSUMED_FPS
        self.length = len(self._images)
        self.has_masks = any(image.stem in self._masks for image in self._images)
        if masks and not self.has_masks:
            raise SourceError(
                f"no mask in {path / 'masks'} has the name of an image: "
                f"the first are {masks[0].name} and {self._images[0].name}"
            )
        self._binary = self.has_masks and masks_are_binary(list(self._masks.values()))

    def _frames(self) -> Iterator[Frame]:
        for index, path in enumerate(self._images):
            image = read_rgb(path)
            if image is None:
                self._note_odd(f"frame {path.name} cannot be decoded")
                continue
            if not self._fits(path.name, image):
                continue
            stamp = FIRST_STAMP_NS + round(index * 1e9 / self.fps)
            yield Frame(index, stamp, image, self._mask_of(path), path.stem)

    def _mask_of(self, image: Path) -> np.ndarray | None:
        path = self._masks.get(image.stem)
        if path is None:
            return None
        try:
            values = read_labels(path)
        except SourceError as error:
            self._note_odd(str(error))
            return None
        values = (values == 255).astype(np.uint8) if self._binary else values
        return self._fitting_mask(image.name, values)
