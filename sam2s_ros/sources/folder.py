"""A folder of images, or one with frames/ and masks/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from sam2s_model.errors import SourceError
from sam2s_ros.sources.base import FIRST_STAMP_NS, IMAGE_SUFFIXES, Frame, FrameSource

ASSUMED_FPS = 25.0  # images have no rate of their own
PROBED_MASKS = 9  # masks looked at to find out whether they are binary
PNG_COLOUR_TYPE_AT, PNG_PALETTE = 25, 3


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
        self._images = _images_in(folder)
        if not self._images:
            raise SourceError(f"{folder} has no images: expected files ending in {', '.join(IMAGE_SUFFIXES)}")
        masks = _images_in(path / "masks") if paired and (path / "masks").is_dir() else []
        self._masks = {mask.stem: mask for mask in masks}
        first = _read_rgb(self._images[0])
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
        self._binary = self.has_masks and self._masks_are_binary()

    def _frames(self) -> Iterator[Frame]:
        for index, path in enumerate(self._images):
            image = _read_rgb(path)
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

    def _masks_are_binary(self) -> bool:
        paths = list(self._masks.values())
        seen = False
        for at in sorted({round(i) for i in np.linspace(0, len(paths) - 1, PROBED_MASKS)}):
            try:
                values = np.unique(read_labels(paths[at]))
            except SourceError:
                continue  # named when its frame is read
            if not np.isin(values, (0, 255)).all():
                return False
            seen = seen or 255 in values
        return seen


def read_labels(path: Path) -> np.ndarray:
    """(H, W) uint8: the values of a mask file; of a palette PNG the indices, of a lossy file 0 and 1.

    Raises SourceError when the file cannot be read or is in colour.
    """
    if _is_palette_png(path):
        return _palette_indices(path)
    data = _bytes_of(path)
    values = None if data is None else cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise SourceError(f"mask {path} cannot be decoded")
    if values.dtype != np.uint8:
        raise SourceError(f"mask {path} is {values.dtype}: expected 8 bits a pixel")
    if values.ndim == 3:
        grey = values[..., 0]
        if any((values[..., c] != grey).any() for c in range(1, min(3, values.shape[2]))):
            raise SourceError(f"mask {path} is in colour: expected one channel of labels, or a palette PNG")
        values = grey
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return (values >= 128).astype(np.uint8)
    return np.ascontiguousarray(values)


def natural_key(name: str) -> list:
    """Sort key in which frame2 comes before frame10."""
    parts = re.split("([0-9]+)", name)  # text, digits, text, ...
    return [(1, 0, part.lower()) if at % 2 == 0 else (0, int(part), "") for at, part in enumerate(parts) if part]


def _images_in(folder: Path) -> list[Path]:
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{folder} cannot be read ({error.strerror})") from error
    return sorted(found, key=lambda p: natural_key(p.name))


def _read_rgb(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB, or None when the file is not an image. Alpha is dropped, 16 bits become 8."""
    data = _bytes_of(path)
    if data is None:
        return None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _bytes_of(path: Path) -> np.ndarray | None:
    """The file's bytes, or None when it is empty or cannot be read. OpenCV's own reader prints to stderr instead."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    return data if data.size else None


def _is_palette_png(path: Path) -> bool:
    if path.suffix.lower() != ".png":
        return False
    try:
        with path.open("rb") as file:
            header = file.read(PNG_COLOUR_TYPE_AT + 1)
    except OSError:
        return False
    return len(header) > PNG_COLOUR_TYPE_AT and header[PNG_COLOUR_TYPE_AT] == PNG_PALETTE


def _palette_indices(path: Path) -> np.ndarray:
    """OpenCV turns a palette into colours; FFmpeg keeps the indices, which are the labels."""
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            indices, _ = frame.to_ndarray(format="pal8")
    except (av.error.FFmpegError, StopIteration, ValueError) as error:
        raise SourceError(f"mask {path} cannot be decoded ({error})") from error
    return np.ascontiguousarray(indices)
