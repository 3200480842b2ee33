"""Recordings whose frames may come with ground truth, for replay, tracking, evaluation and training alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.paths import readable
from sam2s_model.recordings.mask_values import VOID

if TYPE_CHECKING:  # it makes a Truth
    from sam2s_model.recordings.numbered import NumberedMasks

FIRST_STAMP_NS = 1_000_000_000  # recordings without times of their own count from 1 s: stamp 0 means "no stamp" in ROS
ASSUMED_FPS = 25.0  # of images, which have no rate of their own, and of a video that names none
MAX_NAMED = 20  # odd frames remembered by name


class Truth:
    """The ground truth of a frame: masks of objects, or a label image.

    One is made of the other when it is asked for, since a replay only hands labels on.

    masks: object -> (H, W) bool; masks may overlap, and may be empty
    void: (H, W) bool, pixels that are not scored, or None
    complete: whether an object without a mask here is not in the frame; otherwise nothing is known of it
    """

    _given: tuple[dict[int, np.ndarray], np.ndarray | None] | None
    _labels: np.ndarray | None

    def __init__(
        self,
        masks: Mapping[int, np.ndarray],
        void: np.ndarray | None = None,
        complete: bool = True,
        size: tuple[int, ...] | None = None,
    ):
        """size: (H, W), where there may be neither a mask nor a void to tell it"""
        self._given, self._labels, self._size, self.complete = (dict(masks), void), None, size, complete

    @classmethod
    def of_labels(cls, labels: np.ndarray) -> Truth:
        """Make it from a label image (H, W) uint8: 0 none, 255 void, other values are objects."""
        truth = cls({})
        truth._given, truth._labels = None, labels
        return truth

    @property
    def masks(self) -> dict[int, np.ndarray]:
        return self._cut[0]

    @property
    def void(self) -> np.ndarray | None:
        return self._cut[1]

    @cached_property
    def _cut(self) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
        if self._given is not None:
            return self._given
        labels = self.labels
        counts = np.bincount(labels.ravel(), minlength=VOID + 1)
        masks = {int(v): labels == v for v in np.flatnonzero(counts) if v not in (0, VOID)}
        return masks, labels == VOID if counts[VOID] else None

    @cached_property
    def labels(self) -> np.ndarray:
        """(H, W) uint8: 0 none, 255 void, other values objects; where masks overlap, the object with the larger number.

        Raises SourceError for an object that no value can stand for, masks of several sizes, and an unknown size.
        """
        if self._labels is not None:
            return self._labels
        size = next((mask.shape for mask in (self.void, *self.masks.values()) if mask is not None), self._size)
        if size is None:
            raise SourceError("the ground truth of a frame has no mask: expected one at least, for its size")
        if other := self.other_size(size):
            raise SourceError(
                f"masks of one frame are {size[1]}x{size[0]} and {other[1]}x{other[0]}: expected one size"
            )
        labels = np.zeros(size, np.uint8)
        for label, mask in sorted(self.masks.items()):
            if not 0 < label < VOID:
                raise SourceError(f"object {label} has no value in a label image: expected 1 to {VOID - 1}")
            labels[mask] = label
        if self.void is not None:
            labels[self.void] = VOID
        return labels

    def mask(self, label: int, size: tuple[int, int]) -> np.ndarray | None:
        """Return (H, W) bool of an object, empty when it is known not to be there; None when nothing is known of it."""
        if label in self.masks:
            return self.masks[label]
        return np.zeros(size, bool) if self.complete else None

    def other_size(self, size: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the size of the first mask that is not of the size (H, W); None where all are."""
        given = [self._labels] if self._labels is not None else [*self.masks.values(), self.void]
        return next((mask.shape for mask in given if mask is not None and mask.shape != size), None)


