"""Base semantic maps of another network, merged with the tracked objects of the same stamp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from std_msgs.msg import Header

from sam2s_model.semantic_maps.votes import ClassVotes, semantic_image
from sam2s_model.tracks import Tracks
from sam2s_ros.processes.awake import steady
from sam2s_ros.tracker.stamp_pairs import StampPairs

PENDING = 16  # frames, and maps, that wait for their partner: as many as can be prompted by default


@dataclass(frozen=True)
class MergedMap:
    """image: (H, W) uint8, the base map with the objects' classes inside them; header: of the image that both are of"""

    header: Header
    image: np.ndarray


@dataclass
class MergeCounts:
    """What became of frames and base maps. merged: in time; late: of an image that came too long ago"""

    merged: int = 0
    late: int = 0
    without_map: int = 0
    without_masks: int = 0


@dataclass(frozen=True)
class _MaskedFrame:
    header: Header
    tracks: Tracks
    arrived: float = field(default_factory=steady)  # s


class BaseMaps:
    """Pairs frames with base maps of the very same stamp, in order, and merges them. Not thread-safe.

    Every pair votes for the classes of its objects; one that is complete too late is not merged any more. A map whose
    stamp is none of a frame costs nothing but itself: it waits, and is given up when a pair comes after it.

    max_age: s from an image's arrival, within which its map is merged; say: told in a sentence what should be known
    """

    def __init__(self, max_age: float, say: Callable[[str], None], clock: Callable[[], float] = steady):
        self.counts = MergeCounts()
        self._max_age, self._say, self._clock = max_age, say, clock
        self._votes = ClassVotes()
        self._scaled: tuple[int, ...] = ()
        self._begin()

    def _begin(self) -> None:
        self._pairs: StampPairs[_MaskedFrame | np.ndarray] = StampPairs(PENDING)
        self._newest = self._paired = 0  # stamps, of the frames and of the pairs

    def add_tracks(self, stamp: int, header: Header, tracks: Tracks, arrived: float) -> list[MergedMap]:
        """Take in a frame. stamp: ns; arrived: s, of the clock, when its image came. Returns what is complete now."""
        return self._add(0, stamp, _MaskedFrame(header, tracks, arrived))

    def add_map(self, stamp: int, base: np.ndarray) -> list[MergedMap]:
        """Take in a base map, (H, W) uint8, of the image of a stamp, ns. Returns what is complete now."""
        return self._add(1, stamp, base)

    def _add(self, side: int, stamp: int, item: _MaskedFrame | np.ndarray) -> list[MergedMap]:
        if side == 1 and (stamp <= self._paired or self._pairs.waits(1, stamp)):
            self.counts.without_masks += 1  # overtaken by one that may have been published, or sent twice
            return []
        if side == 0:
            if stamp <= self._newest:
                self._count()
                self._begin()  # the stream has begun anew: no object of before is there any more
            self._newest = stamp
        pairs = self._pairs.add(side, stamp, item)
        if pairs:
            self._paired = stamp  # of both
        merged = [self._merged(frame, base) for frame, base in pairs]
        self._count()
        return [one for one in merged if one is not None]

    def _count(self) -> None:
        """Add what was given up since the last time."""
        self.counts.without_map += self._pairs.unpaired[0]
        self.counts.without_masks += self._pairs.unpaired[1]
        self._pairs.unpaired = [0, 0]

    def _merged(self, frame: _MaskedFrame | np.ndarray, base: _MaskedFrame | np.ndarray) -> MergedMap | None:
        assert isinstance(frame, _MaskedFrame) and isinstance(base, np.ndarray)  # side 0 and side 1
        image = semantic_image(self._votes, frame.tracks, self._sized(base, frame.tracks.size))
        age = self._clock() - frame.arrived
        if 0 < self._max_age < age:
            self.counts.late += 1
            limit = f"expected at most {self._max_age:g} s (semantic_max_age)"
            self._say(f"a base map came {age:.2f} s after its image, {limit}: ~/semantic_image has none of it")
            return None
        self.counts.merged += 1
        return MergedMap(frame.header, image)

    def _sized(self, base: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bring a base map to the image's size, by the nearest pixel: classes have no mean."""
        if base.shape == size:
            return base
        if base.shape != self._scaled:
            self._scaled = base.shape
            (rows, columns), (height, width) = base.shape, size
            self._say(f"base maps are {columns}x{rows} and images {width}x{height}: maps are scaled, nearest pixel")
        return cv2.resize(base, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
