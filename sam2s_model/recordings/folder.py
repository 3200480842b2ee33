"""A folder of images, or one with frames/ and masks/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.recordings.image_files import (
    IMAGE_SUFFIXES,
    frame_names,
    images_in,
    probed_size,
    read_rgb,
    without_masks,
)
from sam2s_model.recordings.mask_files import MaskFiles
from sam2s_model.recordings.source import FIRST_STAMP_NS, Frame, FrameSource

ASSUMED_FPS = 25.0  # images have no rate of their own


class FolderSource(FrameSource):
    """Images in natural order (2 before 10), at 25 Hz.

    A folder with frames/ and masks/ gives ground truth: a mask belongs to the image of the same stem, and an image
    may have none. How the values of the masks are read is decided from all of them, see `mask_values.decide`.

    Files that are masks beside their images, by their names, are no frames. A frame is of the size that most of a few images have.

    Raises SourceError when the folder has no images, none of these few can be read, or the masks can be no masks.
    """

    kind = "folder"

    def __init__(self, spec: str, path: Path, mask_values: str = "auto"):
        super().__init__(spec)
        paired = (path / "frames").is_dir()
        folder = path / "frames" if paired else path
        self._images, beside = without_masks(images_in(folder))
        if not self._images:
            raise SourceError(f"{folder} has no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        masks = images_in(path / "masks") if paired and (path / "masks").is_dir() else []
        size = probed_size(self._images)
        if size is None:
            raise SourceError(f"{self._images[0]} is not a readable image, and it is the first one of {spec}")
        self.size = size
        self._names = frame_names(self._images)
        if beside:
            self.notes.append(
                f"{len(beside)} files are masks by their names, the first is {beside[0].name}: they are no frames"
            )
        twice = [name for name, path in zip(self._names, self._images) if name != path.stem]
        if twice:
            self.notes.append(
                f"{len(twice)} images share a name but for its suffix, such as {twice[0]} and {twice[1]}: all are frames"
            )
        self.fps = ASSUMED_FPS
        self.length = len(self._images)
        self._masks = MaskFiles(spec, self._images, masks, mask_values)
        self.has_masks = bool(masks)
        self.masks_said = self._masks.describe() if masks else ""

    def _frames(self) -> Iterator[Frame]:
        for index, (path, frame_name) in enumerate(zip(self._images, self._names)):
            image = read_rgb(path)
            if image is None:
                self._note_odd(f"frame {path.name} cannot be decoded")
                continue
            if not self._fits(path.name, image):
                continue
            stamp = FIRST_STAMP_NS + round(index * 1e9 / self.fps)
            yield Frame(index, stamp, image, self._mask_of(path), frame_name)

    def _mask_of(self, image: Path) -> np.ndarray | None:
        try:
            labels = self._masks.labels(image)
        except SourceError as error:
            self._note_odd(str(error))
            return None
        return None if labels is None else self._fitting_mask(image.name, labels)
