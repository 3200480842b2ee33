"""The rigid parts of instruments as small textured reliefs: coverage, colour and surface slope.

A part lies along +x of its own coordinates, in units of the shaft's diameter, with its joint at the origin. It is
drawn once per scene; each frame only warps and lights it, so a highlight stays where the light wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_model.recordings.scene.noise import fractal, smoothstep

_FINE = 4  # subpixels for the coverage of an edge
Colour = tuple[int, int, int]
Edge = Callable[[np.ndarray], np.ndarray]  # y over x / length


@dataclass(frozen=True, eq=False)
class Finish:
    """How a surface answers the light: diffuse share, broad sheen, sharp highlight (0 to 1)."""

    diffuse: float
    sheen: float
    sharp: float


STEEL = Finish(0.55, 0.46, 0.95)
MATTE = Finish(0.70, 0.22, 0.40)
CERAMIC = Finish(0.95, 0.15, 0.60)


@dataclass(frozen=True, eq=False)
class ToolPart:
    """rgba (h, w, 4) uint8: colour (defined a little beyond the edge) and coverage; slope_x, slope_y (h, w) float32:
    the surface's tilt; origin (x, y): the joint in px of the arrays; scale: px a unit; finish: of the surface.
    """

    rgba: np.ndarray
    slope_x: np.ndarray
    slope_y: np.ndarray
    origin: tuple[float, float]
    scale: float
    finish: Finish


class Canvas:
    """Draws one part. Coordinates are units, x along the part, y across; the drawn order is the layering."""

    def __init__(self, box: tuple[float, float, float, float], scale: float):
        """box: left, top, right, bottom (units); scale: px a unit."""
        self._left, self._top, self._scale = box[0], box[1], scale
        width, height = round((box[2] - box[0]) * scale) + 4, round((box[3] - box[1]) * scale) + 4
        self._cover = np.zeros((height * _FINE, width * _FINE), np.uint8)
        self._colour = np.full((height, width, 3), 128, np.uint8)
        self._relief = np.zeros((height, width), np.float32)

    def solid(self, points, colour: Colour, bevel: float, lift: float = 0.0) -> None:
        """Add a polygon ((n, 2) units). bevel: width of its rounded edge; lift: how far it stands up (units)."""
        shape = self._shape(points)
        np.maximum(self._cover, shape, out=self._cover)
        small = cv2.resize(shape, self._relief.shape[::-1], interpolation=cv2.INTER_AREA)
        inside = cv2.distanceTransform((small > 127).astype(np.uint8), cv2.DIST_L2, 5)
        radius = max(1.0, bevel * self._scale)
        fall = 1 - np.minimum(inside / radius, 1)
        dome = radius * np.sqrt(1 - 0.96 * fall * fall) + lift * self._scale
        self._relief = np.where(small > 127, dome, self._relief)
        # colour runs past the edge, so that warping never mixes in what lies behind
        self._colour[cv2.dilate(small, np.ones((5, 5), np.uint8)) > 0] = colour

    def hole(self, points) -> None:
        """Cut a polygon out; the tissue shows through."""
        self._cover[self._shape(points) > 0] = 0

    def stripe(self, points, colour: Colour, depth: float = 0.0) -> None:
        """Paint a polygon onto what is there, and sink it by depth (units)."""
        shape = np.zeros(self._relief.shape, np.uint8)
        cv2.fillPoly(shape, [np.round(self._pixels(points) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        share = shape.astype(np.float32)[:, :, None] / 255
        self._colour = (self._colour * (1 - share) + np.array(colour, np.float32) * share).astype(np.uint8)
        self._relief -= share[:, :, 0] * np.float32(depth * self._scale)

    def finish(self, finish: Finish, rng: np.random.Generator, blood: float = 0.0, reach: float = 1.0) -> ToolPart:
        """Make the part. blood: 0 to 1, stains, most of them from x = reach (units) forwards."""
        height, width = self._relief.shape
        relief = cv2.GaussianBlur(self._relief, (0, 0), max(0.5, 0.02 * self._scale))
        grain = fractal(rng, height, width, max(2.0, 0.4 * self._scale), 4)
        colour = self._colour * (1 + 0.04 * grain)[:, :, None]
        if blood > 0:
            x = np.arange(width, dtype=np.float32) / self._scale + np.float32(self._left)
            wet = smoothstep((grain + 2.6 * blood - 1.7 - 0.5 * np.clip(reach - x, 0, 4)) / 0.5) * 0.85
            colour += (np.array((112, 8, 10), np.float32) - colour) * wet[:, :, None]
        cover = cv2.resize(self._cover, (width, height), interpolation=cv2.INTER_AREA)
        rgba = np.dstack([np.clip(colour, 0, 255).astype(np.uint8), cover])
        slopes = [cv2.Scharr(relief, cv2.CV_32F, *axis, scale=1 / 32) for axis in ((1, 0), (0, 1))]
        slopes = [np.clip(slope, -2.0, 2.0) for slope in slopes]
        origin = (-self._left * self._scale + 1.5, -self._top * self._scale + 1.5)
        return ToolPart(rgba, slopes[0], slopes[1], origin, self._scale, finish)

    def _pixels(self, points) -> np.ndarray:
        return (np.asarray(points, np.float64) - (self._left, self._top)) * self._scale + 1.5

    def _shape(self, points) -> np.ndarray:
        """Draw a polygon in subpixels, 0 or 255. Pixel x of the small array has its centre at (x + 0.5) _FINE - 0.5."""
        shape = np.zeros_like(self._cover)
        # fillPoly also fills the pixels that the outline touches: half a subpixel all around. Drawn half a subpixel
        # to the lower right, then a subpixel taken off there, the shape has its true size and place
        outline = (self._pixels(points) + 0.5) * _FINE
        cv2.fillPoly(shape, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
        return cv2.erode(shape, np.ones((2, 2), np.uint8), anchor=(0, 0))


def bar(left: float, right: float, half: float, half_right: float | None = None) -> list[tuple[float, float]]:
    """Return the corners of a bar along x. half: its half breadth at the left (and right) end."""
    end = half if half_right is None else half_right
    return [(left, -half), (right, -end), (right, end), (left, half)]


def disc(x: float, y: float, radius: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 25)[:-1]
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=-1)


def blade(length: float, upper: Edge, lower: Edge) -> np.ndarray:
    """Return the outline between two edges over x from 0 to length; each edge maps x / length to y (units)."""
    s = np.linspace(0, 1, 33)
    top, bottom = np.stack([s * length, upper(s)], axis=-1), np.stack([s * length, lower(s)], axis=-1)
    return np.vstack([top, bottom[::-1]])
