"""Labels of a clip's first frame, as `match` would propagate them after a while: what the mask decoder learns to mend.

A tracked frame's labels are those of its mask, in which parts are missing that were lost on the way, and others are too
many. Taught on the labels of true masks alone, the mask decoder believes what it is given, and what is lost stays lost.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.tracking.memory.matching import Matching
from sam2s_model.tracking.propagation import Propagated, neighbours, patched, small, unit_tokens, unpatched

BELIEVED = (0.0, 0.25, 0.5)  # how much of a lost part is still believed in, or how much less of one that is too many
LEAST_LEFT = 0.25  # of the object's area; otherwise the labels stay as they were


def spoil(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Return labels (h, w) float32 0..1 of a mask (h, w) bool that has lost one or two parts, or gained some.

    A part is all beyond a line, a spot of the object, a spot at its outline, or a rim inside or outside of it.
    """
    labels = mask.astype(np.float32)
    if not mask.any():
        return labels
    radius = np.sqrt(mask.sum() / np.pi)  # of a disc of that area
    for _ in range(int(rng.integers(1, 3))):
        lot, believed = rng.random(), float(rng.choice(BELIEVED))
        if lot < 0.45:
            labels[_beyond_a_line(rng, mask)] *= believed
        elif lot < 0.7:
            labels[_spot(rng, mask, radius, 2.0)] *= believed
        elif lot < 0.9:
            gained = _spot(rng, mask, radius, 0.8 * radius) & ~mask
            labels[gained] = np.maximum(labels[gained], 1 - believed)
        else:
            change = cv2.dilate if rng.random() < 0.5 else cv2.erode
            moved = change(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=int(rng.integers(1, 4)))
            labels = np.mean([labels, moved], axis=0, dtype=np.float32)
    left = np.count_nonzero(labels > Matching.threshold)
    return labels if left > LEAST_LEFT * np.count_nonzero(mask) else mask.astype(np.float32)


def _beyond_a_line(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Return the places (h, w) bool on one side of a line that has 45 to 95 % of the mask on its other side."""
    angle, kept = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.95)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    along = np.cos(angle) * x + np.sin(angle) * y
    return along > np.quantile(along[mask], kept)


def _spot(rng: np.random.Generator, mask: np.ndarray, size: float, away: float) -> np.ndarray:
    """Return an ellipse (h, w) bool of 4 to 36 % of a mask's area, whose centre is about `away` from one of its places.

    size: of the mask, the radius of a disc of its area
    """
    ys, xs = np.nonzero(mask)
    place = int(rng.integers(len(xs)))
    radius, long = max(2.0, size * rng.uniform(0.2, 0.6)), rng.uniform(0.5, 2.0)
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    x, y = x - xs[place] - away * rng.normal(), y - ys[place] - away * rng.normal()
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (u / long) ** 2 + (v * long) ** 2 < radius**2


@torch.no_grad()
def propagate(before: Tensor, now: Tensor, labels: Tensor, matching: Matching) -> Propagated:
    """Propagate the labels of objects of one frame to a later one, as `match` does where it is the only other frame.

    before, now: (1, dim, h, w), coarse features; labels: (N, 1, 4h, 4w) fp32 0..1, on the first
    """
    grid = (now.shape[2], now.shape[3])
    tokens = unit_tokens(now)
    weights, places = neighbours(tokens, unit_tokens(before)[None], grid, matching)
    cells = patched(small(labels)).permute(1, 2, 0).flatten(1)  # (places, cells N)
    votes = F.embedding_bag(places, cells, per_sample_weights=weights.flatten(1), mode="sum")
    share = votes / weights.flatten(1).sum(1, keepdim=True).clamp(min=1e-12)
    maps = unpatched(share.unflatten(1, (-1, len(labels))).permute(2, 0, 1), grid)
    return Propagated.of(tokens, maps, matching)
