"""Lines as prompts: a stroke along an object says as much as the points on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MOST_POINTS = 8  # of a stroke
SPACING = 0.08  # between them, in shorter image sides, where that makes no more
MOST_VERTICES = 4096


@dataclass(frozen=True)
class Stroke:
    """A polyline. points: (V, 2) float, x y, px of the source image; label: 1 on the object, 0 not on it."""

    points: np.ndarray
    label: int = 1


def points_along(line: np.ndarray, height: int, width: int) -> np.ndarray:
    """Place points on a line (V, 2) at equal distances by arc length, both ends included: (P, 2) float32, P up to 8.

    height, width: of the image, whose shorter side says how many it takes. A line without length is one point.
    """
    line = np.asarray(line, np.float64)
    ends = np.concatenate(([0.0], np.hypot(*np.diff(line, axis=0).T).cumsum()))
    if not ends[-1] > 0:
        return line[:1].astype(np.float32)
    count = min(MOST_POINTS, 1 + math.ceil(ends[-1] / (SPACING * min(height, width))))
    at = np.linspace(0.0, ends[-1], count)
    return np.stack([np.interp(at, ends, axis) for axis in line.T], axis=1).astype(np.float32)
