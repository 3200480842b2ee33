"""What is evaluated: recordings whose frames come with ground truth, read one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

VOID = 255  # value of pixels that are not scored, in label images
FIRST_STAMP_NS = 1_000_000_000  # recordings without times of their own count from 1 s
ASSUMED_FPS = 25.0  # images have no rate of their own
MAX_NAMED = 20  # odd frames remembered by name


@dataclass(frozen=True)
class Truth:
    """The ground truth of a frame.

    masks: object -> (H, W) bool; masks may overlap, and may be empty
    void: (H, W) bool, pixels that are not scored, or None
    complete: whether an object without a mask here is not in the frame; otherwise nothing is known of it
    """

    masks: dict[int, np.ndarray]
    void: np.ndarray | None = None
    complete: bool = True

    @classmethod
    def of_labels(cls, labels: np.ndarray) -> Truth:
        """From a label image (H, W) uint8: 0 none, 255 void, other values are objects."""
        values = [int(v) for v in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)) if v not in (0, VOID)]
        void = labels == VOID
        return cls({v: labels == v for v in values}, void if void.any() else None)

    def mask(self, label: int, size: tuple[int, int]) -> np.ndarray | None:
        """(H, W) bool of an object, empty when it is known not to be there; None when nothing is known of it."""
        if label in self.masks:
            return self.masks[label]
        return np.zeros(size, bool) if self.complete else None


@dataclass(frozen=True)
class Frame:
    """One image of a recording. H x W pixels.

    index: 0, 1, 2, ...: position in the recording, odd frames included
    stamp_ns: ns, > 0, ascending
    name: file stem of an image, otherwise the index with six digits
    image: (H, W, 3) uint8 RGB, contiguous; truth: None where the frame is not annotated
    """

    index: int
    stamp_ns: int
    name: str
    image: np.ndarray
    truth: Truth | None


class Recording(ABC):
    """An iterable of Frames that can be iterated again. One frame is in memory at a time.

    Odd frames: an image that cannot be decoded or is not of the first image's size is left out; a mask that cannot be
    read or is not of its image's size is left out and its frame is delivered without truth. Each is counted in
    `odd_count`, images in `images_left_out` as well, and named in `odd` (the first 20 of a pass).

    name: unique in its data set; data_set: name of what it belongs to
    fps: frames per second of the recording itself
    length: number of frames, odd ones included, or None where it is not known without reading them all
    classes: object -> name of its class; empty where nothing is known, then every object is a class of its own
    notes: sentences on what a pass has found, and how it was taken
    """

    def __init__(self, name: str, data_set: str, fps: float = ASSUMED_FPS, classes: dict[int, str] | None = None):
        self.name, self.data_set, self.fps = name, data_set, fps
        self.length: int | None = None
        self.classes = dict(classes or {})
        self.odd: list[str] = []
        self.odd_count = self.images_left_out = 0
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        self.odd, self.odd_count, self.images_left_out = [], 0, 0
        return self._frames()

    @property
    def object_folders(self) -> dict[int, str]:
        """Object -> the name of its folder, where the masks of each object have one, otherwise nothing."""
        return {}

    def describe_masks(self) -> str:
        """One line: how the values of its masks are read; "" where nothing is guessed. Raises SourceError for what is no mask."""
        return ""

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """Yield the frames from the beginning."""

    def _note_odd(self, what: str, *, image: bool = False) -> None:
        """Count something that was left out; `what` is a sentence that names it; image: it is an image, or several"""
        self.odd_count += 1
        self.images_left_out += image
        if len(self.odd) < MAX_NAMED:
            self.odd.append(what)

    def _fitting(self, truth: Truth | None, name: str, size: tuple[int, int]) -> Truth | None:
        """The truth if its masks have the image's size (H, W), otherwise None; notes it when they have not."""
        masks = [*truth.masks.values(), truth.void] if truth else []
        wrong = next((m.shape for m in masks if m is not None and m.shape != size), None)
        if wrong is None:
            return truth
        (h, w), (height, width) = wrong, size
        self._note_odd(f"the mask of frame {name} is {w}x{h}, its image is {width}x{height}")
        return None
