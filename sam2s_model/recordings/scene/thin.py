"""Structures a few pixels wide that lie on the tissue: a tree of vessels, or a suture."""

from __future__ import annotations

import math

import cv2
import numpy as np

from sam2s_model.recordings.scene.config import SceneConfig
from sam2s_model.recordings.scene.noise import THIN, stream

THIN_IDS = {"vessel": 7, "suture": 8}  # class ids, after those of the instruments
NARROWEST = 2.0  # px
_VESSEL_WIDTHS = (0.018, 0.011, 0.007, 0.004)  # of the trunk and its branches, shorter image sides
_SUTURE_WIDTH = 0.006
_COLOURS = {"vessel": (52, 44, 116), "suture": (34, 62, 150)}  # a vein, a dyed thread
_FRACTION = 4  # bits of a coordinate


class ThinStructure:
    """One of them, at rest on the tissue: the camera moves over it, and instruments pass before it."""

    def __init__(self, config: SceneConfig):
        """Draw its lines by chance, of the scene's seed."""
        self.name = "vessel" if config.thin == "vessels" else "suture"
        self.class_id = THIN_IDS[self.name]
        self._unit, self._size = config.unit, (config.height, config.width)
        rng = stream(config.seed, THIN)
        self._lines: list[tuple[np.ndarray, float]] = []
        if self.name == "vessel":
            self._grow(rng, np.array([0.0, 0.40]), -math.pi / 2 + rng.uniform(-0.3, 0.3), 0.26, 0)
        else:
            self._lines.append((_thread(rng) * self._unit, max(NARROWEST, _SUTURE_WIDTH * self._unit)))

    def _grow(self, rng: np.random.Generator, start: np.ndarray, angle: float, length: float, depth: int) -> None:
        """Add a branch and, at its end, two narrower ones. Places and lengths are in shorter image sides."""
        turns = np.cumsum(rng.normal(0, 0.10, 12)) + angle
        steps = length / len(turns) * np.stack((np.cos(turns), np.sin(turns)), axis=1)
        line = np.concatenate((start[None], start + steps.cumsum(0)))
        self._lines.append((line * self._unit, max(NARROWEST, _VESSEL_WIDTHS[depth] * self._unit)))
        if depth + 1 < len(_VESSEL_WIDTHS):
            for side in (-1, 1):
                spread = side * rng.uniform(0.35, 0.75)
                self._grow(rng, line[-1], float(turns[-1]) + spread, length * rng.uniform(0.6, 0.8), depth + 1)

    def draw(self, image: np.ndarray, view: np.ndarray) -> np.ndarray:
        """Lay it over an image (H, W, 3) RGB, in place; return its mask (H, W) bool: pixels that it covers by half.

        view: (2, 3) patient to image coordinates
        """
        covered = np.zeros(self._size, np.uint8)
        scale = math.hypot(view[0, 0], view[1, 0])
        for line, width in self._lines:
            seen = np.round((line @ view[:, :2].T + view[:, 2]) * (1 << _FRACTION)).astype(np.int32)
            thickness = max(int(NARROWEST), round(width * scale))
            cv2.polylines(covered, [seen[:, None]], False, 255, thickness, cv2.LINE_AA, _FRACTION)
        share = cv2.cvtColor(covered, cv2.COLOR_GRAY2RGB)
        colour = np.full_like(image, _COLOURS[self.name])
        image[:] = cv2.add(
            cv2.multiply(image, cv2.bitwise_not(share), scale=1 / 255), cv2.multiply(colour, share, scale=1 / 255)
        )
        return covered >= 128


def _thread(rng: np.random.Generator) -> np.ndarray:
    """Draw a thread with a loop in its middle: (K, 2), shorter image sides."""
    at = np.linspace(-1, 1, 160)
    x = 0.36 * at + 0.20 * np.sin(2.2 * math.pi * at)
    y = 0.10 * np.cos(2.2 * math.pi * at) + 0.05 * np.sin(rng.uniform(2, 4) * at + rng.uniform(0, 6))
    turn = rng.uniform(0, math.pi)
    return np.stack((x, y), axis=1) @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
