"""How the endoscope moves over the tissue."""

from __future__ import annotations

import math

import numpy as np

from sam2s_model.recordings.scene.config import SceneConfig
from sam2s_model.recordings.scene.noise import CAMERA, Sway, stream

PAN, ZOOM, ROLL = 0.10, 0.10, 0.12  # widest pan (image sides), zoom (factor) and rotation (rad) at camera_motion 1
TREMOR = 0.004  # image sides


class Camera:
    """Pan, zoom, rotation and hand tremor as a function of time."""

    def __init__(self, config: SceneConfig):
        rng = stream(config.seed, CAMERA)
        self._config = config
        self._pan = Sway(rng, 9.0), Sway(rng, 11.0)
        self._zoom, self._roll = Sway(rng, 13.0), Sway(rng, 17.0)
        self._tremor = Sway(rng, 0.37), Sway(rng, 0.31)

    def view(self, seconds: float) -> np.ndarray:
        """(2, 3) float64: from patient coordinates (px, origin at the centre of the scene) to image coordinates."""
        config, amount = self._config, self._config.camera_motion
        scale = 1.0 + amount * ZOOM * self._zoom(seconds)
        angle = amount * ROLL * self._roll(seconds)
        pan_x = amount * (PAN * self._pan[0](seconds) + TREMOR * self._tremor[0](seconds)) * config.width
        pan_y = amount * (PAN * self._pan[1](seconds) + TREMOR * self._tremor[1](seconds)) * config.height
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        x, y, _ = config.field_circle
        return np.array([[cos, -sin, x + pan_x], [sin, cos, y + pan_y]])


def invert(view: np.ndarray) -> np.ndarray:
    """Invert a (2, 3) affine transform."""
    linear = np.linalg.inv(view[:, :2])
    return np.hstack([linear, -linear @ view[:, 2:]])
