"""`Tracks`, prompts and label sets to messages and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point32
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import ColorRGBA, Header

from sam2s_model.errors import ConfigError, ErrorCode, ImageError, RequestError, StampError
from sam2s_model.prompting.strokes import Stroke
from sam2s_model.prompts import Prompt, as_mask
from sam2s_model.recordings.tracked_message import tracks_of_message
from sam2s_model.semantics import ClassLabel, LabelSet
from sam2s_model.tracking.association import Detection
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces import image_codec
from sam2s_ros.msg import (
    ClassLabels,
    DetectedBoxes,
    Prompt as PromptMsg,
    Stroke as StrokeMsg,
    TrackedMasks,
    TrackedObject,
)


def to_ns(stamp: Time) -> int:
    """Convert a stamp to ns since the clock's zero."""
    return stamp.sec * 10**9 + stamp.nanosec


def header_ns(header: Header) -> int:
    """Convert an image's stamp to ns. Raises StampError for one that is no time: it could not be given back."""
    if header.stamp.nanosec >= 10**9:
        raise StampError(
            f"stamp has {header.stamp.nanosec} nanoseconds beside its seconds: expected less than 1000000000"
        )
    return to_ns(header.stamp)


def to_time(ns: int) -> Time:
    """Convert ns to a stamp, the inverse of `to_ns`."""
    return Time(sec=ns // 10**9, nanosec=ns % 10**9)


def masks_message(
    tracks: Tracks, header: Header, *, sequence: int, received_ns: int, finished_ns: int, model: str, late: bool = False
) -> TrackedMasks:
    """Make the TrackedMasks of one frame.

    header: the source image's; it is used as it is, here and in the label image
    received_ns, finished_ns: node clock; late: they are too old to be acted on
    """
    return TrackedMasks(
        header=header,
        sequence=sequence,
        objects=object_messages(tracks),
        label_image=image_codec.to_message(tracks.label_map, header, "mono8"),
        received=to_time(received_ns),
        finished=to_time(finished_ns),
        prompt_revision=tracks.revision,
        model=model,
        late=late,
    )


def object_messages(tracks: Tracks) -> list[TrackedObject]:
    """Make one TrackedObject of each object, in the order of `tracks`."""
    # `Tracks` fills these in where they were not given
    class_scores, returns, similarities = map(np.asarray, (tracks.class_scores, tracks.returns, tracks.similarities))
    return [
        TrackedObject(
            object_id=int(tracks.object_ids[i]),
            label=int(tracks.labels[i]),
            class_id=int(tracks.class_ids[i]),
            class_name=tracks.class_names[i],
            class_score=float(class_scores[i]),
            state=int(tracks.states[i]),
            score=float(tracks.scores[i]),
            predicted_iou=float(tracks.predicted_ious[i]),
            bounding_box=_region(tracks.boxes[i]),
            area=int(tracks.areas[i]),
            centroid_x=float(tracks.centroids[i, 0]),
            centroid_y=float(tracks.centroids[i, 1]),
            return_decision=int(returns[i]),
            return_similarity=float(similarities[i]),
        )
        for i in range(len(tracks))
    ]


def _region(box: np.ndarray) -> RegionOfInterest:
    x0, y0, x1, y1 = (int(v) for v in box)
    return RegionOfInterest(x_offset=x0, y_offset=y0, width=x1 - x0, height=y1 - y0)


def tracks_from_message(msg: TrackedMasks) -> Tracks:
    """Convert TrackedMasks to Tracks, the inverse of `masks_message`. The label map is a view of the message's data.

    Raises ImageError for a malformed label image, ValueError for objects that contradict each other.
    """
    return tracks_of_message(msg)


def prompt_from_message(msg: PromptMsg) -> Prompt:
    """Convert a prompt to the tracker's type; only the tracker knows whether it fits the image.

    Raises RequestError (INVALID_PROMPT) for a mask image that is malformed.
    """
    return Prompt(
        object_id=msg.object_id,
        class_name=msg.class_name,
        points=_places(msg.points) if msg.points else None,
        point_labels=np.array(msg.point_labels, np.int64) if len(msg.point_labels) else None,
        box=np.array(msg.box, np.float32) if len(msg.box) else None,
        mask=_prompt_mask(msg) if msg.mask.width else None,
        proposal_id=msg.proposal_id,
        granularity=msg.granularity,
        strokes=tuple(Stroke(_places(stroke.points), stroke.label) for stroke in msg.strokes),
        tube=msg.tube,
    )


def _places(points: Sequence[Point32]) -> np.ndarray:
    return np.array([(p.x, p.y) for p in points], np.float32).reshape(-1, 2)


def _points32(places: np.ndarray) -> list[Point32]:
    return [Point32(x=float(x), y=float(y)) for x, y in places]


def _prompt_mask(msg: PromptMsg) -> np.ndarray:
    try:
        return as_mask(image_codec.to_gray(msg.mask))
    except ImageError as error:
        raise RequestError(ErrorCode.INVALID_PROMPT, f"the prompt's mask: {error}") from error


def prompt_message(prompt: Prompt) -> PromptMsg:
    """Convert a prompt to its message, for clients: the inverse of `prompt_from_message`."""
    msg = PromptMsg(
        object_id=prompt.object_id, class_name=prompt.class_name, proposal_id=prompt.proposal_id,
        granularity=float(prompt.granularity), tube=bool(prompt.tube),
        strokes=[StrokeMsg(points=_points32(s.points), label=int(s.label)) for s in prompt.strokes],
    )  # fmt: skip
    if prompt.points is not None:
        msg.points = _points32(prompt.points)
    if prompt.point_labels is not None:
        msg.point_labels = [int(v) for v in prompt.point_labels]
    if prompt.box is not None:
        msg.box = [float(v) for v in prompt.box]
    if prompt.mask is not None:
        msg.mask = image_codec.to_message(np.asarray(prompt.mask, np.uint8) * 255, Header(), "mono8")
    return msg


def boxes_of_message(msg: DetectedBoxes) -> list[Detection]:
    """Read what a detector has found."""
    found = []
    for one in msg.boxes:
        x0, y0, x1, y1 = map(float, one.box)
        found.append(Detection((x0, y0, x1, y1), one.class_name, float(one.score)))
    return found


def labels_message(labels: LabelSet, stamp_ns: int) -> ClassLabels:
    """Make the message of a table of classes. stamp_ns: node clock, when it took effect"""
    return ClassLabels(
        header=Header(stamp=to_time(stamp_ns)),
        label_set=labels.name,
        class_ids=[c.id for c in labels.classes],
        class_names=[c.name for c in labels.classes],
        colors=[ColorRGBA(r=c.color[0] / 255, g=c.color[1] / 255, b=c.color[2] / 255, a=1.0) for c in labels.classes],
    )


def labels_from_message(msg: ClassLabels) -> LabelSet:
    """Convert a table of classes, the inverse of `labels_message`. Raises ConfigError for a table that is not one."""
    if not len(msg.class_ids) == len(msg.class_names) == len(msg.colors):
        lengths = f"{len(msg.class_ids)} ids, {len(msg.class_names)} names and {len(msg.colors)} colours"
        raise ConfigError(f"label set {msg.label_set!r} has {lengths}: expected as many of each")
    for name, c in zip(msg.class_names, msg.colors, strict=True):
        if not all(0 <= v <= 1 for v in (c.r, c.g, c.b)):  # NaN is not either
            raise ConfigError(
                f"label set {msg.label_set!r}: the colour of {name!r} is {(c.r, c.g, c.b)}: expected 0 to 1"
            )
    rows = zip(msg.class_ids, msg.class_names, msg.colors, strict=True)
    return LabelSet(
        msg.label_set,
        tuple(ClassLabel(int(i), name, (round(c.r * 255), round(c.g * 255), round(c.b * 255))) for i, name, c in rows),
    )
