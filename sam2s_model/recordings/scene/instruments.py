"""Instruments in the image: parts placed by a pose, lit from the camera, with their exact coverage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_model.recordings.scene.catalogue import CLASS_IDS, make
from sam2s_model.recordings.scene.config import SceneConfig
from sam2s_model.recordings.scene.motion import Pose
from sam2s_model.recordings.scene.noise import INSTRUMENT, stream
from sam2s_model.recordings.scene.parts import Finish, ToolPart

_SLOPE_STEPS = 120.0  # of the 8-bit angle tables, per unit of slope
WRIST, SHAFT = 3, 4  # numbers of parts, after those of one or two jaws
_LIGHT = 0.8  # slope of the light ray at one shorter image side from the middle


@dataclass(frozen=True, eq=False)
class Layer:
    """One instrument drawn alone. x, y: its place in the image; rgba (h, w, 4) uint8, colour times coverage."""

    x: int
    y: int
    rgba: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the image it lies on."""
        height, width = self.rgba.shape[:2]
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


class Instrument:
    """The parts of one instrument, and how to put them into an image."""

    def __init__(self, config: SceneConfig, index: int, name: str, shaft_length: float, thickness: float):
        """index: its place in the scene, from 0; shaft_length, thickness: px."""
        self.name, self.class_id = name, CLASS_IDS[name]
        self._config, self._thickness = config, thickness
        rng = stream(config.seed, INSTRUMENT, index)
        detail = max(6.0, 1.2 * thickness)  # a little finer than the image
        self._kit = make(name, rng, detail, shaft_length / thickness, config.blood)
        parts = (*self._kit.jaws, self._kit.wrist, self._kit.shaft)
        self._tables = {part.finish: _light_tables(part.finish) for part in parts}

    def draw(self, pose: Pose, view: np.ndarray) -> Layer | None:
        """Draw the instrument at a pose, seen by a view ((2, 3), patient to image); None when out of the frame."""
        placed = [(part, view @ np.vstack([matrix, (0, 0, 1)])) for part, matrix in self._place(pose)]
        boxes = [self._bounds(part, matrix) for part, matrix in placed]
        seen = [(part, matrix, box) for (part, matrix), box in zip(placed, boxes, strict=True) if box is not None]
        if not seen:
            return None
        left, top = min(box[0] for *_, box in seen), min(box[1] for *_, box in seen)
        right, bottom = max(box[2] for *_, box in seen), max(box[3] for *_, box in seen)
        canvas = np.zeros((bottom - top, right - left, 4), np.uint8)
        for part, matrix, box in seen:
            drawn = self._light(part, matrix, box)
            target = canvas[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
            keep = cv2.cvtColor(cv2.bitwise_not(drawn[:, :, 3]), cv2.COLOR_GRAY2BGRA)
            keep[:, :, 3] = keep[:, :, 0]
            target[:] = cv2.add(cv2.multiply(target, keep, scale=1 / 255), drawn)
        return Layer(left, top, canvas)

    def parts(self, pose: Pose, view: np.ndarray) -> np.ndarray:
        """Return (H, W) uint8, the part on top: 0 none, 1 a jaw or the tip, 2 the other jaw, 3 the wrist, 4 the shaft.

        Coverage is as of `draw`: a part has the pixels that it covers by half.
        """
        size = (self._config.width, self._config.height)
        out = np.zeros(size[::-1], np.uint8)
        numbers = (*range(1, len(self._kit.jaws) + 1), WRIST, SHAFT)
        for number, (part, matrix) in zip(numbers, self._place(pose), strict=True):
            seen = view @ np.vstack([matrix, (0, 0, 1)])
            cover = cv2.warpAffine(np.ascontiguousarray(part.rgba[:, :, 3]), seen, size, flags=cv2.INTER_LINEAR)
            out[cover >= 128] = number
        return out

    def _place(self, pose: Pose) -> list[tuple[ToolPart, np.ndarray]]:
        """Parts from the lowest to the top with their (2, 3) transforms from part to patient coordinates."""
        kit, unit = self._kit, self._thickness * pose.size
        bent = pose.angle + kit.bend * max(-1.0, min(1.0, pose.bend))
        end = pose.point + unit * kit.wrist_length * np.array([math.cos(bent), math.sin(bent)])
        half = kit.opening[0] + (kit.opening[1] - kit.opening[0]) * pose.opening
        angles = (bent + half, bent - half) if len(kit.jaws) == 2 else (bent,)
        placed = [(jaw, _transform(jaw, end, angle, unit)) for jaw, angle in zip(kit.jaws, angles, strict=True)]
        placed.append((kit.wrist, _transform(kit.wrist, pose.point, bent, unit)))
        placed.append((kit.shaft, _transform(kit.shaft, pose.point, pose.angle, unit)))
        return placed

    def _bounds(self, part: ToolPart, matrix: np.ndarray) -> tuple[int, int, int, int] | None:
        """Return left, top, right, bottom of a part in the frame; None when it lies outside."""
        height, width = part.rgba.shape[:2]
        corners = matrix @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
        frame = (self._config.width, self._config.height)
        left, top = np.maximum(np.floor(corners.min(axis=1)).astype(int) - 1, 0)
        right, bottom = np.minimum(np.ceil(corners.max(axis=1)).astype(int) + 2, frame)
        return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None

    def _light(self, part: ToolPart, matrix: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        """Draw a part in its box, (h, w, 4) uint8 with the colour times its coverage."""
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        local = matrix - np.array([[0, 0, left], [0, 0, top]])
        rgba = cv2.warpAffine(part.rgba, local, size, flags=cv2.INTER_LINEAR)
        slope_x: np.ndarray = cv2.warpAffine(part.slope_x, local, size, flags=cv2.INTER_LINEAR)
        slope_y: np.ndarray = cv2.warpAffine(part.slope_y, local, size, flags=cv2.INTER_LINEAR)
        # the light's slope, linear in the image, in the axes of the part
        scale = math.hypot(matrix[0, 0], matrix[1, 0])
        cos, sin = matrix[0, 0] / scale, matrix[1, 0] / scale
        x0, y0, _ = self._config.field_circle
        gain = _LIGHT / self._config.unit
        columns = ((np.arange(left, right) - x0) * gain).astype(np.float32)
        rows = ((np.arange(top, bottom) - y0) * gain).astype(np.float32)[:, None]
        slope_x -= columns * np.float32(cos)
        slope_x -= rows * np.float32(sin)
        slope_y += columns * np.float32(sin)
        slope_y -= rows * np.float32(cos)
        angle = cv2.convertScaleAbs(cv2.magnitude(slope_x, slope_y), alpha=_SLOPE_STEPS)
        diffuse, shine = self._tables[part.finish]
        rgb = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)
        rgb = cv2.multiply(rgb, cv2.cvtColor(cv2.LUT(angle, diffuse), cv2.COLOR_GRAY2RGB), scale=1 / 160)
        rgb = cv2.add(rgb, cv2.cvtColor(cv2.LUT(angle, shine), cv2.COLOR_GRAY2RGB))
        cover = np.ascontiguousarray(rgba[:, :, 3])
        rgb = cv2.multiply(rgb, cv2.cvtColor(cover, cv2.COLOR_GRAY2RGB), scale=1 / 255)
        lit = cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA)
        lit[:, :, 3] = cover
        return lit


