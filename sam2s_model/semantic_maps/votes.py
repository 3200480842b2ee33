"""The class of an object by majority: a base map votes for it with each frame, as SAM2 for VSS does (arXiv 2512.01774).

A base map is the class image of any segmentation network: (H, W) uint8, 0 background, 1 to 254 classes, 255 unlabelled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import cv2
import numpy as np

from sam2s_model.tracks import LABEL_OUTSIDE, Tracks

BACKGROUND, VOID = 0, 255  # values of a base map that are no class
CLASSES = 256
MEMORY = 200.0  # votes that an object keeps, of one frame each: from there on all fade as new ones come


class ClassVotes:
    """What base maps have said of each object so far. A frame has one vote, which its classes share by their pixels.

    Of an object there are 256 numbers, whatever its age; those of objects that are gone are dropped.
    memory: votes of an object that are kept
    """

    def __init__(self, memory: float = MEMORY):
        self._memory = memory
        self._votes: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._votes)

    def add(self, label_map: np.ndarray, labels: Mapping[int, int], base: np.ndarray) -> None:
        """Take in a frame. label_map: (H, W) uint8; labels: object -> its value there; base: (H, W) uint8 base map

        Raises ValueError where the sizes differ.
        """
        shares = pixels_of_classes(label_map, base)
        for object_id, label in labels.items():
            pixels = shares[label].astype(np.float64)
            pixels[VOID] = 0
            if not pixels.any():
                continue
            votes = self._votes.setdefault(object_id, np.zeros(CLASSES))
            votes += pixels / pixels.sum()
            votes *= min(1.0, self._memory / votes.sum())

    def class_of(self, object_id: int, *, background: bool = True) -> tuple[int, float]:
        """Return an object's class and its share of the votes, 0..1; BACKGROUND and 0 where there was no vote.

        background: whether it may win: otherwise the best class does, and the share is of all votes for classes
        """
        votes = self._votes.get(object_id, np.zeros(CLASSES))
        votes = votes if background else np.where(np.arange(CLASSES) == BACKGROUND, 0, votes)
        total = votes.sum()
        best = int(votes.argmax())
        return (best, float(votes[best] / total)) if total else (BACKGROUND, 0.0)

    def keep(self, object_ids: Collection[int]) -> None:
        """Forget all other objects."""
        self._votes = {object_id: votes for object_id, votes in self._votes.items() if object_id in object_ids}


def pixels_of_classes(label_map: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Count (256, 256): pixels of each label, by the base map's class there. Raises ValueError where sizes differ."""
    if label_map.shape != base.shape:
        raise ValueError(f"masks of {label_map.shape} and a base map of {base.shape} (H, W): expected one size")
    pairs = (label_map.astype(np.uint16) << 8) | base
    return np.bincount(pairs.ravel(), minlength=CLASSES * CLASSES).reshape(CLASSES, CLASSES)


def composed(label_map: np.ndarray, classes: Mapping[int, int], base: np.ndarray) -> np.ndarray:
    """Return (H, W) uint8: the class of each label that has one inside it, the base map elsewhere.

    classes: label -> class; outside the endoscope's field, LABEL_OUTSIDE of `label_map`, nothing is labelled
    """
    table, inside = np.zeros(CLASSES, np.uint8), np.zeros(CLASSES, np.uint8)
    for label, value in {**classes, LABEL_OUTSIDE: VOID}.items():
        table[label], inside[label] = value, 1
    return np.where(cv2.LUT(label_map, inside), cv2.LUT(label_map, table), base)


def class_of_object(votes: ClassVotes, tracks: Tracks, index: int) -> int:
    """Return the class of a tracked object: what a person has said, else the majority, else what the tracker says.

    Somebody prompted it, so it is something: background is not among the classes that may win.
    """
    scores = tracks.class_scores
    voted, share = votes.class_of(int(tracks.object_ids[index]), background=False)
    named = scores is not None and scores[index] == 1
    return int(tracks.class_ids[index]) if named or not share else voted


def _around(tracks: Tracks) -> tuple[slice, slice]:
    """Return the rows and columns that all masks are in; none where all are empty."""
    boxes = tracks.boxes[tracks.areas > 0]
    if not len(boxes):
        return slice(0, 0), slice(0, 0)
    (x0, y0), (x1, y1) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
    return slice(y0, y1), slice(x0, x1)


def semantic_image(votes: ClassVotes, tracks: Tracks, base: np.ndarray) -> np.ndarray:
    """Let the base map of a frame vote for its objects, and return their classes inside it, (H, W) uint8.

    base: (H, W) uint8, of the image of `tracks`; objects that it does not have any more are forgotten
    Raises ValueError where it has another size.
    """
    if base.shape != tracks.size:
        raise ValueError(f"masks of {tracks.size} and a base map of {base.shape} (H, W): expected one size")
    labels = dict(zip(tracks.object_ids.tolist(), tracks.labels.tolist(), strict=True))
    around = _around(tracks)  # a large image has many pixels, and objects are seldom all of it
    votes.add(tracks.label_map[around], labels, base[around])
    votes.keep(labels)
    classes = {label: class_of_object(votes, tracks, i) for i, label in enumerate(tracks.labels.tolist())}
    return composed(tracks.label_map, classes, base)
