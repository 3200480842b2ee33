"""Between tissue and sensor: shadows, smoke, blur, vignette and noise."""

from __future__ import annotations

import math

import cv2
import numpy as np

from sam2s_model.recordings.scene.config import SceneConfig
from sam2s_model.recordings.scene.instruments import Layer
from sam2s_model.recordings.scene.noise import SENSOR, SMOKE, Sway, fractal, smoothstep, stream

_COARSE = 8  # smoke is drawn at an eighth of the size
_SHADE = 4  # shadows at a quarter
_THICKEST = 0.8  # share of the picture that the densest smoke hides
_SHUTTER = 0.5  # share of the frame time that the shutter is open


def cast_shadow(image: np.ndarray, layer: Layer, config: SceneConfig) -> None:
    """Darken the image in place where an instrument keeps the light off what lies behind it.

    The lamp sits beside the lens, so the shadow is shifted by a part of the instrument's thickness, and soft.
    """
    rows, columns = layer.window
    pad = math.ceil(0.14 * config.unit)
    dx, dy = 0.045 * config.unit, 0.035 * config.unit
    top, left = max(0, rows.start - pad), max(0, columns.start - pad)
    bottom, right = min(config.height, rows.stop + pad), min(config.width, columns.stop + pad)
    size = (math.ceil((right - left) / _SHADE), math.ceil((bottom - top) / _SHADE))
    cover = np.ascontiguousarray(layer.rgba[:, :, 3])
    place = np.array([[1, 0, columns.start - left + dx], [0, 1, rows.start - top + dy]]) / _SHADE
    small = cv2.warpAffine(cv2.blur(cover, (_SHADE, _SHADE)), place, size, flags=cv2.INTER_LINEAR)
    small = cv2.GaussianBlur(small, (0, 0), max(0.6, 0.018 * config.unit / _SHADE))
    light = cv2.LUT(small, (255 - 0.52 * np.arange(256)).astype(np.uint8))
    light = cv2.resize(light, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    area = image[top:bottom, left:right]
    area[:] = cv2.multiply(area, cv2.cvtColor(light, cv2.COLOR_GRAY2RGB), scale=1 / 255)


def smear(layer: Layer, travel: np.ndarray, config: SceneConfig) -> Layer:
    """Blur a layer along the way (x, y in px) that it goes from one frame to the next."""
    path = travel * (_SHUTTER * config.blur)
    length = min(float(np.hypot(*path)), 0.06 * config.unit)
    if length < 1.0:
        return layer
    half = math.ceil(length / 2)
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    way = path / np.hypot(*path) * length / 2
    ends = np.round((np.stack([half - way, half + way])) * 16).astype(int)
    cv2.line(kernel, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 255, 1, cv2.LINE_AA, 4)
    weights = kernel.astype(np.float32) / max(1, int(kernel.sum()))
    # room for the trail, but none beyond the frame: what is cut by the frame goes on there
    rows, columns = layer.window
    left, top = min(half, columns.start), min(half, rows.start)
    right, bottom = min(half, config.width - columns.stop), min(half, config.height - rows.stop)
    roomy = cv2.copyMakeBorder(layer.rgba, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    trail = cv2.filter2D(roomy, -1, weights, borderType=cv2.BORDER_REPLICATE)
    return Layer(layer.x - left, layer.y - top, trail)


class Smoke:
    """Translucent smoke that drifts, thickens and clears."""

    def __init__(self, config: SceneConfig):
        rng = stream(config.seed, SMOKE)
        self._config = config
        self._size = math.ceil(config.width / _COARSE), math.ceil(config.height / _COARSE)
        side = 2 * max(self._size)
        self._clouds = [fractal(rng, side, side, side / 5, 4) for _ in range(2)]
        self._speed = rng.uniform(-1, 1, (2, 2)) * side / 9.0  # px of the coarse image, a second
        self._density = Sway(rng, 2.2 * config.event_period)
        self._tint = rng.uniform((190, 184, 178), (214, 208, 204))

    def cover(self, image: np.ndarray, seconds: float) -> np.ndarray:
        """Lay the smoke of a moment over an image, (H, W, 3) uint8."""
        config = self._config
        amount = config.smoke * (0.6 + 0.4 * self._density(seconds))
        if config.smoke <= 0:
            return image
        cloud = sum(self._drift(cloud, speed * seconds) for cloud, speed in zip(self._clouds, self._speed, strict=True))
        size = (config.width, config.height)
        thin = cv2.resize(smoothstep(0.42 + 0.26 * cloud), size, interpolation=cv2.INTER_LINEAR)
        veil = cv2.convertScaleAbs(thin, alpha=255 * _THICKEST * amount)
        clear = cv2.multiply(image, cv2.cvtColor(cv2.bitwise_not(veil), cv2.COLOR_GRAY2RGB), scale=1 / 255)
        shades = np.stack([np.arange(256) * tint / 255 for tint in self._tint], axis=-1).astype(np.uint8)
        return cv2.add(clear, cv2.LUT(cv2.cvtColor(veil, cv2.COLOR_GRAY2RGB), shades[None]))

    def _drift(self, cloud: np.ndarray, shift: np.ndarray) -> np.ndarray:
        # to and fro over a larger cloud: no seam, however long
        span = np.array(cloud.shape[::-1]) - self._size - 1
        x, y = (span - np.abs(np.mod(shift, 2 * span) - span)).astype(np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(cloud, np.array([[1, 0, x], [0, 1, y]]), self._size, flags=flags)


class Sensor:
    """Lens and sensor: the field's edge, vignette, passing defocus, noise."""

    def __init__(self, config: SceneConfig):
        rng = stream(config.seed, SENSOR)
        self._config = config
        x0, y0, radius = config.field_circle
        y, x = np.ogrid[: config.height, : config.width]
        distance = np.hypot(x - x0, y - y0).astype(np.float32)
        light = 1.04 / (1 + 0.62 * (distance / np.float32(0.55 * config.unit)) ** 2.4)
        light = np.maximum(light, 0.42 / (1 + 0.3 * (distance / np.float32(radius)) ** 2)) * 1.05
        self.field = np.ones((config.height, config.width), bool)
        if config.field == "circle":
            cover = np.clip(radius - distance + 0.5, 0, 1)  # share of the pixel that is inside
            self.field = cover >= 0.5
            light = light * cover
        self._light = cv2.cvtColor(np.clip(255 / 1.1 * light, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)
        self._focus, self._aim = Sway(rng, 5.3), rng.uniform(0.2, 0.6)
        self._grain = self._make_grain(rng)

    def expose(self, image: np.ndarray, index: int, seconds: float) -> np.ndarray:
        """Return what the sensor gives for a frame, (H, W, 3) uint8. index: seeds the noise."""
        config = self._config
        sigma = config.blur * config.unit / 512 * 2.4 * max(0.0, self._focus(seconds) - self._aim)
        if sigma > 0.35:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        image = cv2.multiply(image, self._light, scale=1.1 / 255)
        if config.noise > 0:
            y, x = stream(config.seed, SENSOR, 1, index).integers(0, 32, 2)
            bright, dark = (grain[y : y + config.height, x : x + config.width] for grain in self._grain)
            image = cv2.subtract(cv2.add(image, bright), dark)
        return image

    def _make_grain(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Make what the noise adds and what it takes away, larger than the image: each frame gets another window."""
        shape = (self._config.height + 32, self._config.width + 32)
        gray = rng.standard_normal((*shape, 1), dtype=np.float32)
        colour = cv2.GaussianBlur(rng.standard_normal((*shape, 3), dtype=np.float32), (0, 0), 0.8) * 2.0
        grain = 9.0 * self._config.noise * (0.75 * gray + 0.45 * colour)
        bright, dark = (np.clip(sign * grain + 0.5, 0, 255).astype(np.uint8) for sign in (1, -1))
        return bright, dark