@dataclass(frozen=True)
class Frame:
    """One image of a recording. H x W pixels.

    index: 0, 1, 2, ...: position in the recording, odd frames included, so that it names the same image on every pass
    stamp_ns: ns, > 0, ascending; the header stamp of a bag, otherwise the time in the recording, counted from 1 s
    name: file stem of an image, otherwise the index with six digits
    image: (H, W, 3) uint8 RGB, contiguous; truth: None where the frame is not annotated
    header_ns: the header's stamp where stamps of a bag step back and stamp_ns goes on; 0: stamp_ns is it
    """

    index: int
    stamp_ns: int
    name: str
    image: np.ndarray
    truth: Truth | None
    header_ns: int = 0


class Recording(ABC):
    """An iterable of Frames that can be iterated again. One frame is in memory at a time.

    Odd frames: an image that cannot be decoded, is not of the recording's size, or whose stamp repeats or comes too
    late, is left out; a mask that cannot be read or is not of its image's size is left out and its frame is delivered
    without truth. Each is counted in `odd_count`, images in `images_left_out` as well, and the first 20 of a pass are
    named in `odd`.

    kind: "video", "folder", "bag", "stream" or "scene"; spec: what was opened, as it was written, without a password
    topic: of its images, of a bag; "" otherwise
    name: unique in its data set; data_set: name of what it belongs to
    fps: frames per second of the recording itself, > 0
    length: number of frames, odd ones included, or None where it is not known without reading them all
    classes: object -> name of its class; empty where nothing is known, then every object is a class of its own
    label_set: name of the table in config/labels that its classes are from, or ""
    has_masks: whether frames may come with ground truth
    notes: sentences on what was found when it was opened, and how it is taken; after them `pass_notes`
    pass_notes: sentences on what passes have found, each once
    missed: frames of a live stream that came while the ones before were at work; they are no odd ones
    """

    kind = "folder"
    topic = ""

    def __init__(
        self,
        name: str,
        data_set: str = "",
        fps: float = ASSUMED_FPS,
        classes: Mapping[int, str] | None = None,
        spec: str = "",
    ):
        self.name, self.data_set, self.spec = readable(name), readable(data_set or name), spec or name
        self.fps, self.length = fps, None
        self.classes, self.label_set = dict(classes or {}), ""
        self.has_masks = False
        self.notes: list[str] = []
        self.pass_notes: list[str] = []
        self.odd: list[str] = []
        self.odd_count = self.images_left_out = self.missed = 0
        self._size = (0, 0)
        self._numbered: NumberedMasks | None = None

    length: int | None
    _size: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every frame. Raises SourceError where no image can be read."""
        return self._size

    def __iter__(self) -> Iterator[Frame]:
        self.odd, self.odd_count, self.images_left_out = [], 0, 0
        return self._numbered_frames(self._numbered) if self._numbered else self._frames()

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """Yield the frames from the beginning."""

    def count_frames(self) -> int | None:
        """Return how many frames a pass counts, odd ones among them; None where only a pass can tell."""
        return self.length

    def take_truth(self, masks: NumberedMasks) -> None:
        """Have masks that belong to its frames by index, or by stamp, as its ground truth, in place of its own."""
        self._numbered, self.has_masks = masks, True
        self.classes = self.classes or dict(masks.classes)

    def _numbered_frames(self, masks: NumberedMasks) -> Iterator[Frame]:
        """Return the frames with the truth of masks by number; a mask that belongs to no frame is odd."""
        masks.describe()  # what can be no masks is refused as a whole, not frame by frame
        for sentence in masks.unused:
            self._note_odd(sentence)
        left, numbers = set(masks.numbers), []
        for frame in self._frames():
            number = (frame.header_ns or frame.stamp_ns) if masks.by_stamp else frame.index
            left.discard(number)
            numbers.append(number)
            try:
                truth = masks.truth(number, frame.image.shape[:2])
            except SourceError as error:
                self._note_odd(str(error))
                truth = None
            yield replace(frame, truth=truth)
        numbers.sort()  # stamps may step back
        for number in sorted(left):
            self._note_odd(masks.describe_lost(number, numbers))

    def files(self) -> list[Path]:
        """Return the files that frames and truth are read from; of a stream and the scene there are none."""
        return [*self._own_files(), *(self._numbered.files() if self._numbered else ())]

    def _own_files(self) -> list[Path]:
        """Return the `files` but for masks by number."""
        return []

    @property
    def object_folders(self) -> dict[int, str]:
        """Object -> the name of its folder, where the masks of each object have one, otherwise nothing."""
        return {}

    @property
    def mask_summary(self) -> str:
        """One line: how the values of its masks are read; "" where nothing is guessed.

        Raises SourceError for what is no mask.
        """
        return readable(self._numbered.describe() if self._numbered else self._mask_summary())

    def _mask_summary(self) -> str:
        """Return the `mask_summary` of masks of its own."""
        return ""

    def describe_masks(self) -> str:
        """`mask_summary`, and the notes. Raises SourceError for what is no mask."""
        return "; ".join(filter(None, [self.mask_summary, *self.notes]))

    def describe(self) -> str:
        """Say kind, size, rate and length in one line for a log."""
        height, width = self.size
        length = "unknown length" if self.length is None else f"{self.length} frames"
        masks = ", with masks" + f" ({self.mask_summary})" * bool(self.mask_summary) if self.has_masks else ""
        return f"{self.kind} {readable(self.spec)}: {width}x{height}, {self.fps:g} Hz, {length}{masks}" + "".join(
            f"; {note}" for note in self.notes
        )

    def _stamp(self, index: int) -> int:
        """Return the stamp, in ns, of a frame whose time is its number."""
        return FIRST_STAMP_NS + round(index * 1e9 / self.fps)

    def _note_of_pass(self, what: str) -> None:
        """Add a sentence on what a pass has found, unless an earlier one has found it."""
        what = readable(what)
        if what not in self.pass_notes:
            self.pass_notes.append(what)
            self.notes.append(what)

    def _note_odd(self, what: str, *, image: bool = False) -> None:
        """Count something that was left out; `what` is a sentence that names it; image: it is an image, or several"""
        self.odd_count += 1
        self.images_left_out += image
        if len(self.odd) < MAX_NAMED:
            self.odd.append(readable(what))

    def _fits(self, name: str, image: np.ndarray, size: tuple[int, int] | None = None) -> bool:
        """Whether an image has a size (H, W), by default the recording's; notes it when it has not."""
        size = size or self.size
        if image.shape[:2] == size:
            return True
        (h, w), (height, width) = image.shape[:2], size
        self._note_odd(f"frame {name} is {w}x{h}, the first one is {width}x{height}", image=True)
        return False

    def _fitting(self, truth: Truth | None, name: str, size: tuple[int, int]) -> Truth | None:
        """Return the truth if its masks have the image's size (H, W), otherwise None; notes it when they have not."""
        wrong = truth.other_size(size) if truth else None
        if wrong is None:
            return truth
        (h, w), (height, width) = wrong, size
        self._note_odd(f"the mask of frame {name} is {w}x{h}, its image is {width}x{height}")
        return None


class IndexedRecording(Recording):
    """A recording of which any frame can be read at any time."""

    length: int

    @abstractmethod
    def frame(self, index: int) -> Frame:
        """Return any frame, of whatever size it is.

        Raises SourceError for an image or a mask that cannot be read, or that do not fit each other.
        """

    @abstractmethod
    def is_annotated(self, index: int) -> bool:
        """Whether a frame has ground truth, which is not read."""

    @abstractmethod
    def truth(self, index: int) -> Truth | None:
        """Return the ground truth of a frame, without its image. Raises SourceError for a mask that cannot be read."""

    def stem(self, index: int) -> str:
        """Say what a frame's file is called, without its suffix, otherwise the index with six digits."""
        return f"{index:06d}"

    @property
    def binary(self) -> bool:
        """Whether object 1 is the only one, whatever values masks have."""
        return False
