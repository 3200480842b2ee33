"""Seeded randomness: independent streams and smooth noise."""

from __future__ import annotations

import cv2
import numpy as np

# one stream a purpose: leaving the instruments out must not change the tissue
TISSUE, CAMERA, INSTRUMENT, SCHEDULE, SMOKE, BLOOD, SENSOR, WOBBLE, THIN = range(9)


def stream(seed: int, purpose: int, *numbers: int) -> np.random.Generator:
    """Return the generator of one purpose (and for example one instrument, one cycle) of a seed."""
    return np.random.default_rng([seed, purpose, *numbers])


def fractal(
    rng: np.random.Generator, height: int, width: int, cell: float, octaves: int, gain: float = 0.5
) -> np.ndarray:
    """Multi-octave value noise, (height, width) float32, zero mean and about unit deviation.

    cell: px between the knots of the coarsest octave; each next octave halves it and has gain times its weight.
    Octaves finer than one pixel are left out.
    """
    total = np.zeros((height, width), np.float32)
    weight, power = 1.0, 0.0
    for _ in range(octaves):
        shape = (max(2, round(height / cell)) + 2, max(2, round(width / cell)) + 2)
        knots = rng.standard_normal(shape, dtype=np.float32)
        total += np.float32(weight) * cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC)
        power += weight * weight
        weight, cell = weight * gain, cell / 2
        if cell < 1:
            break
    return total * np.float32(1.4 / power**0.5)


def smoothstep(x):
    """0 below 0, 1 above 1, smooth between (number or array)."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


class Sway:
    """A smooth wandering in time without end: three sines of unrelated periods, within -1 to 1."""

    def __init__(self, rng: np.random.Generator, period: float):
        """period: s, of the slowest sine."""
        self._rates = 2 * np.pi / period * np.array([1.0, 1.618, 2.759]) * rng.uniform(0.9, 1.1, 3)
        self._phases = rng.uniform(0, 2 * np.pi, 3)
        self._weights = np.array([0.6, 0.27, 0.13])

    def __call__(self, seconds: float) -> float:
        return float(self._weights @ np.sin(self._rates * seconds + self._phases))
