"""Hole filling against connected components counted by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from sam2s_model.tracking.holes import FILLED, fill_holes


def expected(logits: np.ndarray, area: int) -> np.ndarray:
    out = logits.copy()
    count, labels, stats, _ = cv2.connectedComponentsWithStats((logits <= 0).astype(np.uint8), connectivity=8)
    for i in range(1, count):
        if stats[i, cv2.CC_STAT_AREA] <= area:
            out[labels == i] = FILLED
    return out


@pytest.mark.parametrize("area", [0, 1, 2, 3, 8, 15])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.35, 0.5])
def test_the_same_pixels_as_connected_components(area, density):
    rng = np.random.default_rng(int(100 * density) + area)
    logits = np.where(rng.random((5, 40, 56)) < density, -1.0, 1.0).astype(np.float32)
    got = fill_holes(torch.from_numpy(logits)[:, None], area)[:, 0].numpy()
    for one, filled in zip(logits, got, strict=True):
        np.testing.assert_array_equal(filled, expected(one, area))


def test_thin_diagonals_and_borders():
    logits = np.ones((6, 12), np.float32)
    logits[np.arange(6), np.arange(6)] = -1  # 6 pixels, connected by corners
    logits[0, 9:] = -1  # 3 pixels at the border
    for area in range(1, 8):
        got = fill_holes(torch.from_numpy(logits)[None, None], area)[0, 0].numpy()
        np.testing.assert_array_equal(got, expected(logits, area))
