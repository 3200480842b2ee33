"""The frames that a page may show: the newest, and those before it that can still be prompted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np

from sam2s_model.tracks import LABEL_NONE


@dataclass(frozen=True)
class Seen:
    """One object in a frame, as `TrackedObject` says it.

    box: x0 y0 x1 y1, px, x1 and y1 exclusive; zero when empty
    stale: it was corrected on an earlier picture since, so that where it is on this one is not known
    """

    id: int
    label: int
    class_id: int
    class_name: str
    class_score: float | None
    state: int
    score: float
    box: tuple[int, int, int, int]
    area: int
    stale: bool = False

    def shown(self) -> dict[str, Any]:
        """As it stands in a frame's header."""
        return {
            "id": self.id, "label": self.label, "class_id": self.class_id, "class": self.class_name,
            "class_score": self.class_score, "state": self.state, "score": round(self.score, 4),
            "box": list(self.box), "area": self.area, "stale": self.stale,
        }  # fmt: skip


@dataclass(frozen=True)
class ShownFrame:
    """An image and what was found in it.

    stamp: ns, of the image; sequence: of its masks; size: (H, W) of the image, px; (0, 0) where only the image says it
    image: gives the image, (H, W, 3) uint8 RGB; may raise ImageError
    label_map: (H, W) uint8; None when the tracker has said nothing about this image
    late: the masks came too late to be acted on
    version: counts changes: a prompt on a picture changes its masks
    """

    stamp: int
    size: tuple[int, int]
    image: Callable[[], np.ndarray]
    sequence: int = 0
    label_map: np.ndarray | None = None
    objects: tuple[Seen, ...] = ()
    late: bool = False
    version: int = 0

    @property
    def tracked(self) -> bool:
        return self.label_map is not None

    def mask(self, object_id: int) -> np.ndarray | None:
        """(H, W) bool, of an object in this frame; None when it has none here."""
        label = next((seen.label for seen in self.objects if seen.id == object_id), None)
        if self.label_map is None or label is None:
            return None
        mask = self.label_map == label
        return mask if mask.any() else None

    def without(self, object_ids: Collection[int]) -> np.ndarray | None:
        """(H, W) uint8: the label map without these objects; None when there is none."""
        labels = [seen.label for seen in self.objects if seen.id in object_ids]
        return None if self.label_map is None else np.where(np.isin(self.label_map, labels), LABEL_NONE, self.label_map)


class Frames:
    """The newest `length` frames with masks, oldest first."""

    def __init__(self, length: int):
        self.length = length
        self._frames: OrderedDict[int, ShownFrame] = OrderedDict()

    @property
    def newest(self) -> ShownFrame | None:
        return next(reversed(self._frames.values()), None)

    @property
    def stamps(self) -> list[int]:
        return list(self._frames)

    def after(self, stamp: int) -> list[ShownFrame]:
        return [frame for frame in self._frames.values() if frame.stamp > stamp]

    def get(self, stamp: int) -> ShownFrame | None:
        return self._frames.get(stamp)

    def add(self, frame: ShownFrame) -> None:
        self._frames[frame.stamp] = frame
        while len(self._frames) > self.length:
            self._frames.popitem(last=False)

    def change(self, stamp: int, label_map: np.ndarray, objects: tuple[Seen, ...]) -> None:
        """Put other masks on a frame, where it is still here: those in the answer to a prompt."""
        frame = self._frames.get(stamp)
        if frame is not None:
            self._frames[stamp] = replace(frame, label_map=label_map, objects=objects, version=frame.version + 1)

    def clear(self) -> None:
        self._frames.clear()


class Picture(NamedTuple):
    """A frame as it is sent.

    jpeg: of the image, at its own size or smaller; label_map: (h, w) uint8, smaller; size: (H, W) of the image, px
    """

    jpeg: bytes
    label_map: np.ndarray
    size: tuple[int, int]


class Pictures:
    """Frames encoded once for all who look. One thread makes them; what is asked for again is kept.

    side: px; the JPEG's and the label image's longest side at most; quality: of the JPEG, 1..100
    """

    KEPT = 48

    def __init__(self, image_side: int = 1280, mask_side: int = 640, quality: int = 80):
        self._image_side, self._mask_side, self._quality = image_side, mask_side, quality
        self._jpegs: OrderedDict[tuple[str, int], tuple[bytes, tuple[int, int]]] = OrderedDict()

    def picture(self, camera: str, frame: ShownFrame) -> Picture:
        """Encode a frame. Raises ImageError when the image cannot be decoded."""
        key = camera, frame.stamp
        encoded = self._jpegs.get(key)
        if encoded is None:
            image = frame.image()
            encoded = self._jpegs[key] = self._encoded(image), (image.shape[0], image.shape[1])
            while len(self._jpegs) > self.KEPT:
                self._jpegs.popitem(last=False)
        jpeg, size = encoded
        return Picture(jpeg, self._small(frame), frame.size if any(frame.size) else size)

    def _encoded(self, image: np.ndarray) -> bytes:
        scale = self._image_side / max(image.shape[:2])
        if scale < 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1].tobytes()

    def _small(self, frame: ShownFrame) -> np.ndarray:
        """Every n-th pixel of every n-th row: labels cannot be averaged. Pixel (i, j) is (n i, n j) of the image."""
        if frame.label_map is None:
            return np.full((1, 1), LABEL_NONE, np.uint8)
        step = mask_step(frame.size, self._mask_side)
        return frame.label_map[::step, ::step]


def mask_step(size: Sequence[int], side: int) -> int:
    """Return the px of the image for one of the label image that is sent."""
    return -(-max(size) // side)
