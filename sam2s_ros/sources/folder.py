"""A folder of images, or one with frames/ and masks/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.image_files import IMAGE_SUFFIXES, images_in, read_rgb
from sam2s_model.mask_files import MaskFiles
from sam2s_ros.sources.base import FIRST_STAMP_NS, Frame, FrameSource

ASSUMED_FPS = 25.0  # images have no rate of their own


class FolderSource(FrameSource):
    """Images in natural order (2 before 10), at 25 Hz.

    A folder with frames/ and masks/ gives ground truth: a mask belongs to the image of the same stem, and an image
    may have none. How the values of the masks are read is decided from all of them, see `mask_values.decide`.

    Raises SourceError when the folder has no images, the first one cannot be read, or the masks can be no masks.
    """

    kind = "folder"

    def __init__(self, spec: str, path: Path, mask_values: str = "auto"):
        super().__init__(spec)
        paired = (path / "frames").is_dir()
        folder = path / "frames" if paired else path
        self._images = images_in(folder)
        if not self._images:
            raise SourceError(f"{folder} has no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        masks = images_in(path / "masks") if paired and (path / "masks").is_dir() else []
        first = read_rgb(self._images[0])
        if first is None:
            raise SourceError(f"{self._images[0]} is not a readable image, and it is the first one of {spec}")
        self.size = first.shape[:2]
        self.fps = ASSUMED_FPS
        self.length = len(self._images)
        self._masks = MaskFiles(spec, self._images, masks, mask_values)
        self.has_masks = bool(masks)
        self.masks_said = self._masks.describe() if masks else ""

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
        try:
            labels = self._masks.labels(image)
        except SourceError as error:
            self._note_odd(str(error))
            return None
        return None if labels is None else self._fitting_mask(image.name, labels)
