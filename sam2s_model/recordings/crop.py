"""A part of every picture as a recording: half of a side-by-side stereo picture, or a rectangle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.recording import Frame, Recording, Truth

FORM = "left, right or x,y,w,h in px"


@dataclass(frozen=True)
class Crop:
    """A part of a picture. half: "left", "right", or "" for the rectangle (x, y, width, height), px."""

    half: str = ""
    rectangle: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def parse(cls, text: str) -> Crop | None:
        """Read what an option says; None for "", the whole picture. Raises ConfigError."""
        if text in ("", "left", "right"):
            return cls(text) if text else None
        numbers = tuple(int(word) for word in text.split(",")) if re.fullmatch(r"\d+(,\d+){3}", text) else ()
        if len(numbers) != 4 or not (numbers[2] and numbers[3]):
            raise ConfigError(f"crop is {text!r}: expected {FORM}, such as 0,0,1920,1080")
        return cls("", (numbers[0], numbers[1], numbers[2], numbers[3]))

    def of(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Return rows and columns of a picture (H, W). Of an odd width the middle column is in neither half.

        Raises ConfigError for a rectangle that is not inside.
        """
        height, width = size
        if self.half:
            middle = width // 2
            return slice(0, height), slice(0, middle) if self.half == "left" else slice(width - middle, width)
        x, y, w, h = self.rectangle
        if x + w > width or y + h > height:
            raise ConfigError(f"crop is {x},{y},{w},{h}: expected a rectangle inside the {width}x{height} picture")
        return slice(y, y + h), slice(x, x + w)


class CroppedRecording(Recording):
    """A recording of which every frame, with its truth, is cut. Raises ConfigError for a part that is not inside."""

    def __init__(self, inner: Recording, crop: Crop):
        super().__init__(inner.name, inner.data_set, inner.fps, inner.classes, inner.spec)
        self.kind, self.topic = inner.kind, inner.topic
        self._inner, (self._rows, self._columns) = inner, crop.of(inner.size)
        height, width = inner.size
        self._size = (self._rows.stop - self._rows.start, self._columns.stop - self._columns.start)
        if not all(self._size):
            raise SourceError(f"{inner.spec} is {width}x{height}: there is nothing of it in the {crop.half} half")
        self.length, self.label_set, self.has_masks = inner.length, inner.label_set, inner.has_masks
        self.notes, self.pass_notes = inner.notes, inner.pass_notes
        self.notes.append(
            f"of the {width}x{height} picture {crop.half or 'the part'} is taken, {self._size[1]}x{self._size[0]} at "
            f"{self._columns.start},{self._rows.start}: boxes, points and masks are in its pixels"
        )

    @property
    def object_folders(self) -> dict[int, str]:
        return self._inner.object_folders

    def _own_files(self) -> list[Path]:
        return self._inner.files()

    def count_frames(self) -> int | None:
        return self._inner.count_frames()

    def _mask_summary(self) -> str:
        return self._inner.mask_summary

    def _frames(self) -> Iterator[Frame]:
        for frame in self._inner:
            self._count()
            yield replace(frame, image=self._cut(frame.image), truth=self._truth(frame.truth))
        self._count()

    def _count(self) -> None:
        inner = self._inner
        self.odd, self.odd_count, self.images_left_out = inner.odd, inner.odd_count, inner.images_left_out
        self.missed = inner.missed

    def _cut(self, pixels: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(pixels[self._rows, self._columns])

    def _truth(self, truth: Truth | None) -> Truth | None:
        if truth is None:
            return None
        masks = {label: self._cut(mask) for label, mask in truth.masks.items()}
        void = None if truth.void is None else self._cut(truth.void)
        return Truth(masks, void, truth.complete, self._size)
