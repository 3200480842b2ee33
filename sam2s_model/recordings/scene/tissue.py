"""The tissue: organs with vessels, a height map lit from the camera, wet highlights, and blood."""

from __future__ import annotations

import math

import cv2
import numpy as np

from sam2s_model.recordings.scene.camera import PAN, ROLL, TREMOR, ZOOM, invert
from sam2s_model.recordings.scene.config import SceneConfig
from sam2s_model.recordings.scene.noise import BLOOD, TISSUE, Sway, fractal, smoothstep, stream

# colour at the dark and at the light end (RGB), bump of the surface, coarse lobes, vessels, fine capillaries
_KINDS = {
    "liver": ((92, 26, 27), (126, 42, 40), 0.10, 0.00, 0.10, 0.15),
    "fat": ((214, 146, 62), (246, 202, 122), 0.05, 0.09, 0.50, 0.30),
    "gallbladder": ((206, 168, 138), (232, 210, 174), 0.02, 0.00, 0.90, 0.60),
    "mucosa": ((198, 94, 74), (228, 138, 108), 0.06, 0.03, 0.70, 0.90),
    "bowel": ((214, 142, 122), (238, 182, 156), 0.04, 0.02, 0.80, 0.70),
    "muscle": ((150, 52, 46), (186, 84, 68), 0.09, 0.03, 0.30, 0.40),
}
_SLOPE_STEPS = 160.0  # of the 8-bit angle tables, per unit of slope
_LIGHT = 0.55  # slope of the light ray at one shorter image side from the middle


