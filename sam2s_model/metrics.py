"""How well masks fit, and how well a track holds: one formula a function. All masks are bool, True on the object.

Conventions, the same everywhere:

* Both masks empty: J, F and Dice are 1. One of them empty: 0. So a frame without the object counts, as in DAVIS.
* Void pixels (255 in label images) belong to neither mask.
* A class that is in neither mask of a frame says nothing about that frame: it is left out of the means over classes.
* What has nothing to be divided by, such as a recall without any object, is NaN; means leave NaN out.

J and F are those of DAVIS (arXiv 1704.00675 sec. 4), the challenge IoU is that of EndoVis 2018 (arXiv 2001.11190).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from sam2s_model.prompting.tubes import skeleton

BOUNDARY_TOLERANCE = 0.008  # of the image's diagonal, as in the DAVIS evaluation
MATCH = 0.5  # IoU above which a track is on an object; masks that do not overlap then match at most once


def iou(predicted: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> float:
    """Intersection over union of two (H, W) bool masks, DAVIS's J; 1 when both are empty.

    void: (H, W) bool, pixels that do not count, or None
    Raises ValueError when the shapes differ.
    """
    predicted, truth = _scored(predicted, truth, void)
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def boundary_f(
    predicted: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None, tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """How well the outlines of two (H, W) bool masks fit, DAVIS's F; 1 when both are empty.

    The harmonic mean of the share of the predicted outline that is near the true one, and the reverse. Near is up to
    `tolerance` of the image's diagonal, rounded up to whole pixels. Void as in `iou`.
    Raises ValueError when the shapes differ.
    """
    predicted, truth = _scored(predicted, truth, void)
    reach = math.ceil(tolerance * math.hypot(*predicted.shape))
    lines = [_outline(mask) for mask in (predicted, truth)]
    counts = [np.count_nonzero(line) for line in lines]
    if not any(counts):
        return 1.0
    if not all(counts):  # one of precision and recall is 0, the other 1
        return 0.0
    window = _window(lines[0] | lines[1], reach)
    own, other = (line[window] for line in lines)
    precision = np.count_nonzero(own & _near(other, reach)) / counts[0]
    recall = np.count_nonzero(other & _near(own, reach)) / counts[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def j_and_f(j: float, f: float) -> float:
    """DAVIS's J&F: the mean of both."""
    return (j + f) / 2


