"""From scores and masks to what a controller may rely on: states, boxes, areas, centroids.

All of it is a function of the frame and of what was seen on the frame before, so that a frame can be described again
after a prompt, and a late prompt leads to the same states as one that came in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_model.config import TrackerConfig
from sam2s_model.semantics import ClassLabel
from sam2s_model.tracks import LABEL_OUTSIDE, State, Tracks


@dataclass(frozen=True)
class TrackedObject:
    """Who an object is, on every frame. label: its value in the label image."""

    object_id: int
    label: int
    class_label: ClassLabel


@dataclass(frozen=True)
class Reading:
    """What the model says of one object on one frame.

    score: 0..1, that it is there; predicted_iou: 0..1, of its mask; prompted: a person said where it is
    """

    score: float
    predicted_iou: float
    present: bool
    prompted: bool = False


@dataclass(frozen=True)
class Sight:
    """What was seen of one object up to a frame.

    last_visible: stamp, ns, of the last frame with a mask; centroid: (x, y) px on that frame, None before the first
    """

    last_visible: int
    centroid: np.ndarray | None = None


def describe_frame(
    stamp: int,
    label_map: np.ndarray,
    view: np.ndarray | None,
    objects: Sequence[TrackedObject],
    readings: Mapping[int, Reading],
    before: Mapping[int, Sight],
    config: TrackerConfig,
    revision: int,
) -> tuple[Tracks, dict[int, Sight]]:
    """Measure each object's mask and give it a state.

    label_map: (H, W) uint8, written to where `view` (H, W bool, or None for everywhere) says "outside"
    objects: ascending by id, each with a reading; before: the sights of the frame before
    Returns the tracks and this frame's sights.
    """
    if view is not None:
        label_map[~view] = LABEL_OUTSIDE
    n = len(objects)
    boxes, areas = np.zeros((n, 4), np.int32), np.zeros(n, np.int64)
    centroids, states = np.full((n, 2), np.nan, np.float32), np.zeros(n, np.uint8)
    sights = {}
    for i, known in enumerate(objects):
        mask = (label_map == known.label).view(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if width:
            boxes[i] = x, y, x + width, y + height
            inside = mask[y : y + height, x : x + width]
            moments = cv2.moments(inside, binaryImage=True)
            areas[i] = round(moments["m00"])
            centroids[i] = x + moments["m10"] / moments["m00"], y + moments["m01"] / moments["m00"]
        reading, last = readings[known.object_id], before.get(known.object_id) or Sight(stamp)
        states[i] = _state(reading, last, stamp, areas[i], centroids[i], label_map.shape, config)
        # where the mask is empty the centroid stays: what comes back far from where it went is SUSPECT at first
        sights[known.object_id] = Sight(stamp, centroids[i].copy()) if areas[i] else last
    numbers = [readings[o.object_id] for o in objects]
    tracks = Tracks(
        stamp=stamp,
        label_map=label_map,
        object_ids=np.array([o.object_id for o in objects], np.int64),
        labels=np.array([o.label for o in objects], np.uint8),
        class_ids=np.array([o.class_label.id for o in objects], np.uint8),
        class_names=tuple(o.class_label.name for o in objects),
        states=states,
        scores=np.array([r.score for r in numbers], np.float32),
        predicted_ious=np.array([r.predicted_iou for r in numbers], np.float32),
        boxes=boxes,
        areas=areas,
        centroids=centroids,
        revision=revision,
    )
    return tracks, sights


def _state(
    reading: Reading,
    last: Sight,
    stamp: int,
    area: int,
    centroid: np.ndarray,
    size: tuple[int, int],
    config: TrackerConfig,
) -> State:
    if not area:
        return State.LOST if stamp - last.last_visible > config.lost_after * 1e9 else State.OCCLUDED
    height, width = size
    known_place = last.centroid is not None and not reading.prompted  # nobody suspects what a person says
    jump = np.hypot(*(centroid - last.centroid)) / np.hypot(height, width) if known_place else 0.0
    too_large = area > config.max_area_fraction * height * width
    unsure = reading.predicted_iou < config.min_predicted_iou
    return State.SUSPECT if too_large or unsure or jump > config.max_jump else State.TRACKED
