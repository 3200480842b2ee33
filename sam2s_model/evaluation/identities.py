"""Who follows whom: tracked objects against those of the truth, whoever has started them, and what discovery starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam2s_model.recordings.recording import Truth
from sam2s_model.tracks import Tracks

FOUND = 0.5  # IoU from which a mask is on an object
GONE = 15  # frames without an object after which it is said to return
ON_IT = 0.5  # share of a mask that discovery has made, from which it lies on an object


class Identities:
    """Counts of one recording, frame by frame.

    switches: how often an object of the truth was followed by another tracked object than before
    returns: of objects after `GONE` frames or more: frames until one followed it again, and whether one did
    starts: masks that discovery has made, of new objects and of known ones; false_starts: of them those that are on
        nothing, or, of a known object, not on what it followed
    several: whether the truth tells objects apart, which without it has no switches to count
    """

    def __init__(self) -> None:
        self.switches = self.starts = self.false_starts = 0
        self.returns: list[tuple[int, bool]] = []
        self.several = False
        self._followed_by: dict[int, int] = {}  # label -> object id
        self._absent: dict[int, int] = {}  # label -> frames
        self._waiting: dict[int, int] = {}  # label -> frames since its return

    def add(self, tracks: Tracks, truth: Truth) -> None:
        """Count a frame as it was tracked. Objects of which nothing is known there are left out."""
        self.several = self.several or len(truth.masks) > 1
        for label in sorted({*truth.masks, *self._absent}):
            own = truth.mask(label, tracks.size)
            if own is not None:
                self._add(label, own, _overlaps(tracks, own, truth.void))

    def _add(self, label: int, own: np.ndarray, overlaps: dict[int, float]) -> None:
        if not own.any():
            self._settle(label, False)
            self._absent[label] = self._absent.get(label, 0) + 1
            return
        if self._absent.get(label, 0) >= GONE:
            self._waiting[label] = 0
        self._absent[label] = 0
        best = max(overlaps, key=lambda object_id: overlaps[object_id], default=0)
        if best and overlaps[best] >= FOUND:
            self.switches += self._followed_by.get(label, best) != best
            self._followed_by[label] = best
            self._settle(label, True)
        elif label in self._waiting:
            self._waiting[label] += 1

    def discovered(self, tracks: Tracks, object_ids: Sequence[int], truth: Truth) -> None:
        """Count objects that discovery has just started on a frame, or prompted anew.

        Of those that lie on void pixels alone nothing is known: they are left out.
        """
        of_object = {object_id: label for label, object_id in self._followed_by.items()}
        for object_id in object_ids:
            mask, label = tracks.mask(object_id), of_object.get(object_id)
            known = mask if truth.void is None else mask & ~truth.void
            if mask.any() and not known.any():
                continue
            may_be = [*truth.masks] if label is None else [label]
            inside = [(known & truth.masks[one]).sum() for one in may_be if one in truth.masks]
            share = max(inside, default=0) / max(known.sum(), 1)
            self.starts += 1
            self.false_starts += bool(share < ON_IT)

    def close(self) -> None:
        """Say that the recording ends."""
        for label in list(self._waiting):
            self._settle(label, False)

    def _settle(self, label: int, found: bool) -> None:
        if label in self._waiting:
            self.returns.append((self._waiting.pop(label), found))


def _overlaps(tracks: Tracks, own: np.ndarray, void: np.ndarray | None) -> dict[int, float]:
    """IoU of each tracked object with a mask, without void pixels."""
    shown = tracks.label_map if void is None else np.where(void, 0, tracks.label_map)
    areas, inside = np.bincount(shown.ravel(), minlength=256), np.bincount(shown[own], minlength=256)
    iou = inside / np.maximum(areas + own.sum() - inside, 1)
    return dict(zip(tracks.object_ids.tolist(), iou[tracks.labels].tolist(), strict=True))
