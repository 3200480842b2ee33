"""What every source of frames offers, and the rule for frames that do not fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FIRST_STAMP_NS = 1_000_000_000  # sources without times of their own count from 1 s: stamp 0 means "no stamp" in ROS
MAX_NAMED = 20  # odd frames remembered by name


@dataclass(frozen=True)
class Frame:
    """One image of a source. H x W pixels.

    index: 0, 1, 2, ...: position in the source, odd frames included, so that it names the same image on every pass
    stamp_ns: ns, > 0, ascending; the header stamp of a bag, otherwise the time in the source, counted from 1 s
    image: (H, W, 3) uint8 RGB, contiguous
    mask: (H, W) uint8 ground-truth labels (0 none, 255 outside the endoscope's field), or None
    name: file stem of a folder's image, otherwise the index with six digits
    """

    index: int
    stamp_ns: int
    image: np.ndarray
    mask: np.ndarray | None
    name: str


class FrameSource(ABC):
    """An iterable of Frames that can be iterated again. It keeps one frame at a time.

    Odd frames: an image that cannot be decoded, is not of the source's size, or whose stamp is not after the
    one before, is left out; a mask that cannot be read or is not of its image's size is left out and its frame is
    delivered without one. Each is counted in `odd_count` and named in `odd` (the first 20 of a pass).

    kind: "video", "folder", "bag" or "scene"
    spec: what was opened, as it was written
    fps: frames per second of the source itself, > 0
    size: (H, W) of every frame
    length: number of frames if it is known without reading them all, otherwise None (odd frames included)
    has_masks: whether frames may come with ground truth; masks_said: one line on how it is read, "" where nothing is guessed
    notes: sentences on what was found when it was opened, and how it is taken
    label_set, class_names: name of the table in config/labels that its classes are from, and the class of each
        ground-truth label; empty when the source has no classes
    """

    kind: str

    def __init__(self, spec: str):
        self.spec = spec
        self.fps = 0.0
        self.size = (0, 0)
        self.length: int | None = None
        self.has_masks = False
        self.masks_said = ""
        self.notes: list[str] = []
        self.label_set = ""
        self.class_names: dict[int, str] = {}
        self.odd: list[str] = []
        self.odd_count = 0

    def __iter__(self) -> Iterator[Frame]:
        self.odd, self.odd_count = [], 0
        return self._frames()

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """Yield the frames from the beginning."""

    def describe(self) -> str:
        """One line for a log: kind, size, rate and length."""
        height, width = self.size
        length = "unknown length" if self.length is None else f"{self.length} frames"
        masks = ", with masks" + f" ({self.masks_said})" * bool(self.masks_said) if self.has_masks else ""
        return f"{self.kind} {self.spec}: {width}x{height}, {self.fps:g} Hz, {length}{masks}" + "".join(
            f"; {note}" for note in self.notes
        )

    def _note_odd(self, what: str) -> None:
        """Count something that was left out; `what` is a sentence that names it."""
        self.odd_count += 1
        if len(self.odd) < MAX_NAMED:
            self.odd.append(what)

    def _fits(self, name: str, image: np.ndarray) -> bool:
        """Whether an image has the source's size; notes it when it has not."""
        if image.shape[:2] == self.size:
            return True
        (h, w), (height, width) = image.shape[:2], self.size
        self._note_odd(f"frame {name} is {w}x{h}, the first one is {width}x{height}")
        return False

    def _fitting_mask(self, name: str, mask: np.ndarray) -> np.ndarray | None:
        """The mask if it has the source's size, otherwise None; notes it when it has not."""
        if mask.shape == self.size:
            return mask
        (h, w), (height, width) = mask.shape, self.size
        self._note_odd(f"the mask of frame {name} is {w}x{h}, its image is {width}x{height}")
        return None
