"""What the instruments do: work, cross, leave, return. Defined in seconds, without end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sam2s_model.recordings.scene.camera import PAN, TREMOR
from sam2s_model.recordings.scene.config import SceneConfig
from sam2s_model.recordings.scene.noise import INSTRUMENT, SCHEDULE, WOBBLE, Sway, smoothstep, stream

# parts of a cycle: at home, at work, crossed, still crossed, at home, outside, outside, (next cycle's home)
_KEYS = np.array([0.0, 0.14, 0.29, 0.38, 0.53, 0.70, 0.78, 1.0])
_CROSS, _AWAY = (2, 3), (5, 6)
_OUTSIDE = (_KEYS[5] + _KEYS[6]) / 2


@dataclass(frozen=True)
class Pose:
    """Where an instrument is. point: end of the shaft in patient coordinates (px); angle: of the shaft, pointing
    forwards (rad, x to y); bend: of the wrist; opening: 0 shut to 1 wide; size: factor, larger nearer the camera.
    """

    point: np.ndarray
    angle: float
    bend: float
    opening: float
    size: float


class Rig:
    """All instruments of a scene. In each event period two of them cross, then one leaves and returns."""

    def __init__(self, config: SceneConfig, reach: float):
        """reach: px from the end of a shaft to the furthest tip."""
        self._config, count = config, config.instruments
        rng = stream(config.seed, SCHEDULE)
        self._radius = config.field_circle[2]
        self._work = min(self._radius, 0.55 * config.unit)
        drift = config.camera_motion * (PAN + TREMOR) * math.hypot(config.width, config.height)
        self._away = 1.05 * self._radius + 1.1 * reach + 1.2 * drift
        # the first two come from the lower left and right, as a surgeon's hands do; the others from between
        spread, tilt = rng.uniform(0.9, 1.25), rng.uniform(-0.5, 0.5)
        sides = [spread, -spread, math.pi, 0.5 * (math.pi + spread), -0.5 * (math.pi + spread), 0.0]
        self._ports = [math.pi / 2 + tilt + side for side in sides[:count]]
        periods = (2.3, 1.9, 2.9, 1.7, 6.1)  # s, of x, y, wrist, jaws, distance to the camera
        self._sway = [
            [Sway(stream(config.seed, WOBBLE, i, n), period) for n, period in enumerate(periods)] for i in range(count)
        ]

    @property
    def shaft_length(self) -> float:
        """Px a shaft must have to come in from outside of any view."""
        return self._away + 0.6 * self._work

    def poses(self, seconds: float) -> list[Pose]:
        """Return a pose for each instrument, in order of their labels."""
        return [self._pose(i, seconds) for i in range(self._config.instruments)]

    def order(self, seconds: float) -> list[int]:
        """Return the instruments' indices from the furthest to the nearest; the order changes when all are at home."""
        return self._cast(self._cycle(seconds)[0])[0]

    def _cycle(self, seconds: float) -> tuple[int, float]:
        """Return the number of the cycle and its share that has passed, which stands still while one stays away."""
        period, absence = self._config.event_period, self._config.absence
        cycle = math.floor(seconds / (period + absence))
        if not absence:
            return cycle, seconds / period - cycle
        gone, passed = _OUTSIDE * period, seconds - cycle * (period + absence)
        return cycle, (passed if passed < gone else max(gone, passed - absence)) / period

    def _cast(self, cycle: int) -> tuple[list[int], list[int], int]:
        """Who plays in a cycle: (painter's order, the pair that crosses, the one that leaves)."""
        rng = stream(self._config.seed, SCHEDULE, 1, cycle)
        order, pair = rng.permutation(self._config.instruments).tolist(), rng.permutation(self._config.instruments)[:2]
        return order, pair.tolist(), int(pair[int(rng.integers(len(pair)))])

    def _pose(self, i: int, seconds: float) -> Pose:
        cycle, share = self._cycle(seconds)
        keys = self._keys(i, cycle)
        keys[-1] = self._keys(i, cycle + 1)[0]
        n = min(int(np.searchsorted(_KEYS, share, side="right")) - 1, len(_KEYS) - 2)
        mix = smoothstep((share - _KEYS[n]) / (_KEYS[n + 1] - _KEYS[n]))
        x, y, bend, size = keys[n] + (keys[n + 1] - keys[n]) * mix
        sway = [wander(seconds) for wander in self._sway[i]]
        point = np.array([x, y]) + 0.04 * self._work * np.array(sway[:2])
        # the shaft turns about its trocar, far outside
        pivot = self._toward(i) * (self._away + self._radius)
        angle = math.atan2(point[1] - pivot[1], point[0] - pivot[0])
        opening = float(smoothstep(0.45 + 0.9 * sway[3]))
        return Pose(point, angle, bend + 0.3 * sway[2], opening, size * (1 + 0.04 * sway[4]))

    def _keys(self, i: int, cycle: int) -> np.ndarray:
        """(keys, 4): x, y of the shaft's end (px), bend (-1 to 1), size, at the times of _KEYS."""
        rng = stream(self._config.seed, INSTRUMENT, i, cycle)
        _, pair, leaver = self._cast(cycle)
        toward = self._toward(i)
        across = np.array([-toward[1], toward[0]])
        keys = np.zeros((len(_KEYS), 4))
        keys[:, 2], keys[:, 3] = rng.uniform(-0.7, 0.7, len(_KEYS)), rng.uniform(0.92, 1.08, len(_KEYS))
        depth, aside = rng.uniform(0.55, 0.72, len(_KEYS)), rng.uniform(-0.12, 0.12, len(_KEYS))
        if self._config.instruments > 1 and i in pair:
            depth[list(_CROSS)] = rng.uniform(-0.34, -0.22, 2)  # past the middle: the two shafts lie over each other
        keys[:, :2] = self._work * (depth[:, None] * toward + aside[:, None] * across)
        if i == leaver:
            keys[list(_AWAY), :2] = self._away * toward
        return keys

    def _toward(self, i: int) -> np.ndarray:
        return np.array([math.cos(self._ports[i]), math.sin(self._ports[i])])