def dice(predicted: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> float:
    """Twice the intersection over the sum of both areas; 1 when both are empty. Masks, void and errors as in `iou`."""
    predicted, truth = _scored(predicted, truth, void)
    total = np.count_nonzero(predicted) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(predicted & truth) / total if total else 1.0


def cl_dice(predicted: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> float:
    """How well tubes fit, whatever their width: clDice (arXiv 2003.07311); 1 when both are empty, 0 when one is.

    The harmonic mean of the share of the predicted skeleton that is in the truth, and the reverse. Masks, void and
    errors as in `iou`. Raises ConfigError without scikit-image.
    """
    predicted, truth = _scored(predicted, truth, void)
    if not (predicted.any() and truth.any()):
        return float(not (predicted.any() or truth.any()))
    own, true = skeleton(predicted), skeleton(truth)
    precision = np.count_nonzero(own & truth) / np.count_nonzero(own)
    recall = np.count_nonzero(true & predicted) / np.count_nonzero(true)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def davis_scored(frames: Sequence[int]) -> Sequence[int]:
    """Select the annotated frames that semi-supervised DAVIS scores: not the first, which is given, nor the last."""
    return frames[1:-1]


# ---- classes: areas (..., C, 3) int64 are pixels in the intersection, the union and the truth of each of C classes


def areas(predicted: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None) -> np.ndarray:
    """(..., 3) int64: pixels in the intersection, the union and the truth of (..., H, W) bool masks.

    Raises ValueError when the shapes of predicted and truth differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks have shapes {predicted.shape} and {truth.shape}: expected the same")
    if void is not None:
        predicted, truth = predicted & ~void, truth & ~void
    both = (predicted & truth, predicted | truth, truth)
    return np.stack([np.count_nonzero(m, axis=(-2, -1)) for m in both], axis=-1).astype(np.int64)


def challenge_iou(areas: np.ndarray) -> np.ndarray:
    """(...): the mean IoU over the classes that are present in the truth of a frame, NaN for a frame without any.

    areas: (..., C, 3). The challenge's figure is the mean of it over frames.
    """
    return _nanmean(np.where(areas[..., 2] > 0, _ratio(areas), np.nan))


def mean_class_iou(areas: np.ndarray) -> float:
    """mcIoU: the mean over classes of a class's mean IoU over the frames that show it or claim to.

    areas: (T, C, 3)
    """
    return float(_nanmean(_nanmean(_ratio(areas).T)))


def mean_iou(areas: np.ndarray) -> float:
    """MIoU of semantic segmentation: intersections and unions are summed over frames, then the mean over classes.

    areas: (T, C, 3)
    """
    return float(_nanmean(_ratio(areas.sum(0))))


def _ratio(areas: np.ndarray) -> np.ndarray:
    """IoU of each class, NaN where its union is empty."""
    union = areas[..., 1]
    return np.where(union > 0, areas[..., 0] / np.maximum(union, 1), np.nan)


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Average over the last axis without NaN; the result is NaN, without a warning, where nothing is left."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


# ---- tracks: series over the frames of one recording


@dataclass(frozen=True)
class Presence:
    """On how many frames an object is where a mask is. hits: both; misses: only the object; false: only a mask."""

    hits: int
    misses: int
    false: int
    absent: int

    @property
    def precision(self) -> float:
        return _share(self.hits, self.hits + self.false)

    @property
    def recall(self) -> float:
        return _share(self.hits, self.hits + self.misses)

    @property
    def f1(self) -> float:
        return _share(2 * self.hits, 2 * self.hits + self.misses + self.false)

    @property
    def false_presence(self) -> float:
        """The share of frames without the object on which there is a mask all the same."""
        return _share(self.false, self.absent)

    def __add__(self, other: Presence) -> Presence:
        sums = (
            self.hits + other.hits,
            self.misses + other.misses,
            self.false + other.false,
            self.absent + other.absent,
        )
        return Presence(*sums)


def presence(predicted: np.ndarray, truth: np.ndarray) -> Presence:
    """predicted, truth: (T,) bool, whether the mask is not empty."""
    predicted, truth = np.asarray(predicted, bool), np.asarray(truth, bool)
    pairs = (predicted & truth, ~predicted & truth, predicted & ~truth, ~truth)
    return Presence(*(int(np.count_nonzero(pair)) for pair in pairs))


def matches(ious: np.ndarray) -> np.ndarray:
    """(N,) int: for each object the track that is on it, by an IoU above `MATCH`; -1 for none.

    ious: (N, M), of N objects and M tracks
    """
    if not ious.shape[1]:
        return np.full(len(ious), -1)
    best = ious.argmax(1)
    return np.where(ious[np.arange(len(ious)), best] > MATCH, best, -1)


def id_switches(matched: Sequence[int]) -> int:
    """How often an object is taken over by another track than the one that was on it last (CLEAR MOT's mismatches).

    matched: the track on each frame, -1 for none; the first is the object's own
    """
    held = [track for track in matched if track >= 0]
    return sum(before != after for before, after in pairwise(held))


def frames_to_recover(ious: Sequence[float], present: Sequence[bool], frames: Sequence[int]) -> tuple[list[int], int]:
    """How long a visible object stays lost, until its own track is on it again (IoU above `MATCH`).

    frames: numbers of the scored frames; frames without the object neither end a loss nor begin one
    Returns the lengths in frames of the losses that ended, and how many (0 or 1) did not.
    """
    lengths, since = [], None
    for iou_, there, frame in zip(ious, present, frames, strict=True):
        if there and iou_ <= MATCH and since is None:
            since = frame
        elif there and iou_ > MATCH and since is not None:
            lengths.append(int(frame - since))
            since = None
    return lengths, int(since is not None)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


# ---- outlines


def _scored(predicted: np.ndarray, truth: np.ndarray, void: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    shapes = [m.shape for m in (predicted, truth, void) if m is not None]
    if len(set(shapes)) > 1:
        raise ValueError(f"masks have shapes {' and '.join(map(str, shapes))}: expected the same")
    return (predicted, truth) if void is None else (predicted & ~void, truth & ~void)


def _outline(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that differ from the one to the right, below, or both, as DAVIS draws it.

    The last row has only a pixel to the right to differ from, the last column only one below, the last corner none.
    """
    line = np.zeros(mask.shape, bool)
    right, below = mask[:, :-1] ^ mask[:, 1:], mask[:-1] ^ mask[1:]
    line[:, :-1] |= right
    line[:-1] |= below
    line[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return line


def _window(line: np.ndarray, reach: int) -> tuple[slice, slice]:
    """Where anything is near the line; a few percent of the image for most objects."""
    x, y, width, height = cv2.boundingRect(line.view(np.uint8))
    return slice(max(0, y - reach), y + height + reach), slice(max(0, x - reach), x + width + reach)


def _near(line: np.ndarray, reach: int) -> np.ndarray:
    """(H, W) bool: pixels up to `reach` px away from the line, which is a dilation by a disc.

    A disc of whole pixels is the union of its inscribed rectangles, and dilation by a rectangle is fast.
    """
    source, near = line.view(np.uint8), np.zeros(line.shape, np.uint8)
    for width, height in _rectangles(reach):
        near |= cv2.dilate(source, np.ones((2 * height + 1, 2 * width + 1), np.uint8)).view(np.uint8)
    return near.view(bool)


@lru_cache
def _rectangles(radius: int) -> tuple[tuple[int, int], ...]:
    """Half widths and half heights of the largest rectangles in a disc of whole pixels."""
    heights = [math.isqrt(radius**2 - width**2) for width in range(radius + 1)]
    return tuple((w, h) for w, h in enumerate(heights) if w == radius or heights[w + 1] < h)
