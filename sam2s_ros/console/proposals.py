"""What discovery has found on a picture, as the page draws it and a person accepts it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

ROUGH = 1.0  # px that an outline may be off
LEAST_POINTS = 3


@dataclass(frozen=True)
class Proposed:
    """A region that may be an object. id: for the prompt that accepts it; outline: parts, (P, 2) each, px, x y

    class_name: what it is most like, "" for nothing known; score: 0..1, of the mask; class_score: None where unknown
    """

    id: int
    class_name: str
    score: float
    class_score: float | None
    outline: tuple[np.ndarray, ...]

    def shown(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {
            "id": self.id, "class": self.class_name, "score": round(self.score, 4), "class_score": self.class_score,
            "outline": [part.tolist() for part in self.outline],
        }  # fmt: skip


@dataclass(frozen=True)
class Discovered:
    """The proposals of one picture. stamp: ns, of the picture"""

    stamp: int
    proposals: tuple[Proposed, ...]


def proposed(
    number: int, mask: np.ndarray, box: tuple[int, int, int, int], class_name: str, score: float, class_score: float
) -> Proposed:
    """Make one of its mask, (H, W) bool, and the box of that, x0 y0 x1 y1, px. class_score: NaN where unknown"""
    x0, y0, x1, y1 = box
    inside = np.ascontiguousarray(mask[y0:y1, x0:x1], np.uint8)
    parts, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x0, y0))
    rough = (cv2.approxPolyDP(part, ROUGH, True)[:, 0] for part in parts)
    known = round(class_score, 4) if math.isfinite(class_score) else None
    outline = tuple(part for part in rough if len(part) >= LEAST_POINTS)
    return Proposed(number, class_name, score if math.isfinite(score) else 0.0, known, outline)
