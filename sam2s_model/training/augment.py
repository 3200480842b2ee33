"""Crop, mirror, turn, colour and spoil clips: one draw for a clip, a little jitter for each of its frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_model.training.data_config import AugmentConfig

SPOTS = (1, 7)  # specular highlights of a clip, the upper end exclusive
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Geometry:
    """Where each frame of a clip is taken from.

    matrices: (T, 2, 3), from places in the square clip to places in the source, both 0..1, x y
    """

    matrices: np.ndarray

    def warp(self, t: int, image: np.ndarray, size: int, nearest: bool = False) -> np.ndarray:
        """Cut frame t, (size, size, ...), from an image or labels (H, W, ...); beyond the border it is mirrored."""
        image = np.ascontiguousarray(image) if nearest else _shrunk(image, self.matrices[t], size)
        height, width = image.shape[:2]
        # cv2 counts from the first pixel's centre; a place of 0..1 counts from its edge
        to_clip = np.array([[1 / size, 0, 0.5 / size], [0, 1 / size, 0.5 / size], [0, 0, 1]])
        to_source = np.array([[width, 0, -0.5], [0, height, -0.5], [0, 0, 1]])
        inverse = (to_source @ np.vstack([self.matrices[t], [0, 0, 1]]) @ to_clip)[:2]
        flags = (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, inverse, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101)

    def warp_features(self, t: int, features: np.ndarray) -> np.ndarray:
        """Cut frame t from a feature map (C, h, w), as float16.

        Mirrors places, not what a feature says of left and right.
        """
        planes, side = features.astype(np.float32).transpose(1, 2, 0), features.shape[-1]
        # cv2 warps up to four channels at once
        parts = [self.warp(t, np.ascontiguousarray(planes[..., i : i + 4]), side) for i in range(0, len(features), 4)]
        parts = [part.reshape(side, side, -1) for part in parts]
        return np.concatenate(parts, axis=2).transpose(2, 0, 1).astype(np.float16)


def draw_geometry(
    rng: np.random.Generator,
    config: AugmentConfig,
    frames: int,
    focus: tuple[float, float] | None = None,
    motion: float = 0.0,
) -> Geometry:
    """Draw where a clip is cut from.

    focus: place (x, y) of 0..1 in the source that the first frame shows, such as an object's middle
    motion: of a still that stands in for a video, in image sides a frame; 0: the frames only jitter
    """
    zoom = math.exp(rng.uniform(0, math.log(config.zoom)))
    aspect = math.exp(rng.uniform(-1, 1) * math.log(config.stretch))
    sides = np.minimum(1.0, np.array([aspect, 1 / aspect]) ** 0.5 / zoom)
    mirror = np.where(rng.random(2) < config.mirror, -1.0, 1.0)
    centre = rng.uniform(sides / 2, 1 - sides / 2)
    if focus is not None:
        centre = np.clip(np.array(focus) + rng.uniform(-0.35, 0.35, 2) * sides, sides / 2, 1 - sides / 2)
    angle = math.radians(config.rotation) * rng.uniform(-1, 1)
    drift = rng.normal(0, 1, 4) * motion  # x, y, turn, growth: a steady part and a random one
    state, matrices = np.zeros(4), []
    for t in range(frames):
        jitter = rng.normal(0, config.jitter, 4) if t else np.zeros(4)
        x, y, turn, growth = state + jitter
        state = state + 0.5 * drift + 0.5 * rng.normal(0, 1, 4) * motion
        a = angle + turn
        spin = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        linear = np.diag(sides) @ spin @ np.diag(mirror) * math.exp(growth)
        offset = centre + np.array([x, y]) * sides - linear @ np.array([0.5, 0.5])
        matrices.append(np.column_stack([linear, offset]))
    return Geometry(np.stack(matrices))


class ColourChange:
    """A drawn change of colour, sharpness and light, the same for a clip but for a flicker from frame to frame."""

    def __init__(self, rng: np.random.Generator, config: AugmentConfig, frames: int):
        strength = config.colour
        gain = 1 + strength * rng.uniform(-0.8, 0.8)
        balance = 1 + strength * rng.uniform(-0.35, 0.35, 3)
        gamma = math.exp(strength * rng.uniform(-0.9, 0.9))
        flicker = 1 + 0.1 * strength * rng.uniform(-1, 1, frames)
        ramp = np.arange(256) / 255
        curves = (255 * (f * gain * balance * ramp[:, None]) ** gamma + 0.5 for f in flicker)
        self._tables = [np.clip(curve, 0, 255).astype(np.uint8)[None] for curve in curves]
        saturation = 1 + strength * rng.uniform(-1, 1)
        saturation = 0.0 if rng.random() < config.gray else saturation
        self._mix = (saturation * np.eye(3) + (1 - saturation) * _LUMA).astype(np.float32)
        self._plain = strength == 0
        self._gray = saturation == 0
        blurred = rng.random() < config.blur
        self._sigma = rng.uniform(0.002, 0.006) * blurred  # of the side
        self._spots = self._draw_spots(rng, frames) if rng.random() < config.highlights else None
        self._noise: tuple[float, np.ndarray] | None = None
        if config.noise:
            self._noise = 255 * config.noise * rng.random(), rng.integers(2**32, size=frames)

    def apply(self, t: int, image: np.ndarray) -> np.ndarray:
        """Change frame t, (S, S, 3) uint8 RGB."""
        if not self._plain:
            image = cv2.LUT(image, self._tables[t])
        if self._gray or not self._plain:
            image = cv2.transform(image, self._mix)
        if self._spots is not None:
            image = cv2.add(image, self._light(self._spots[t], image.shape[0]))
        if self._sigma:
            image = cv2.GaussianBlur(image, (0, 0), self._sigma * image.shape[0])
        if self._noise is not None:
            grain = np.random.default_rng(self._noise[1][t]).standard_normal(image.shape, np.float32)
            image = np.clip(image + self._noise[0] * grain + 0.5, 0, 255).astype(np.uint8)
        return image

    @staticmethod
    def _draw_spots(rng: np.random.Generator, frames: int) -> np.ndarray:
        """Draw (T, N, 6): x, y, long and short half axis (in sides), angle (degrees), brightness of each spot."""
        count = int(rng.integers(*SPOTS))
        spots = np.column_stack(
            [
                rng.uniform(0, 1, (count, 2)),
                rng.uniform(0.006, 0.05, count),
                rng.uniform(0.003, 0.015, count),
                rng.uniform(0, 180, count),
                rng.uniform(90, 255, count),
            ]
        )
        moved = np.repeat(spots[None], frames, axis=0)
        moved[:, :, :2] += np.cumsum(rng.normal(0, 0.01, (frames, count, 2)), axis=0)
        moved[:, :, 5] *= rng.uniform(0.5, 1, (frames, count))
        return moved

    @staticmethod
    def _light(spots: np.ndarray, size: int) -> np.ndarray:
        light: np.ndarray = np.zeros((size, size), np.uint8)
        for x, y, long, short, angle, bright in spots:
            axes = (max(1, round(long * size)), max(1, round(short * size)))
            cv2.ellipse(light, (round(x * size), round(y * size)), axes, angle, 0, 360, int(bright), -1)
        light = cv2.GaussianBlur(light, (0, 0), 0.004 * size + 0.5)
        return cv2.cvtColor(light, cv2.COLOR_GRAY2RGB)


def _shrunk(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Make an image smaller by whole factors where the clip is, or sampling it would alias."""
    height, width = image.shape[:2]
    # px of the source to one px of the clip, along the source's axes
    steps = np.abs(matrix[:, :2]).max(axis=1) * (width, height) / size
    across, down = (max(1, int(step + 0.3)) for step in steps)
    if across == down == 1:
        return np.ascontiguousarray(image)
    return cv2.resize(image, (max(1, width // across), max(1, height // down)), interpolation=cv2.INTER_AREA)
