"""What the page is shown of an annotation, in the terms of the console: a frame of a stamp, and the state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from sam2s_model.annotation.exports import EXPORTS
from sam2s_model.annotation.project import AnnotationProject
from sam2s_model.annotation.store import StoredMask
from sam2s_model.errors import ErrorCode, ImageError, RequestError, SourceError
from sam2s_ros.console.frames import Seen, ShownFrame
from sam2s_ros.console.session import Session, SessionDescription

SUMMARY_EVERY = 0.5  # s between two looks at all masks, while it tracks
REVIEWED = 24  # frames that are shown for review, those of least confidence
SURE = (0.5, 0.7, 0.85)  # confidence from which a mask is of the next colour of the timeline
NONE, PROMPTED, STALE = 0, 5, 6  # codes of the timeline; 1 to 4: tracked, the more the surer
THUMBNAIL = 160  # px, its longer side


def stamp_of(position: int) -> int:
    """Return what stands for a frame on the page: a stamp is never 0, which means live."""
    return position + 1


@dataclass
class TrackingProgress:
    """How far tracking on has come. message: why it ended, where that was no wish"""

    running: bool = False
    done: int = 0
    total: int = 0
    message: str = ""


class AnnotationSession(Session):
    """A `Session` of a recording: all its frames can be prompted, and there is no node.

    cursor: the position that is shown when nobody has chosen one: the newest that was tracked
    """

    def __init__(self, name: str, project: AnnotationProject, *, changed: Callable[[], None], device: str = ""):
        super().__init__(name, changed=changed)
        self._project, self._device = project, device
        self._tell = changed
        self.cursor = 0
        self.progress = TrackingProgress()
        self._shown: tuple[tuple, ShownFrame] | None = None
        self._summary: dict[str, Any] = {}
        self._summary_key: tuple = ()
        self._summary_at = -1e9
        self._summary_lock = threading.Lock()

    @property
    def alive(self) -> bool:
        return True

    def told(self) -> None:
        """There is something new."""
        self._tell()

    def position(self, stamp: int) -> int:
        """Return the position of a stamp of the page; 0: the cursor. Raises RequestError (UNKNOWN_STAMP)."""
        position = stamp - 1 if stamp else self.cursor
        if not 0 <= position < len(self._project):
            raise RequestError(ErrorCode.UNKNOWN_STAMP, f"there is no frame {position}")
        return position

    def frame(self, stamp: int = 0) -> ShownFrame | None:
        try:
            position = self.position(stamp)
        except RequestError:
            return None
        project = self._project
        version = project.store.fingerprint(position) + (project.revision << 32)
        known = self._shown
        if known and known[0] == (position, version):
            return known[1]
        masks = project.masks(position)
        labels = project.labels(masks)
        objects = project.objects
        # Also those without a mask here: a person who has chosen one says where it is.
        nothing = StoredMask(np.zeros(project.size, bool), 0.0, 0.0, 0)
        seen = tuple(self._seen(objects, n, masks.get(n, nothing), labels == n) for n in objects)
        frame = ShownFrame(
            stamp_of(position), project.size, partial(self._image, position), position, labels, seen, version=version
        )
        self._shown = (position, version), frame
        return frame

    def _image(self, position: int) -> np.ndarray:
        try:
            return self._project.image(position)
        except SourceError as error:
            raise ImageError(str(error)) from error

    def _seen(self, objects: dict, number: int, found: StoredMask, mask: np.ndarray) -> Seen:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if len(rows) else (0, 0, 0, 0)
        class_name = objects[number].class_name
        class_id = self._project.label_set.by_name(class_name).id
        return Seen(
            number, number, class_id, class_name, None, found.state, found.confidence, box, int(np.count_nonzero(mask))
        )

    def state(self) -> dict[str, Any]:
        """Write the text message `state`: as `Session.state`, and what an annotation has beside it, see `annotate`.

        annotate: frames, to_track (masks), tracking {done, total} or null, message, folder, exports (names)
            timeline: of each object [first, end, code] for each stretch that has one; review: [position, confidence]
        """
        project = self._project
        progress = self.progress
        return {
            "type": "state", "camera": self.name,
            "node": {"state": "RUNNING", "message": "", "model": project.model_name, "device": self._device},
            "classes": [
                {"id": own.id, "name": own.name, "color": "#{:02x}{:02x}{:02x}".format(*own.color)}
                for own in project.label_set.classes
            ],
            "history": [],
            "names": {str(n): {"name": own.name, "color": own.color} for n, own in project.objects.items()},
            "lanes": {}, "newest": 0, "undo": project.undo_says,
            "annotate": {
                **self._summarised(), "frames": len(project), "cursor": self.cursor, "message": progress.message,
                "tracking": {"done": progress.done, "total": progress.total} if progress.running else None,
                "exports": list(EXPORTS), "folder": str(project.folder),
            },
        }  # fmt: skip

    def _summarised(self) -> dict[str, Any]:
        key = self._project.revision, self.progress.done, self.progress.running
        with self._summary_lock:
            if key != self._summary_key and (
                not self.progress.running or time.monotonic() - self._summary_at > SUMMARY_EVERY
            ):
                self._summary, self._summary_key = self._summarise(), key
                self._summary_at = time.monotonic()
            return self._summary

    def _summarise(self) -> dict[str, Any]:
        table, length = self._project.store.table(), len(self._project)
        timeline = {}
        for number in self._project.objects:
            own = table[table[:, 1] == number]
            codes = np.full(length, NONE)
            sure = 1 + np.searchsorted(SURE, own[:, 2], side="right")
            codes[own[:, 0].astype(int)] = np.where(own[:, 4] > 0, PROMPTED, np.where(own[:, 5] > 0, STALE, sure))
            starts = np.concatenate([[0], np.flatnonzero(codes[1:] != codes[:-1]) + 1])
            ends = np.append(starts[1:], length)
            timeline[str(number)] = [
                [int(a), int(b), int(codes[a])] for a, b in zip(starts, ends, strict=True) if codes[a]
            ]
        left = sum(len(positions) for positions in self._project.to_track().values())
        return {"timeline": timeline, "review": _least_sure(table), "to_track": left}

    def describe(self, object_id: int, description: SessionDescription) -> None:
        self._project.describe(object_id, description.name, description.color)
        self.told()

    def thumbnail(self, position: int) -> bytes | None:
        """Return the JPEG of a frame with its masks, small; None for a frame that there is not."""
        if not 0 <= position < len(self._project):
            return None
        image = self._image(position)
        masks = self._project.masks(position)
        scale = THUMBNAIL / max(image.shape[:2])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(self._project.labels(masks), size, interpolation=cv2.INTER_NEAREST)
        for number, colour in self._project.colours().items():
            inside = labels == number
            small[inside] = (small[inside] * 0.5 + np.array(colour) * 0.5).astype(np.uint8)
        return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def _least_sure(table: np.ndarray) -> list[list[float]]:
    """Return position and confidence of the frames whose least sure mask is least so; prompted ones are not asked."""
    least: dict[int, float] = {}
    for position, _, confidence, _, prompted, _ in table:
        if not prompted:
            least[int(position)] = min(confidence, least.get(int(position), 1.0))
    found = sorted(least.items(), key=lambda item: (item[1], item[0]))[:REVIEWED]
    return [[position, round(confidence, 3)] for position, confidence in found]
