"""Pair what was tracked with the images that it was tracked in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sam2s_model.recordings.bag import TIME_JUMP_NS
from sam2s_model.recordings.recording import Frame, Recording
from sam2s_model.results.reading import TrackedFrame, TrackedRecording

Key = tuple[int, int | str]  # how often stamps have stepped back, and the stamp; or 0 and the name


def paired(tracked: TrackedRecording, images: Recording | None) -> Iterator[tuple[TrackedFrame, np.ndarray | None]]:
    """Yield each tracked frame with its image, (H, W, 3) uint8 RGB, None where there is none of its size.

    Both are in order. An image belongs to the frame of its name, or of its stamp; where stamps step back, as when a
    bag is played again, of the same pass. One that belongs to no frame is passed over, one of a later frame waits.
    """
    keys = _Keys()
    place = {keys.of(key): at for at, key in enumerate(tracked.keys)}
    rest = _placed(images, place, by_stamp=tracked.by_stamp) if images is not None else iter(())
    image = next(rest, None)
    keys = _Keys()
    for frame in tracked:
        at = place.get(keys.of(frame.tracks.stamp if tracked.by_stamp else frame.name), -1)
        while image is not None and image[0] < at:
            image = next(rest, None)
        found = image[1].image if image is not None and image[0] == at else None
        yield frame, found if found is not None and found.shape[:2] == frame.tracks.size else None


def _placed(images: Recording, place: Mapping[Key, int], *, by_stamp: bool) -> Iterator[tuple[int, Frame]]:
    """Yield the images that belong to a frame, with the place of that frame."""
    keys = _Keys(place)
    for image in images:
        key = keys.of((image.header_ns or image.stamp_ns) if by_stamp else image.name)
        if key in place:
            yield place[key], image


class _Keys:
    """Number the passes of stamps that step back, so that a stamp of one is not taken for that of another.

    known: a pass without any of these is not counted: it was not tracked; None: all are
    """

    def __init__(self, known: Mapping[Key, int] | None = None):
        self._known, self._pass, self._last, self._counts = known, 0, 0, False

    def of(self, value: int | str) -> Key:
        """Return the key of the next one. value: its stamp in ns, or its name"""
        if isinstance(value, str):
            return 0, value
        if self._counts and value < self._last - TIME_JUMP_NS:
            self._pass, self._counts = self._pass + 1, False
        self._last, key = value, (self._pass, value)
        self._counts = self._counts or self._known is None or key in self._known
        return key
