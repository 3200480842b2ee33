"""A scene: frames as a pure function of the configuration and the frame's index."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_model.recordings.scene.camera import Camera
from sam2s_model.recordings.scene.config import OUTSIDE, SceneConfig
from sam2s_model.recordings.scene.effects import Sensor, Smoke, cast_shadow, smear
from sam2s_model.recordings.scene.instruments import WRIST, Instrument, Layer, choose_classes, thickness
from sam2s_model.recordings.scene.motion import Pose, Rig
from sam2s_model.recordings.scene.thin import ThinStructure
from sam2s_model.recordings.scene.tissue import Tissue

_LONGEST = 3.6  # units from a shaft's end to the furthest tip, over all classes


@dataclass(frozen=True)
class SceneObject:
    """A row of the scene's table. label: its value in label images; object_id: the same number; class_id: from 1."""

    label: int
    object_id: int
    class_name: str
    class_id: int


@dataclass(frozen=True)
class ObjectState:
    """An instrument, or what is thin, in one frame.

    area: px of its mask; whole_area: px it would have with nothing in front of it (both inside the field);
    box: (left, top, right, bottom) of its mask, px, right and bottom exclusive, None where the area is 0.
    """

    label: int
    area: int
    whole_area: int
    box: tuple[int, int, int, int] | None

    @property
    def visible(self) -> bool:
        return self.area > 0

    @property
    def occluded(self) -> float:
        """Share that others cover, 0 to 1; 0 for an instrument that is out of the field."""
        return 1 - self.area / self.whole_area if self.whole_area else 0.0


@dataclass(frozen=True, eq=False)
class SceneFrame:
    """index; stamp_ns: index / fps; image (H, W, 3) uint8 RGB; labels (H, W) uint8: 0 none, an instrument's label,
    255 outside the field; objects: one state a row of the scene's table, in its order.

    A pixel belongs to an instrument that covers at least half of it, the nearest one where several do. Smoke, blood,
    shadow, blur and noise change the image only.
    """

    index: int
    stamp_ns: int
    image: np.ndarray
    labels: np.ndarray
    objects: tuple[ObjectState, ...]


@dataclass(frozen=True, eq=False)
class PartMasks:
    """What is seen of an instrument, (H, W) bool each, the smaller inside the larger, which another may cover.

    tip: the jaw of which more is seen, or the rigid tip; jaw: both jaws, or the tip, and the wrist; whole: all of it
    """

    tip: np.ndarray
    jaw: np.ndarray
    whole: np.ndarray


class Scene:
    """A sequence of SceneFrame. Any frame can be drawn at any time, and always comes out bit for bit the same."""

    def __init__(self, config: SceneConfig):
        """Draws the tissue and the instruments' parts. Raises SceneError for names of classes that do not fit."""
        self.config = config
        names = choose_classes(config)
        breadths = [thickness(config, i) for i in range(len(names))]
        self._rig = Rig(config, _LONGEST * max(breadths, default=0.0))
        self._instruments = [
            Instrument(config, i, name, self._rig.shaft_length, breadth)
            for i, (name, breadth) in enumerate(zip(names, breadths, strict=True))
        ]
        self.objects = tuple(SceneObject(i, i, tool.name, tool.class_id) for i, tool in enumerate(self._instruments, 1))
        self._thin = ThinStructure(config) if config.thin else None
        if self._thin:
            label = len(self.objects) + 1
            self.objects += (SceneObject(label, label, self._thin.name, self._thin.class_id),)
        self._tissue, self._camera = Tissue(config), Camera(config)
        self._smoke, self._sensor = Smoke(config), Sensor(config)

    @property
    def field(self) -> np.ndarray:
        """(H, W) bool, True inside the endoscope's field; the same in all frames."""
        return self._sensor.field.copy()

    def __len__(self) -> int:
        return self.config.frames

    def __iter__(self) -> Iterator[SceneFrame]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> SceneFrame:
        """Draw a frame; negative indices count from the end. Raises IndexError beyond the length."""
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"frame {number} is not in the scene: expected {-len(self)} to {len(self) - 1}")
        return self._draw(number % len(self))

    def parts(self, index: int) -> dict[int, PartMasks]:
        """Return the visible parts of each instrument in a frame, by its label; without those of which nothing is seen.

        Raises IndexError beyond the length.
        """
        labels = self[index].labels
        seconds = (operator.index(index) % len(self)) / self.config.fps
        view, poses = self._camera.view(seconds), self._rig.poses(seconds)
        out = {}
        for label, (instrument, pose) in enumerate(zip(self._instruments, poses, strict=True), start=1):
            whole = labels == label
            parts = np.where(whole, instrument.parts(pose, view), 0)
            jaws = [parts == number for number in (1, 2)]
            if whole.any():
                tip = max(jaws, key=np.count_nonzero)
                out[label] = PartMasks(tip, jaws[0] | jaws[1] | (parts == WRIST), whole)
        return out

    def _draw(self, index: int) -> SceneFrame:
        seconds, after = index / self.config.fps, (index + 1) / self.config.fps
        view, view_after = self._camera.view(seconds), self._camera.view(after)
        image = self._tissue.draw(view, seconds)
        labels = np.zeros(image.shape[:2], np.uint8)
        poses, poses_after = self._rig.poses(seconds), self._rig.poses(after)
        whole = [0] * len(self.objects)
        if self._thin:
            mask = self._thin.draw(image, view)
            labels[mask] = len(self.objects)
            whole[-1] = int(np.count_nonzero(mask & self._sensor.field))
        for i in self._rig.order(seconds) if self._instruments else ():
            layer = self._instruments[i].draw(poses[i], view)
            if layer is None:
                continue
            cast_shadow(image, layer, self.config)
            mask = layer.rgba[:, :, 3] >= 128
            whole[i] = int(np.count_nonzero(mask & self._sensor.field[layer.window]))
            labels[layer.window][mask] = i + 1
            travel = _seen(poses_after[i], view_after) - _seen(poses[i], view)
            _blend(image, smear(layer, travel, self.config))
        labels[~self._sensor.field] = OUTSIDE
        image = self._smoke.cover(image, seconds)
        image = self._sensor.expose(image, index, seconds)
        states = tuple(_state(labels, row.label, size) for row, size in zip(self.objects, whole, strict=True))
        return SceneFrame(index, round(seconds * 1e9), image, labels, states)


def _seen(pose: Pose, view: np.ndarray) -> np.ndarray:
    return view[:, :2] @ pose.point + view[:, 2]


def _blend(image: np.ndarray, layer: Layer) -> None:
    """Lay an instrument's layer over the image, in place."""
    area = image[layer.window]
    keep = cv2.cvtColor(cv2.bitwise_not(layer.rgba[:, :, 3]), cv2.COLOR_GRAY2RGB)
    area[:] = cv2.add(cv2.multiply(area, keep, scale=1 / 255), cv2.cvtColor(layer.rgba, cv2.COLOR_RGBA2RGB))


def _state(labels: np.ndarray, label: int, whole_area: int) -> ObjectState:
    mask = cv2.inRange(labels, label, label)
    area = cv2.countNonZero(mask)
    x, y, width, height = cv2.boundingRect(mask)
    return ObjectState(label, area, whole_area, (x, y, x + width, y + height) if area else None)
