"""Lines as prompts: a stroke along an object says as much as the points on it, and for a tube its skeleton."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MOST_POINTS = 8  # of all strokes of a prompt together, but for one of each: with more of them, masks become worse
MOST_STROKES = 8  # that become points
SPACING = 0.08  # between points, in shorter image sides, where that makes no more
MOST_VERTICES = 4096
DRAWN = 3  # px, width of a tube that is drawn


@dataclass(frozen=True)
class Stroke:
    """A polyline. points: (V, 2) float, x y, px of the source image; label: 1 on the object, 0 not on it."""

    points: np.ndarray
    label: int = 1


def points_of(lines: Sequence[np.ndarray], height: int, width: int) -> list[np.ndarray]:
    """Place points on lines, each (V, 2), by arc length: (P, 2) float32 for each line, at least one.

    height, width: of the image, whose shorter side says how many a line takes; 8 are divided by the lines' lengths.
    """
    ends = [_lengths(line) for line in lines]
    total = sum(end[-1] for end in ends)
    return [_placed(line, end, total, SPACING * min(height, width)) for line, end in zip(lines, ends, strict=True)]


def _placed(line: np.ndarray, ends: np.ndarray, total: float, spacing: float) -> np.ndarray:
    """Put them at equal distances, both ends included; where it is one, in the middle."""
    if not ends[-1] > 0:
        return np.asarray(line[:1], np.float32)
    count = max(1, min(math.floor(MOST_POINTS * ends[-1] / total), 1 + math.ceil(ends[-1] / spacing)))
    at = np.linspace(0.0, ends[-1], count) if count > 1 else ends[-1:] / 2
    return np.stack([np.interp(at, ends, axis) for axis in np.asarray(line).T], axis=1).astype(np.float32)


def _lengths(line: np.ndarray) -> np.ndarray:
    """Measure the way from the line's beginning to each of its vertices, px: (V,)."""
    return np.concatenate(([0.0], np.hypot(*np.diff(np.asarray(line, np.float64), axis=0).T).cumsum()))


def drawn(strokes: Sequence[Stroke], height: int, width: int) -> np.ndarray:
    """Draw strokes 3 px wide: (H, W) bool. Those that are not on the object take away what they cross."""
    canvas = np.zeros((height, width), np.uint8)
    for stroke in sorted(strokes, key=lambda stroke: -stroke.label):
        vertices = np.round(np.asarray(stroke.points)).astype(np.int32)
        cv2.polylines(canvas, [vertices[:, None]], False, int(stroke.label), DRAWN)
    return canvas > 0
