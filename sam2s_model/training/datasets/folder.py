"""Recordings as folders: frames/ with images, masks/ with label images of the same stems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.image_files import images_in, masks_are_binary, read_labels, read_rgb
from sam2s_model.sequences import frame_sequences
from sam2s_model.training.clip import VOID
from sam2s_model.training.datasets.values import Values
from sam2s_model.training.pack import TeacherPack


class FolderRecording:
    """Frames and label images as files; a frame may have no label image.

    Label images are PNGs (grey or palette): 0 none, 255 void, other values objects; when they hold nothing but 0 and
    255 they are binary, and 255 is object 1.

    annotated: indices of the frames with label images
    """

    def __init__(
        self, name: str, images: Sequence[Path], masks: Sequence[Path], values: Values, pack: TeacherPack | None = None
    ):
        """Raises SourceError when there are no images, or masks of which none belongs to an image."""
        if not images:
            raise SourceError(f"recording {name} has no images: expected at least one")
        self.name = name
        self._images, self._pack = list(images), pack
        self._masks = {mask.stem: mask for mask in masks}
        if masks and not any(image.stem in self._masks for image in images):
            first = f"{masks[0].name} and {images[0].name}"
            raise SourceError(f"no mask of {name} has the name of an image: the first are {first}")
        self._binary = masks_are_binary(list(masks))
        self.classes = {value: values.row(value) for value in range(1, 2 if self._binary else VOID)}

        self.annotated = [i for i, image in enumerate(self._images) if image.stem in self._masks]

    def __len__(self) -> int:
        return len(self._images)

    @property
    def has_masks(self) -> bool:
        return bool(self.annotated)

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Image (H, W, 3) uint8 RGB and labels (H, W) uint8, or None. Raises SourceError."""
        path = self._images[index]
        image = read_rgb(path)
        if image is None:
            raise SourceError(f"{path} is not a readable image")
        if path.stem not in self._masks:
            return image, None
        labels = read_labels(self._masks[path.stem])
        if labels.shape != image.shape[:2]:
            (h, w), (height, width) = labels.shape, image.shape[:2]
            raise SourceError(f"mask {self._masks[path.stem]} is {w}x{h}: expected its image's {width}x{height}")
        return image, (labels == VOID).astype(np.uint8) if self._binary else labels

    def features(self, index: int) -> np.ndarray | None:
        """(C, h, w) float16 of a teacher's pack, or None."""
        return self._pack.features(f"{self.name}/{self._images[index].stem}") if self._pack else None


def folder_recordings(path: str | Path, values: Values, pack: TeacherPack | None = None) -> list[FolderRecording]:
    """The recording in a folder with frames/, or those in its subfolders with frames/, by name. Raises SourceError."""
    return [
        FolderRecording(s.name, s.images, images_in(s.masks) if s.masks else [], values, pack)
        for s in frame_sequences(Path(path))
    ]
