"""From scores and masks to what a controller may rely on: states, boxes, areas, centroids.

All of it is a function of the frame and of what was seen on the frame before, so that a frame can be described again
after a prompt, and a late prompt leads to the same states as one that came in time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from sam2s_model.config import TrackerConfig
from sam2s_model.semantics import ClassLabel
from sam2s_model.tracks import LABEL_OUTSIDE, Return, State, Tracks


@dataclass(frozen=True)
class TrackedObject:
    """Who an object is, on every frame.

    label: its value in the label image
    class_label: of a prompt where `named`, otherwise the default, which the class head may replace
    by_person: whether a person has given it that class, which nothing that is found takes away
    """

    object_id: int
    label: int
    class_label: ClassLabel
    named: bool = False
    by_person: bool = False

    def with_class(self, class_label: ClassLabel, *, by_person: bool) -> TrackedObject:
        """Name it. What a person has said stays a person's when the same is found."""
        same = self.by_person and self.class_label == class_label
        return replace(self, class_label=class_label, named=True, by_person=by_person or same)


@dataclass(frozen=True)
class Prediction:
    """What the model says of one object on one frame.

    score: 0..1, that it is there; predicted_iou: 0..1, of its mask; prompted: a person prompted it there
    similarity: of what appeared of a LOST object with it, NaN when that was not asked; rejected: it is another
    classes: (K,) 0..1, that it is of a row of the class table; None without a class head, or without a memory to ask
    discovered: FOUND or RECONDITIONED, where discovery has prompted it since the frame before
    """

    score: float
    predicted_iou: float
    present: bool
    prompted: bool = False
    similarity: float = math.nan
    rejected: bool = False
    classes: np.ndarray | None = None
    discovered: Return = Return.NOT_ASKED

    @property
    def returned(self) -> Return:
        if self.discovered:
            return self.discovered
        if math.isnan(self.similarity):
            return Return.NOT_ASKED
        return Return.REJECTED if self.rejected else Return.ACCEPTED


@dataclass(frozen=True)
class ObjectHistory:
    """What was seen of one object up to a frame.

    last_visible: stamp, ns, of the last frame with a mask; centroid: (x, y) px on that frame, None before the first
    usual_area: px, smoothed over the frames on which it was TRACKED; 0 before the first
    plausible: masks in a row that were plausible; tracked: whether the object is TRACKED, or new
    classes: (K,) as of a prediction, smoothed over the frames on which it was visible, from zero; None before the first
    """

    last_visible: int
    centroid: np.ndarray | None = None
    usual_area: float = 0.0
    plausible: int = 0
    tracked: bool = True
    classes: np.ndarray | None = None


MIN_SCORE = 0.5  # of an object that is there, as published
AREA_SMOOTHING = 0.9  # share of the usual area that stays from one frame to the next
CLASS_SMOOTHING = 0.8  # the same of class scores: four frames that agree make 0.59


