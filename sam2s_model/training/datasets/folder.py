"""Recordings as folders: frames/ with images, masks/ with label images of the same stems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.recordings.image_files import images_in, read_rgb
from sam2s_model.recordings.mask_files import MaskFiles
from sam2s_model.recordings.sequences import frame_sequences
from sam2s_model.training.clip import VOID
from sam2s_model.training.datasets.values import Values
from sam2s_model.training.pack import TeacherPack


class FolderRecording:
    """Frames and label images as files; a frame may have no label image.

    How the values of label images are read is told by the source, see `Values`, or decided from all of them, see
    `mask_values.decide`.

    annotated: indices of the frames with label images; masks: see `MaskFiles`
    """

    def __init__(
        self, name: str, images: Sequence[Path], masks: Sequence[Path], values: Values, pack: TeacherPack | None = None
    ):
        """Raises SourceError when there are no images, or for masks that `MaskFiles` refuses."""
        if not images:
            raise SourceError(f"recording {name} has no images: expected at least one")
        self.name = name
        self._images, self._pack = list(images), pack
        self.masks = MaskFiles(name, images, masks, values.masks)
        self.classes = {value: values.row(value) for value in range(1, 2 if self.masks.reading.binary else VOID)}
        self.annotated = [i for i, image in enumerate(self._images) if image in self.masks]
        self._largest: list[float] | None = None

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
        labels = self.masks.labels(path)
        if labels is not None and labels.shape != image.shape[:2]:
            (h, w), (height, width) = labels.shape, image.shape[:2]
            raise SourceError(f"mask {self.masks.path(path)} is {w}x{h}: expected its image's {width}x{height}")
        return image, labels

    def showing(self, least: float) -> list[int]:
        """The annotated frames with an object of at least that share of the frame. All masks are read, once."""
        if self._largest is None:
            self._largest = [self._largest_object(self._images[i]) for i in self.annotated]
        return [i for i, share in zip(self.annotated, self._largest) if share > 0 and share >= least]

    def _largest_object(self, image: Path) -> float:
        try:
            labels = self.masks.labels(image)
        except SourceError:
            return 0.0  # named when its frame is drawn
        return float(np.bincount(labels.ravel(), minlength=VOID)[1:VOID].max() / labels.size)

    def parts(self, values: Values, pack: TeacherPack | None = None) -> list[FolderRecording]:
        """Its frames as recordings of one frame, with masks that are read as those of the whole: one alone does not say how."""
        values = replace(values, masks=self.masks.reading)
        masks = [[self.masks.path(image)] if image in self.masks else [] for image in self._images]
        return [FolderRecording(f"{self.name}/{i.stem}", [i], m, values, pack) for i, m in zip(self._images, masks)]

    def features(self, index: int) -> np.ndarray | None:
        """(C, h, w) float16 of a teacher's pack, or None."""
        return self._pack.features(f"{self.name}/{self._images[index].stem}") if self._pack else None


def each_by_itself(
    recordings: Sequence[FolderRecording], values: Values, pack: TeacherPack | None = None
) -> list[FolderRecording]:
    """The frames of recordings as recordings of their own, RECORDING/STEM."""
    return [part for recording in recordings for part in recording.parts(values, pack)]


def folder_recordings(path: str | Path, values: Values, pack: TeacherPack | None = None) -> list[FolderRecording]:
    """The recording in a folder with frames/, or those in its subfolders with frames/, by name. Raises SourceError."""
    return [
        FolderRecording(s.name, s.images, images_in(s.masks) if s.masks else [], values, pack)
        for s in frame_sequences(Path(path))
    ]
