"""Image and mask files as arrays, for replay and for training alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from sam2s_model.errors import SourceError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PROBED_MASKS = 9  # masks looked at to find out whether they are binary
PNG_COLOUR_TYPE_AT, PNG_PALETTE = 25, 3


def read_rgb(path: Path) -> np.ndarray | None:
    """(H, W, 3) uint8 RGB, or None when the file is not an image. Alpha is dropped, 16 bits become 8."""
    data = _bytes_of(path)
    if data is None:
        return None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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


def masks_are_binary(paths: Sequence[Path]) -> bool:
    """Whether nine of some mask files, evenly spread, hold nothing but 0 and 255: then 255 is an object, not void."""
    seen = False
    for at in sorted({round(i) for i in np.linspace(0, len(paths) - 1, PROBED_MASKS)}) if paths else ():
        try:
            values = np.unique(read_labels(paths[at]))
        except SourceError:
            continue  # named when its frame is read
        if not np.isin(values, (0, 255)).all():
            return False
        seen = seen or 255 in values
    return seen


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, in natural order. Raises SourceError when it cannot be read."""
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{folder} cannot be read ({error.strerror})") from error
    return sorted(found, key=lambda p: natural_key(p.name))


def natural_key(name: str) -> list:
    """Sort key in which frame2 comes before frame10."""
    parts = re.split("([0-9]+)", name)  # text, digits, text, ...
    return [(1, 0, part.lower()) if at % 2 == 0 else (0, int(part), "") for at, part in enumerate(parts) if part]


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
