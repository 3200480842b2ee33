"""From scores and masks to what a controller may rely on: states, boxes, areas, centroids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_model.config import TrackerConfig
from sam2s_model.semantics import ClassLabel
from sam2s_model.tracks import LABEL_OUTSIDE, State, Tracks


@dataclass
class TrackedObject:
    """What is known of one object on the host.

    label: value in the label image; last_visible: stamp, ns, of the last frame with a mask
    centroid: (x, y) px on that frame; `before` is its value before the newest frame, so that it can be described again
    """

    object_id: int
    label: int
    class_label: ClassLabel
    last_visible: int
    score: float = 0.0
    predicted_iou: float = 0.0
    present: bool = False
    centroid: np.ndarray | None = None
    before: np.ndarray | None = None

    def observe(self, score: float, predicted_iou: float, present: float) -> None:
        self.score, self.predicted_iou, self.present = float(score), float(predicted_iou), bool(present)

    def prompted(self) -> None:
        """A person said where it is: there is no jump to suspect."""
        self.before = self.centroid = None


def describe_frame(
    stamp: int,
    label_map: np.ndarray,
    field: np.ndarray | None,
    objects: Sequence[TrackedObject],
    config: TrackerConfig,
    revision: int,
    new_frame: bool,
) -> Tracks:
    """Measure each object's mask and give it a state.

    label_map: (H, W) uint8, written to where `field` (H, W bool, or None for everywhere) says "outside"
    objects: ascending by id; their visibility and centroid are brought up to date
    new_frame: False when the same frame is described again, after a prompt or a removal
    """
    if field is not None:
        label_map[~field] = LABEL_OUTSIDE
    n = len(objects)
    boxes, areas = np.zeros((n, 4), np.int32), np.zeros(n, np.int64)
    centroids, states = np.full((n, 2), np.nan, np.float32), np.zeros(n, np.uint8)
    for i, known in enumerate(objects):
        mask = (label_map == known.label).view(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if width:
            boxes[i] = x, y, x + width, y + height
            inside = mask[y : y + height, x : x + width]
            moments = cv2.moments(inside, binaryImage=True)
            areas[i] = round(moments["m00"])
            centroids[i] = x + moments["m10"] / moments["m00"], y + moments["m01"] / moments["m00"]
        states[i] = _state(known, stamp, areas[i], centroids[i], label_map.shape, config, new_frame)
    return Tracks(
        stamp=stamp,
        label_map=label_map,
        object_ids=np.array([o.object_id for o in objects], np.int64),
        labels=np.array([o.label for o in objects], np.uint8),
        class_ids=np.array([o.class_label.id for o in objects], np.uint8),
        class_names=tuple(o.class_label.name for o in objects),
        states=states,
        scores=np.array([o.score for o in objects], np.float32),
        predicted_ious=np.array([o.predicted_iou for o in objects], np.float32),
        boxes=boxes,
        areas=areas,
        centroids=centroids,
        revision=revision,
    )


def _state(
    known: TrackedObject,
    stamp: int,
    area: int,
    centroid: np.ndarray,
    size: tuple[int, int],
    config: TrackerConfig,
    new_frame: bool,
) -> State:
    if new_frame:
        known.before = known.centroid
    if not area:  # the centroid stays: what comes back far from where it went is SUSPECT at first
        return State.LOST if stamp - known.last_visible > config.lost_after * 1e9 else State.OCCLUDED
    known.last_visible, known.centroid = stamp, centroid
    height, width = size
    jump = 0.0 if known.before is None else np.hypot(*(centroid - known.before)) / np.hypot(height, width)
    too_large = area > config.max_area_fraction * height * width
    unsure = known.predicted_iou < config.min_predicted_iou
    return State.SUSPECT if too_large or unsure or jump > config.max_jump else State.TRACKED
