"""A recording as training reads it: label images, rows of the class table, and the features of a teacher's pack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.mask_values import VOID
from sam2s_model.recordings.recording import FIRST_STAMP_NS, Frame, IndexedRecording
from sam2s_model.training.pack import TeacherPack

FRAME_NS = 40_000_000  # from one tracked frame to the next, whatever the rate: figures are compared that were taken so


class TrainingRecording:
    """Frames of a recording, read when they are asked for. A label is the same object through the whole recording.

    Of single frames what cannot be read is raised, so that the caller names it and draws something else; a pass over
    all of them leaves it out.

    name: for logs and tables; classes: label -> row of the class table, or -1 unknown
    left_out: what passes have left out, a sentence for each
    annotated: indices of the frames with label images
    """

    def __init__(
        self,
        recording: IndexedRecording,
        classes: Mapping[int, int],
        pack: TeacherPack | None = None,
        only: int | None = None,
        stretch: slice = slice(None),
    ):
        """Take all frames, or some of them.

        only: the one frame that is taken, which its name then says; None: all of them
        stretch: the frames that are taken. Raises ConfigError where the recording ends before it begins
        """
        self.recording, self.classes, self._pack, self._only = recording, dict(classes), pack, only
        frames = range(recording.length)[stretch] if only is None else [only]
        if not frames:
            raise ConfigError(
                f"{recording.name} has {recording.length} frames: expected some from {stretch.start} to {stretch.stop}"
            )
        self.name = recording.name if only is None else f"{recording.name}/{recording.stem(only)}"
        self.annotated = [at for at, index in enumerate(frames) if recording.is_annotated(index)]
        self._frames: Sequence[int] = frames
        self._largest: list[float] | None = None
        self.left_out: dict[str, None] = {}  # a set in the order of its making

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def indices(self) -> Sequence[int]:
        """Indices of its frames in the recording."""
        return self._frames

    @property
    def has_masks(self) -> bool:
        return bool(self.annotated)

    def frame(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Read an image (H, W, 3) uint8 RGB and its labels (H, W) uint8 as in `Clip`, or None where it has no masks.

        Raises SourceError.
        """
        frame = self.recording.frame(self._frames[index])
        return frame.image, None if frame.truth is None else frame.truth.labels

    def frames(self) -> Iterator[Frame]:
        """Yield all frames in order, as the evaluation reads them.

        One that cannot be read, or is of another size than the first, is left out and named in `left_out`.
        """
        first: tuple[int, int] | None = None
        for at, index in enumerate(self._frames):
            frame = self._readable(index)
            if frame is None:
                continue
            size = frame.image.shape[:2]
            first = first or size
            if size == first:
                yield replace(frame, index=at, stamp_ns=FIRST_STAMP_NS + at * FRAME_NS)
            else:
                (h, w), (height, width) = size, first
                said = f"frame {frame.name} of {self.name} is {w}x{h}, the first one is {width}x{height}"
                self.left_out[said] = None

    def _readable(self, index: int) -> Frame | None:
        try:
            return self.recording.frame(index)
        except SourceError as error:
            self.left_out[str(error)] = None
            return None

    def showing(self, min_area: float) -> list[int]:
        """Return the annotated frames with an object of at least that share of the frame. All masks are read, once."""
        if self._largest is None:
            self._largest = [self._largest_object(self._frames[i]) for i in self.annotated]
        return [i for i, share in zip(self.annotated, self._largest, strict=True) if 0 < share >= min_area]

    def _largest_object(self, index: int) -> float:
        try:
            truth = self.recording.truth(index)
        except SourceError:
            return 0.0  # named when its frame is drawn
        if truth is None:
            return 0.0
        return float(np.bincount(truth.labels.ravel(), minlength=VOID)[1:VOID].max() / truth.labels.size)

    def parts(self) -> list[TrainingRecording]:
        """Return its frames as recordings of one frame, whose masks are read as those of the whole are."""
        return [TrainingRecording(self.recording, self.classes, self._pack, index) for index in self._frames]

    def features(self, index: int) -> np.ndarray | None:
        """(C, h, w) float16 of a teacher's pack, or None."""
        if self._pack is None:
            return None
        return self._pack.features(f"{self.recording.name}/{self.recording.stem(self._frames[index])}")

    def describe_masks(self) -> str:
        """Say in one line what there is and how it is read; "" where nothing is guessed.

        Raises SourceError for what is no mask.
        """
        if self._only is None or not isinstance(self.recording, FileRecording):
            return self.recording.mask_summary
        return f"1 masks, {self.recording.masks_why()}"