def choose_classes(config: SceneConfig) -> list[str]:
    """Choose the class name of each instrument: those of the configuration, else drawn by the seed, all different."""
    names = config.class_names or stream(config.seed, INSTRUMENT, 1000).permutation(list(CLASS_IDS)).tolist()
    return list(names[: config.instruments])


def thickness(config: SceneConfig, index: int) -> float:
    """Draw the shaft diameter of an instrument in px."""
    return config.unit * stream(config.seed, INSTRUMENT, 2000, index).uniform(0.075, 0.10)


def _transform(part: ToolPart, joint: np.ndarray, angle: float, unit: float) -> np.ndarray:
    scale = unit / part.scale
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    x, y = part.origin
    return np.array([[cos, -sin, joint[0] - cos * x + sin * y], [sin, cos, joint[1] - sin * x - cos * y]])


def _light_tables(finish: Finish) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse factor (160 is 1) and highlight for each 8-bit angle between surface and light."""
    steps = np.arange(256) / _SLOPE_STEPS
    facing = 1 / (1 + (steps / 0.8) ** 2)
    rim = 0.16 * np.exp(-(((steps - 1.25) / 0.25) ** 2))  # steel mirrors the tissue at its sides
    diffuse = 200 * finish.diffuse * (0.22 + 0.78 * facing + rim)
    shine = 255 * (0.55 * finish.sheen * np.exp(-((steps / 0.34) ** 2)) + finish.sharp * np.exp(-((steps / 0.10) ** 2)))
    return np.clip(diffuse, 0, 255).astype(np.uint8), np.clip(shine, 0, 255).astype(np.uint8)
