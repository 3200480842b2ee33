"""How well tracked objects cover ground-truth labels: intersection over union, frame by frame and on average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam2s_model.metrics import iou
from sam2s_model.recordings.recording import Truth


@dataclass
class _Sum:
    total: float = 0.0
    frames: int = 0


class OverlapMeter:
    """IoU of every pair of ground-truth label and object, for sources whose labels keep their meaning.

    A frame counts for a pair when the object is in the frame's list (also with an empty mask) and the label has been
    seen by then, unless nothing is known of the label there; both empty is an IoU of 1. Void does not count. Memory
    grows with the number of pairs, not of frames.
    """

    def __init__(self):
        self._labels: set[int] = set()
        self._sums: dict[tuple[int, int], _Sum] = {}

    def add(
        self, truth: Truth, label_map: np.ndarray, object_ids: Sequence[int], labels: Sequence[int]
    ) -> dict[int, dict[int, float]]:
        """Take one frame in; return IoU by ground-truth label and object id.

        truth: of a frame of the same size
        label_map: (H, W) uint8, the tracker's
        object_ids, labels: of the tracker's objects and their values in label_map
        Raises ValueError when the sizes differ.
        """
        size = (label_map.shape[0], label_map.shape[1])
        if (other := truth.other_size(size)) is not None:
            raise ValueError(f"ground truth of {other} and masks of {size} (H, W): expected one size")
        self._labels |= {label for label, mask in truth.masks.items() if mask.any()}
        masks = [(int(object_id), label_map == value) for object_id, value in zip(object_ids, labels, strict=True)]
        found: dict[int, dict[int, float]] = {}
        for label in sorted(self._labels):
            expected = truth.mask(label, size)
            if expected is None:
                continue
            for object_id, mask in masks:
                overlap = iou(mask, expected, truth.void)
                found.setdefault(label, {})[object_id] = overlap
                pair = self._sums.setdefault((label, object_id), _Sum())
                pair.total += overlap
                pair.frames += 1
        return found

    def mean(self, label: int, object_id: int) -> tuple[float, int]:
        """(mean IoU, frames) of a pair; (0, 0) for one that was never seen together."""
        pair = self._sums.get((label, object_id), _Sum())
        return (pair.total / pair.frames if pair.frames else 0.0), pair.frames

    def best_label(self, object_id: int) -> int | None:
        """Return the label that an object covers best on average, for one of which nothing says what it is."""
        labels = [label for label, other in self._sums if other == object_id]
        return max(labels, key=lambda label: self.mean(label, object_id)[0], default=None)

    def pairs(self) -> list[dict[str, float]]:
        """All pairs, for a report."""
        return [
            dict(
                label=label, object_id=object_id, mean_iou=round(self.mean(label, object_id)[0], 6), frames=pair.frames
            )
            for (label, object_id), pair in sorted(self._sums.items())
        ]


def summary_ms(values: Sequence[float]) -> dict[str, float]:
    """Percentiles of times in ms, for a report; only the count when there are none."""
    if not len(values):
        return {"count": 0}
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    return {
        "count": len(values),
        "p50": round(float(p50), 3),
        "p90": round(float(p90), 3),
        "p99": round(float(p99), 3),
        "max": round(float(np.max(values)), 3),
    }
