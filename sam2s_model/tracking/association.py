"""Which detections are of objects that are tracked, and which are not: by overlap and class. No ROS, no torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sam2s_model.tracks import State

MIN_SIDE = 2.0  # px that a box has on each side within the image, as a prompt needs


class Fate(Enum):
    """What becomes of a detection. The value is its counter's name on /diagnostics."""

    KNOWN = "detections_known"  # it is of an object that is tracked
    NEW = "detections_new"  # it becomes an object
    RETURNED = "detections_returned"  # it is of an object that was LOST, which is prompted again under its id
    WEAK = "detections_weak"  # its score is too low, or its box is none or not in the image
    DUPLICATE = "detections_duplicate"  # there is a better one of the same instrument
    WAITING = "detections_waiting"  # an object of its class is OCCLUDED: it may be that one, which the tracker finds
    UNFOLLOWED = "detections_unfollowed"  # it was prompted a while ago, and the tracker saw something else there
    OTHER_CLASS = "detections_other_class"  # an object is there, of another class
    AMBIGUOUS = "detections_ambiguous"  # several objects of its class are LOST: nothing says which it is
    NO_ROOM = "detections_no_room"  # it would become an object, and there are as many as there may be


PROMPTED = (Fate.NEW, Fate.RETURNED)
DOUBTFUL = {
    Fate.OTHER_CLASS: "an object of another class is there",
    Fate.AMBIGUOUS: "several objects of this class are LOST: prompt the one that it is by its id",
    Fate.NO_ROOM: "max_objects are tracked: remove one, or configure more",
}


@dataclass(frozen=True)
class Detection:
    """An instrument that a detector found. box: x0, y0, x1, y1, px; class_name: "" when it is not known"""

    box: tuple[float, float, float, float]
    class_name: str = ""
    score: float = 1.0


@dataclass(frozen=True)
class KnownObject:
    """A tracked object. boxes: where it may have been when the image of the detections was taken, x0, y0, x1, y1, px"""

    object_id: int
    class_name: str
    state: int
    boxes: tuple[tuple[float, ...], ...] = ()


def associate(
    detections: Sequence[Detection],
    objects: Sequence[KnownObject],
    *,
    min_iou: float,
    min_score: float,
    prompt_lost: bool = True,
    unfollowed: Sequence[Sequence[float]] = (),
    room: int = sys.maxsize,
) -> list[tuple[Fate, int]]:
    """Say what becomes of each detection, and the id of the object that it is of, 0 for none.

    No two detections are of one object, and none becomes an object where one is: each instrument is one object.
    min_iou: overlap from which a detection is of an object, or two are of one instrument
    prompt_lost: whether one that overlaps with nothing is taken for the only LOST object of its class
    unfollowed: boxes that were prompted in vain of late
    room: objects that may begin: those of the best scores do
    """
    fates: dict[int, tuple[Fate, int]] = {}
    order = sorted(range(len(detections)), key=lambda i: -detections[i].score)  # the better ones come first
    usable = [i for i in order if _usable(detections[i], min_score)]
    fates.update({i: (Fate.WEAK, 0) for i in order if i not in usable})
    overlaps = {(i, k): _overlap(detections[i], found) for i in usable for k, found in enumerate(objects)}
    taken: set[int] = set()
    for (i, k), iou in sorted(overlaps.items(), key=lambda item: -item[1]):
        if iou >= min_iou and i not in fates and k not in taken and _agree(detections[i], objects[k]):
            fates[i] = Fate.KNOWN, objects[k].object_id
            taken.add(k)
    begun: list[Detection] = []
    for i in usable:
        if i in fates:
            continue
        detection = detections[i]
        there = [k for k in range(len(objects)) if overlaps[i, k] >= min_iou]
        if there:
            same = next((k for k in there if _agree(detection, objects[k])), None)
            fates[i] = (Fate.DUPLICATE, objects[same].object_id) if same is not None else (Fate.OTHER_CLASS, 0)
        elif any(box_iou(detection.box, other.box) >= min_iou for other in begun):
            fates[i] = Fate.DUPLICATE, 0
        elif any(box_iou(detection.box, box) >= min_iou for box in unfollowed):
            fates[i] = Fate.UNFOLLOWED, 0
        else:
            fates[i] = _unseen(detection, objects, taken, prompt_lost)
            if fates[i][0] in PROMPTED:
                begun.append(detection)
            if fates[i][0] is Fate.NEW:
                fates[i] = (Fate.NEW if room > 0 else Fate.NO_ROOM), 0
                room -= 1
    return [fates[i] for i in range(len(detections))]


def _unseen(
    detection: Detection, objects: Sequence[KnownObject], taken: set[int], prompt_lost: bool
) -> tuple[Fate, int]:
    """Decide on a detection where no object is. taken: objects that have a detection; one that is LOST is added."""
    free = [k for k, found in enumerate(objects) if k not in taken and _agree(detection, found)]
    if any(objects[k].state == State.OCCLUDED for k in free):
        return Fate.WAITING, 0
    lost = [k for k in free if objects[k].state == State.LOST]
    if not lost or not prompt_lost:
        return Fate.NEW, 0
    if len(lost) > 1:
        return Fate.AMBIGUOUS, 0
    taken.add(lost[0])
    return Fate.RETURNED, objects[lost[0]].object_id


def _usable(detection: Detection, min_score: float) -> bool:
    x0, y0, x1, y1 = detection.box
    return bool(np.isfinite(detection.box).all() and min(x1 - x0, y1 - y0) >= MIN_SIDE and detection.score >= min_score)


def _agree(detection: Detection, found: KnownObject) -> bool:
    return not detection.class_name or detection.class_name == found.class_name


def _overlap(detection: Detection, found: KnownObject) -> float:
    return max((box_iou(detection.box, box) for box in found.boxes), default=0.0)


def box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the intersection over union of two boxes x0, y0, x1, y1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def within(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Cut a box to an image. size: (H, W), px; coordinates are of pixel centres, so the last one is W - 1

    A box that is not finite stays as it is: cut, it would be the whole image, or a side of it.
    """
    height, width = size
    x0, y0, x1, y1 = box
    if not np.isfinite(box).all():
        return x0, y0, x1, y1
    x0, x1 = max(0.0, x0), min(width - 1.0, x1)
    return x0, max(0.0, y0), x1, min(height - 1.0, y1)
