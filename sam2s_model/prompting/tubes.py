"""Vessels, sutures, catheters: the skeleton of a mask, and the places on it that tell its shape.

In the manner of VesSAM (arXiv 2511.00981), whose code is not public.
"""

from __future__ import annotations

import cv2
import numpy as np

from sam2s_model.errors import ConfigError

MERGED = 3  # px up to which branch points are one
MOST_PLACES = 16
_AROUND = np.ones((3, 3), np.uint8)


def skeleton(mask: np.ndarray) -> np.ndarray:
    """Thin a (H, W) bool mask to lines one pixel wide (Zhang and Suen). Raises ConfigError without scikit-image."""
    try:
        from skimage.morphology import skeletonize
    except ImportError as error:
        raise ConfigError(
            "skeletons need scikit-image, which is not installed: pip install 'sam2s_ros[tubes]'"
        ) from error
    return skeletonize(np.asarray(mask, bool))


def tube_places(lines: np.ndarray, most: int = MOST_PLACES) -> np.ndarray:
    """Find the branch points of a skeleton, then the midpoints of its segments, the longest first.

    lines: (H, W) bool, from `skeleton`, not empty; most: how many places at most
    Returns (P, 2) int, x y; at least one.
    """
    thin = lines.astype(np.uint8)
    neighbours = cv2.filter2D(thin, -1, _AROUND, borderType=cv2.BORDER_CONSTANT) - thin
    branching = lines & (neighbours >= 3)
    near = cv2.dilate(branching.astype(np.uint8), np.ones((MERGED, MERGED), np.uint8))
    count, groups = cv2.connectedComponents(near, connectivity=8)
    places = [_middle(np.argwhere(branching & (groups == i))) for i in range(1, count)]
    rest = lines & (cv2.dilate(branching.astype(np.uint8), _AROUND) == 0)
    count, segments, stats, _ = cv2.connectedComponentsWithStats(rest.astype(np.uint8), connectivity=8)
    order = sorted(range(1, count), key=lambda i: -stats[i, cv2.CC_STAT_AREA])
    places += [_halfway(np.argwhere(segments == i)) for i in order[: max(0, most - len(places))]]
    return np.array(places[:most], np.int64)[:, ::-1]


def _middle(pixels: np.ndarray) -> np.ndarray:
    """Choose the pixel (y, x) of a group (K, 2) that is nearest to its mean."""
    return pixels[((pixels - pixels.mean(0)) ** 2).sum(1).argmin()]


def _halfway(pixels: np.ndarray) -> np.ndarray:
    """Choose the pixel (y, x) of a line without branches (K, 2) that halves its length."""
    left = {tuple(pixel) for pixel in pixels.tolist()}

    def beside(y: int, x: int) -> list[tuple[int, int]]:
        steps = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))  # straight ones first
        return [(y + dy, x + dx) for dy, dx in steps if (y + dy, x + dx) in left]

    at = min(left, key=lambda pixel: (len(beside(*pixel)), pixel))  # an end, where there is one
    path, length = [at], [0.0]
    left.remove(at)
    while following := beside(*at):
        step = float(np.hypot(following[0][0] - at[0], following[0][1] - at[1]))
        at = following[0]
        left.remove(at)
        path.append(at)
        length.append(length[-1] + step)
    return np.array(path[int(np.searchsorted(length, length[-1] / 2))])


def widened(lines: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Dilate a skeleton (H, W) bool to the usual width of its mask (H, W) bool, at least 3 px."""
    distances = cv2.distanceTransform(np.asarray(mask, np.uint8), cv2.DIST_L2, 3)
    radius = max(1, round(float(np.median(distances[lines])) - 0.5))
    shape = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(lines.astype(np.uint8), shape) > 0
