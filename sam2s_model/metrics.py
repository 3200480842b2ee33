"""How well a mask fits: one formula a function. The other measures of the field join this file with the evaluator."""

from __future__ import annotations

import numpy as np


def iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two (H, W) bool masks; 1 when both are empty.

    Raises ValueError when the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks have shapes {predicted.shape} and {truth.shape}: expected the same")
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0
