"""Prompts from the ground truth, without chance: the same mask always gives the same clicks.

The first click is on the object's centre, each further one on the centre of the largest region that is wrong (SAM2,
arXiv 2408.00714 app. D). A centre is the pixel that is furthest from the region's edge. Coordinates are x y, px.
"""

from __future__ import annotations

import cv2
import numpy as np

from sam2s_model.prompts import LEAST_BOX, NEGATIVE, POSITIVE, Prompt


def centre(region: np.ndarray) -> tuple[int, int]:
    """x, y of the pixel of a (H, W) bool region that is furthest from all that is not in it; the image ends a region.

    Of several the first, row by row. Raises ValueError when the region is empty.
    """
    if not region.any():
        raise ValueError("the region is empty: expected at least one pixel")
    inside = np.pad(region, 1).astype(np.uint8)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), region.shape)
    return int(x), int(y)


def correction(
    predicted: np.ndarray, truth: np.ndarray, void: np.ndarray | None = None
) -> tuple[tuple[int, int], int] | None:
    """Choose the next click and its label: POSITIVE where the object was missed, NEGATIVE where there is none.

    predicted, truth, void: (H, W) bool. The click goes on the largest connected region (8 neighbours) that is wrong; of
    equal ones a missed region comes first. Returns None when nothing is wrong.
    """
    best: tuple[int, np.ndarray, int] | None = None
    for wrong, label in ((truth & ~predicted, POSITIVE), (predicted & ~truth, NEGATIVE)):
        wrong = wrong if void is None else wrong & ~void
        count, regions, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=8)
        if count > 1:
            largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
            area = int(stats[largest, cv2.CC_STAT_AREA])
            if best is None or area > best[0]:
                best = area, regions == largest, label
    return (centre(best[1]), best[2]) if best else None


def box_of(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int]) -> np.ndarray:
    """Make a (4,) float32 box within an image of size (H, W); sides below a prompt's minimum are widened to it."""
    height, width = size
    least = int(LEAST_BOX)
    x0, y0 = max(0, min(x0, x1 - least, width - least)), max(0, min(y0, y1 - least, height - least))
    return np.array([x0, y0, max(x1, min(width, x0 + least)), max(y1, min(height, y0 + least))], np.float32)


def first_prompt(kind: str, mask: np.ndarray) -> Prompt:
    """Make the first prompt of an object.

    kind: "mask", "box" or "clicks", which gives the first click; mask: (H, W) bool, not empty
    """
    if kind == "mask":
        return Prompt(mask=mask)
    if kind == "box":  # right and bottom are the far edges of the last pixels
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        return Prompt(box=box_of(x, y, x + width, y + height, mask.shape))
    return Prompt(points=np.array([centre(mask)], np.float32), point_labels=np.array([POSITIVE]))
