"""How well masks fit: one formula a function. J and F are those of DAVIS (arXiv 1704.00675 sec. 4)."""

from __future__ import annotations

import math

import cv2
import numpy as np

BOUNDARY_TOLERANCE = 0.008  # of the image's diagonal, as in the DAVIS evaluation


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
    """(H, W) bool: pixels up to `reach` px away from the line, which is a dilation by a disc, but faster."""
    distance = cv2.distanceTransform((~line).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance <= reach + 1e-3  # distances are roots of whole numbers: none is that close above
