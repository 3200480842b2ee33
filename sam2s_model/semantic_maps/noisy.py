"""The maps of a network that errs: true class maps, spoiled as such networks spoil them, each frame by itself.

To measure with, where no network is at hand: an object is of a wrong class or missing in some frames, its outline is
too narrow or too wide, and spots of wrong classes come and go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_model.semantic_maps.votes import BACKGROUND, VOID


@dataclass(frozen=True)
class Errors:
    """wrong, missing: chance of an object to be of another class, or background, in a frame

    outline: px, most by which an outline is off; spots: of a frame, on average; spot: largest radius, share of the side
    """

    wrong: float = 0.2
    missing: float = 0.1
    outline: int = 3
    spots: float = 4.0
    spot: float = 0.06


def spoiled(
    labels: np.ndarray, classes: dict[int, int], known: Sequence[int], seed: int, errors: Errors | None = None
) -> np.ndarray:
    """Return a map with errors, (H, W) uint8, the same for the same seed.

    labels: (H, W) uint8, the true objects; classes: of each object; known: all classes that may be taken for another
    """
    errors, rng = errors or Errors(), np.random.default_rng(seed)
    out = np.full(labels.shape, BACKGROUND, np.uint8)
    for label, value in sorted(classes.items()):
        mask = (labels == label).astype(np.uint8)
        if not mask.any():
            continue
        chance, others = rng.random(), [other for other in known if other != value]
        if chance < errors.wrong and others:
            value = int(rng.choice(others))
        elif chance < errors.wrong + errors.missing:
            continue
        off = int(rng.integers(-errors.outline, errors.outline + 1))
        if off:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(off) + 1, 2 * abs(off) + 1))
            mask = cv2.dilate(mask, kernel) if off > 0 else cv2.erode(mask, kernel)
        out[mask > 0] = value
    height, width = labels.shape
    for _ in range(int(rng.poisson(errors.spots))):
        centre = int(rng.integers(width)), int(rng.integers(height))
        radii = (1 + rng.random(2) * errors.spot * max(height, width)).astype(int)
        value = int(rng.choice([BACKGROUND, *known]))
        cv2.ellipse(out, centre, (int(radii[0]), int(radii[1])), float(rng.random() * 180), 0, 360, value, -1)
    out[labels == VOID] = VOID
    return out