class Tissue:
    """A patch of tissue larger than any view of the camera. Drawn once, then warped and lit for each frame."""

    def __init__(self, config: SceneConfig):
        self._config = config
        rng = stream(config.seed, TISSUE)
        # the widest view: pan, zoom out and rotation at camera_motion 1, whatever this scene uses
        reach_x, reach_y = config.width * (0.5 + abs(config.field_x)), config.height * (0.5 + abs(config.field_y))
        grow = 1 / (1 - ZOOM)
        half_w = grow * (reach_x + reach_y * math.sin(ROLL) + (PAN + TREMOR) * config.width)
        half_h = grow * (reach_y + reach_x * math.sin(ROLL) + (PAN + TREMOR) * config.height)
        self._width, self._height = 2 * math.ceil(half_w) + 4, 2 * math.ceil(half_h) + 4
        self._paint(rng)
        self._blood = Sway(stream(config.seed, BLOOD), 3 * config.event_period)
        steps = np.arange(256) / _SLOPE_STEPS
        self._diffuse = np.clip(205 * (0.16 + 0.84 / (1 + (steps / 0.95) ** 2.4)), 0, 255).astype(np.uint8)
        shine = 270 * np.exp(-((steps / 0.06) ** 2)) + 34 * np.exp(-((steps / 0.2) ** 2))
        self._shine = np.clip(shine, 0, 255).astype(np.uint8)

    def draw(self, view: np.ndarray, seconds: float) -> np.ndarray:
        """Draw the tissue as the camera sees it, (H, W, 3) uint8 RGB, without vignette.

        view: (2, 3) patient to image coordinates; seconds: time, for the level of the blood.
        """
        size = (self._config.width, self._config.height)
        inverse = invert(view)
        inverse[:, 2] += (self._width / 2, self._height / 2)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        colour = cv2.warpAffine(self._colour, inverse, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        slope_x: np.ndarray = cv2.warpAffine(
            self._slope_x, inverse, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101
        )
        slope_y: np.ndarray = cv2.warpAffine(
            self._slope_y, inverse, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101
        )
        # the light ray's slope is linear in the image; turn it into the tissue's axes rather than every normal
        turn = inverse[:, :2] / math.sqrt(abs(np.linalg.det(inverse[:, :2])))
        x0, y0, _ = self._config.field_circle
        gain = _LIGHT / self._config.unit
        columns = (np.arange(size[0], dtype=np.float32) - np.float32(x0)) * np.float32(gain)
        rows = (np.arange(size[1], dtype=np.float32) - np.float32(y0))[:, None] * np.float32(gain)
        for slope, (along_x, along_y) in ((slope_x, turn[0]), (slope_y, turn[1])):
            slope -= columns * np.float32(along_x)
            slope -= rows * np.float32(along_y)
        angle = cv2.convertScaleAbs(cv2.magnitude(slope_x, slope_y), alpha=_SLOPE_STEPS)
        rgb = cv2.cvtColor(colour, cv2.COLOR_RGBA2RGB)
        if self._config.blood > 0:
            rgb = self._bleed(rgb, colour[:, :, 3], seconds)
        rgb = cv2.multiply(rgb, cv2.cvtColor(cv2.LUT(angle, self._diffuse), cv2.COLOR_GRAY2RGB), scale=1 / 165)
        return cv2.add(rgb, cv2.cvtColor(cv2.LUT(angle, self._shine), cv2.COLOR_GRAY2RGB))

    def _bleed(self, rgb: np.ndarray, wet: np.ndarray, seconds: float) -> np.ndarray:
        level = self._config.blood * (0.80 + 0.20 * self._blood(seconds))  # pools rise and are sucked off
        depth = smoothstep((np.arange(256) / 255 - (1 - 0.75 * level)) / 0.16)
        table = np.stack([255 * (1 - keep * depth) for keep in (0.50, 0.93, 0.90)], axis=-1).astype(np.uint8)
        return cv2.multiply(rgb, cv2.LUT(cv2.cvtColor(wet, cv2.COLOR_GRAY2RGB), table[None]), scale=1 / 255)

    def _paint(self, rng: np.random.Generator) -> None:
        """Fill colour (RGB and wetness, uint8) and the two slopes (float32) of the whole patch."""
        height, width, unit = self._height, self._width, self._config.unit
        traits, which, surface, gap = self._organs(rng)
        dark, light, bump, lobes, vessels, capillaries = (np.array(trait, np.float32) for trait in traits)
        broad = fractal(rng, height, width, unit / 5, 5)
        fine = fractal(rng, height, width, unit / 60, 3, gain=0.7)
        billow = np.abs(fractal(rng, height, width, unit / 9, 3))
        # colour: between the two ends of the organ, blotchy
        mix = np.clip(0.5 + 0.28 * broad + 0.07 * fine, 0, 1)[:, :, None]
        colour = dark[which] + (light - dark)[which] * mix
        net = fractal(rng, height, width, unit / 16, 3, gain=0.6)
        net = np.exp(-((net / 0.07) ** 2)) * np.clip(0.4 + 0.5 * broad, 0, 1) * capillaries[which]
        trees = self._vessels(rng) * vessels[which]
        veins = self._vessels(rng, count=5, thick=1.9) * vessels[which]
        inks = ((veins, (112, 60, 78), 0.45), (net, (168, 40, 34), 0.28), (trees, (150, 26, 26), 0.75))
        for layer, tint, opacity in inks:
            colour += (np.array(tint, np.float32) - colour) * (layer * np.float32(opacity))[:, :, None]
        crease = 1 - 0.72 * np.exp(-gap / (0.022 * unit))  # little light reaches the fold between two organs
        colour *= crease[:, :, None]
        # height: domes of the organs, lobes, fine wet grain
        surface = surface + (lobes[which] * billow * 0.10 + 0.0025 * broad) * unit
        surface = cv2.GaussianBlur(surface, (0, 0), max(0.6, unit / 200))
        grain = fine * cv2.GaussianBlur(bump[which], (0, 0), max(0.8, unit / 100))
        step = np.float32(unit / 60 * 0.9)  # so that bump is about the slope's deviation at any image size
        surface += grain * step * 0.5
        # at the bottom of a fold the slope passes zero: tilt it, or every fold would shine
        tilt = 1.6 * np.exp(-((gap / (0.015 * unit)) ** 2))
        self._slope_x = cv2.Scharr(surface, cv2.CV_32F, 1, 0, scale=1 / 32) + tilt
        self._slope_y = cv2.Scharr(surface, cv2.CV_32F, 0, 1, scale=1 / 32)
        wet = self._wetness(fine, broad)
        self._colour = np.dstack([np.clip(colour, 0, 255).astype(np.uint8), wet])
        self._colour = cv2.GaussianBlur(self._colour, (3, 3), 0)

    def _organs(self, rng: np.random.Generator):
        """Domes that push against each other: (traits, index map, height map, height above the next dome)."""
        height, width, unit = self._height, self._width, self._config.unit
        kinds = [_KINDS["muscle" if rng.random() < 0.5 else "mucosa"]]
        warmth = rng.uniform((0.94, 0.80, 0.80), (1.06, 1.02, 1.16))  # white balance and patient
        names = list(rng.permutation(list(_KINDS)))
        warp_x, warp_y = (0.06 * unit * fractal(rng, height, width, unit / 2, 2, gain=0.35) for _ in range(2))
        x = np.arange(width, dtype=np.float32)[None] + warp_x
        y = np.arange(height, dtype=np.float32)[:, None] + warp_y
        best = np.full((height, width), -0.02 * unit, np.float32)
        second = np.full((height, width), -1e6, np.float32)
        which = np.zeros((height, width), np.int32)
        count = int(rng.integers(6, 10))
        columns = max(2, round(math.sqrt(count * width / height)))
        for n in range(count):
            kinds.append(_KINDS[names[n % len(names)]])
            # a jittered grid keeps organs from lying on one another
            cx = width * ((n % columns) + rng.uniform(0.2, 0.8)) / columns
            cy = height * ((n // columns) + rng.uniform(0.1, 0.9)) / math.ceil(count / columns)
            long, short = unit * rng.uniform(0.38, 0.7), unit * rng.uniform(0.22, 0.42)
            angle = rng.uniform(0, math.pi)
            u = ((x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)) / np.float32(long)
            v = ((y - cy) * math.cos(angle) - (x - cx) * math.sin(angle)) / np.float32(short)
            dome = np.float32(unit * rng.uniform(0.12, 0.22)) * (1 - u * u - v * v)
            over = dome > best
            np.maximum(second, np.where(over, best, dome), out=second)
            np.maximum(best, dome, out=best)
            which[over] = n + 1
        traits = [np.array(trait) for trait in zip(*kinds, strict=True)]
        for end in (0, 1):
            jitter = rng.uniform(0.95, 1.05, (len(kinds), 3))
            traits[end] = traits[end] * warmth * jitter
        return traits, which, best, best - second

    def _vessels(self, rng: np.random.Generator, count: int = 14, thick: float = 1.0) -> np.ndarray:
        """Branching vessels, (H, W) float32 from 0 to 1."""
        unit = self._config.unit
        layer = np.zeros((self._height, self._width), np.uint8)
        for _ in range(count):
            start = rng.uniform((0, 0), (self._width, self._height))
            open_ends = [(start, rng.uniform(0, 2 * math.pi), thick * unit * rng.uniform(0.004, 0.009), 0)]
            while open_ends:
                point, heading, breadth, depth = open_ends.pop()
                turns = rng.normal(0, 0.34, 14)
                headings = heading + np.cumsum(turns)
                steps = unit * 0.017 * np.stack([np.cos(headings), np.sin(headings)], axis=-1)
                path = point + np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])
                ink = int(255 * min(1.0, breadth / 0.9))  # thinner than a pixel: fainter
                line = np.round(path * 16).astype(np.int32)
                cv2.polylines(layer, [line], False, ink, max(1, round(breadth)), cv2.LINE_AA, 4)
                if depth < 4:
                    side = 1 if rng.random() < 0.5 else -1
                    open_ends.append((path[-1], headings[-1] + side * rng.uniform(0.1, 0.4), breadth * 0.8, depth + 1))
                    fork = int(rng.integers(4, 14))
                    branch = headings[fork - 1] - side * rng.uniform(0.5, 1.0)
                    open_ends.append((path[fork], branch, breadth * 0.6, depth + 1))
        soft = cv2.GaussianBlur(layer, (0, 0), max(0.5, thick * unit / 700))
        return soft.astype(np.float32) * np.float32(1 / 255)

    def _wetness(self, fine: np.ndarray, broad: np.ndarray) -> np.ndarray:
        """Where blood gathers first, (H, W) uint8: pools, and drops around them."""
        rng = stream(self._config.seed, BLOOD, 1)
        unit, height, width = self._config.unit, self._height, self._width
        best = np.full((height, width), -1, np.float32)
        x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
        for n in range(int(rng.integers(4, 8))):
            reach = unit * (rng.uniform(0.2, 0.36) if n < 2 else rng.uniform(0.05, 0.14))
            cx, cy = rng.uniform((0.25 * width, 0.25 * height), (0.75 * width, 0.75 * height))
            squash = rng.uniform(0.5, 1.6)
            np.maximum(best, 1 - (((x - cx) * squash) ** 2 + ((y - cy) / squash) ** 2) / np.float32(reach**2), out=best)
        wet = 0.5 + 0.42 * best + 0.13 * broad + 0.02 * fine
        return np.clip(255 * wet, 0, 255).astype(np.uint8)