def describe_frame(
    stamp: int,
    label_map: np.ndarray,
    field_mask: np.ndarray | None,
    objects: Sequence[TrackedObject],
    predictions: Mapping[int, Prediction],
    previous: Mapping[int, ObjectHistory],
    config: TrackerConfig,
    revision: int,
    class_head_labels: Sequence[ClassLabel | None] = (),
) -> tuple[Tracks, dict[int, ObjectHistory]]:
    """Measure each object's mask and give it a state.

    label_map: (H, W) uint8, written to where `field_mask` (H, W bool, or None for everywhere) says "outside"
    objects: ascending by id, each with a prediction; previous: the histories of the frame before
    class_head_labels: the label set's class of each row of the class table, None where it has none of that name
    Returns the tracks and this frame's histories.
    """
    if field_mask is not None:
        label_map[~field_mask] = LABEL_OUTSIDE
    n = len(objects)
    boxes, areas = np.zeros((n, 4), np.int32), np.zeros(n, np.int64)
    centroids, states = np.full((n, 2), np.nan, np.float32), np.zeros(n, np.uint8)
    histories, classes, class_scores = {}, [], np.full(n, np.nan, np.float32)
    for i, tracked_object in enumerate(objects):
        mask = (label_map == tracked_object.label).view(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if width:
            boxes[i] = x, y, x + width, y + height
            inside = mask[y : y + height, x : x + width]
            moments = cv2.moments(inside, binaryImage=True)
            areas[i] = round(moments["m00"])
            centroids[i] = x + moments["m10"] / moments["m00"], y + moments["m01"] / moments["m00"]
        prediction, last = (
            predictions[tracked_object.object_id],
            previous.get(tracked_object.object_id) or ObjectHistory(stamp),
        )
        states[i], history = _judge(
            prediction, last, stamp, int(areas[i]), centroids[i].copy(), label_map.shape, config
        )
        histories[tracked_object.object_id] = history = replace(
            history, classes=_smoothed(last, prediction, visible=areas[i] > 0)
        )
        class_label, class_scores[i] = _class_of(tracked_object, history, class_head_labels, config.min_class_score)
        classes.append(class_label)
    numbers = [predictions[o.object_id] for o in objects]
    tracks = Tracks(
        stamp=stamp,
        label_map=label_map,
        object_ids=np.array([o.object_id for o in objects], np.int64),
        labels=np.array([o.label for o in objects], np.uint8),
        class_ids=np.array([c.id for c in classes], np.uint8),
        class_names=tuple(c.name for c in classes),
        states=states,
        scores=np.array([r.score for r in numbers], np.float32),
        predicted_ious=np.array([r.predicted_iou for r in numbers], np.float32),
        boxes=boxes,
        areas=areas,
        centroids=centroids,
        revision=revision,
        returns=np.array([r.returned for r in numbers], np.uint8),
        similarities=np.array([r.similarity for r in numbers], np.float32),
        class_scores=class_scores,
    )
    return tracks, histories


def _smoothed(last: ObjectHistory, prediction: Prediction, *, visible: bool) -> np.ndarray | None:
    if prediction.classes is None or not visible:
        return last.classes
    smoothed = 0.0 if last.classes is None else last.classes
    return CLASS_SMOOTHING * smoothed + (1 - CLASS_SMOOTHING) * prediction.classes


def _class_of(
    tracked_object: TrackedObject,
    history: ObjectHistory,
    class_head_labels: Sequence[ClassLabel | None],
    min_score: float,
) -> tuple[ClassLabel, float]:
    """Name an object's class on a frame, and how sure it is: 1 from a prompt, NaN for the default."""
    if tracked_object.named:
        return tracked_object.class_label, 1.0
    if class_head_labels and history.classes is not None:
        row = int(np.argmax(history.classes))
        class_label = class_head_labels[row]
        if history.classes[row] >= min_score and class_label is not None:
            return class_label, float(history.classes[row])
    return tracked_object.class_label, math.nan


def _judge(
    prediction: Prediction,
    last: ObjectHistory,
    stamp: int,
    area: int,
    centroid: np.ndarray,
    size: tuple[int, int],
    config: TrackerConfig,
) -> tuple[State, ObjectHistory]:
    """Judge an object's state from its mask's area (px) and centroid. Returns it with the history up to here.

    A mask is SUSPECT as soon as it is implausible, and the object is TRACKED again after some in a row that are
    plausible by a margin. A prompt, or a return that was compared and accepted, needs no confirmation.
    """
    # With confirm_frames 3, and min_area_ratio 0.05 of a usual area of 100 px:
    #   area      100      100         0        4       95       96       97
    #   plausible   1        2         0        0        1        2        3
    #   state  TRACKED  TRACKED  OCCLUDED  SUSPECT  SUSPECT  SUSPECT  TRACKED
    # The usual area learns from TRACKED frames alone: it stays 100, and is 0.9 x 100 + 0.1 x 97 = 99.7 at last.
    if not area:
        # the centroid stays: what comes back far from where it went is SUSPECT at first
        lost = stamp - last.last_visible > config.lost_after * 1e9
        return State.LOST if lost else State.OCCLUDED, replace(last, plausible=0, tracked=False)
    sure = prediction.prompted or prediction.returned is Return.ACCEPTED
    plausible = _plausible(prediction, last, area, centroid, size, config, sure)
    count = last.plausible + 1 if plausible else 0
    tracked = plausible and (sure or last.tracked or count >= config.confirm_frames)
    usual = last.usual_area
    if tracked:
        usual = area if not usual or prediction.prompted else AREA_SMOOTHING * usual + (1 - AREA_SMOOTHING) * area
    return State.TRACKED if tracked else State.SUSPECT, ObjectHistory(stamp, centroid, usual, count, tracked)


def _plausible(
    prediction: Prediction,
    last: ObjectHistory,
    area: int,
    centroid: np.ndarray,
    size: tuple[int, int],
    config: TrackerConfig,
    sure: bool,
) -> bool:
    height, width = size
    margin = 0.0 if sure or last.tracked else config.hysteresis
    known_place = last.centroid is not None and not sure  # nobody suspects what a person says
    jump = np.hypot(*(centroid - last.centroid)) / np.hypot(height, width) if known_place else 0.0
    return bool(
        area <= config.max_area_fraction * height * width
        and (prediction.prompted or area >= config.min_area_ratio * last.usual_area)
        and prediction.predicted_iou >= config.min_predicted_iou + margin
        and (not margin or not config.object_score_gating or prediction.score >= MIN_SCORE + margin)
        and jump <= config.max_jump
    )
