"""The newest frames: what a prompt on a picture of a moment ago needs, and no more.

Their features live in slots that are allocated once: tensors made anew for every frame, and kept for sixteen, leave
holes between them that a process grows by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.tracking.field_of_view import field_of_reduced
from sam2s_model.tracking.presence import ObjectHistory, Prediction
from sam2s_model.tracks import Tracks


@dataclass
class ProcessedFrame:
    """A processed frame.

    index: counts processed frames; stamp: ns; size: (H, W) of the image
    field_mask: (H, W) bool, the endoscope's field as labels show it, or None where none is asked for
    reduced: of the image, see `field_of_view.reduced`, from which the field can be found later; None: it was not kept
    predictions: what the model predicted of each object that was tracked then and still is
    histories: what was seen of each object that was tracked then
    previous: the histories of the frame before
    """

    index: int
    stamp: int
    size: tuple[int, int]
    features: ImageFeatures
    field_mask: np.ndarray | None = None
    reduced: np.ndarray | None = None
    predictions: dict[int, Prediction] = field(default_factory=dict)
    histories: dict[int, ObjectHistory] = field(default_factory=dict)
    previous: dict[int, ObjectHistory] = field(default_factory=dict)
    tracks: Tracks | None = None

    @property
    def field(self) -> np.ndarray | None:
        """(H, W) bool, where objects may be: the endoscope's field, whether or not labels show it; None: everywhere."""
        found = self.field_mask
        if found is None and self.reduced is not None:
            found = field_of_reduced(self.reduced, self.size)
        return None if found is None or found.all() else found

    def saved(self) -> ProcessedFrame:
        """Copy this frame, so that later changes of it do not reach the copy."""
        return replace(
            self, predictions=dict(self.predictions), histories=dict(self.histories), previous=dict(self.previous)
        )

    def restore(self, saved: ProcessedFrame) -> None:
        """Go back to what was `saved`."""
        self.predictions, self.histories, self.previous, self.tracks = (
            saved.predictions,
            saved.histories,
            saved.previous,
            saved.tracks,
        )


class History:
    """The newest `length` frames, oldest first."""

    def __init__(self, length: int):
        self._length = length
        self._frames: deque[ProcessedFrame] = deque(maxlen=length)
        self._slots: list[ImageFeatures] = []

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[ProcessedFrame]:
        return iter(self._frames)

    @property
    def newest(self) -> ProcessedFrame | None:
        return self._frames[-1] if self._frames else None

    def hold(self, index: int, features: ImageFeatures) -> ImageFeatures:
        """Copy a frame's features to where they stay until `length` more frames have been appended.

        There is a slot more than frames, so that a step that fails has overwritten none of theirs.
        """
        if not self._slots or self._slots[0].coarse.shape != features.coarse.shape:
            self._slots = [features.place() for _ in range(self._length + 1)]
        return self._slots[index % len(self._slots)].copy_(features)

    def append(self, frame: ProcessedFrame) -> None:
        self._frames.append(frame)

    def clear(self) -> None:
        self._frames.clear()

    def forget(self, object_ids: Container[int]) -> None:
        """Drop the predictions of objects that are tracked no more. Tracks of older frames stay as they were shown."""
        for frame in self._frames:
            frame.predictions = {i: own for i, own in frame.predictions.items() if i not in object_ids}

    def find(self, stamp: int) -> ProcessedFrame:
        """Find the frame of a stamp, ns; 0 means the newest. Raises RequestError (NO_IMAGE, TOO_OLD, UNKNOWN_STAMP)."""
        if not self._frames:
            raise RequestError(ErrorCode.NO_IMAGE, "no image has been processed yet: wait for the first one")
        if not stamp:
            return self._frames[-1]
        for frame in reversed(self._frames):
            if frame.stamp == stamp:
                return frame
        oldest, newest = self._frames[0].stamp, self._frames[-1].stamp
        if stamp < oldest:
            raise RequestError(
                ErrorCode.TOO_OLD,
                f"stamp {stamp} ns is too old: expected at least {oldest} ns, the oldest of the {len(self)} images "
                f"that are remembered (prompt_history is {self._length})",
            )
        nearest = min(self._frames, key=lambda frame: abs(frame.stamp - stamp)).stamp
        raise RequestError(
            ErrorCode.UNKNOWN_STAMP,
            f"stamp {stamp} ns is not of a processed image: expected {nearest} ns, the nearest, "
            f"or 0 for the newest, {newest} ns",
        )

    def since(self, frame: ProcessedFrame) -> list[ProcessedFrame]:
        """List a frame and all later ones."""
        return [f for f in self._frames if f.index >= frame.index]

    def memory_bytes(self) -> int:
        """Sum the slots' device bytes: `length` + 1 from the first frame on, `ImageFeatures.memory_bytes` each."""
        return sum(slot.memory_bytes for slot in self._slots)
