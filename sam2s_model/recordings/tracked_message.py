"""A TrackedMasks message, of ROS or of a bag reader, as `Tracks`."""

from __future__ import annotations

from typing import Any

import numpy as np

from sam2s_model.recordings.pixels import to_gray
from sam2s_model.tracks import Tracks

NS = 1_000_000_000


def tracks_of_message(message: Any) -> Tracks:
    """Convert a TrackedMasks, of whichever library. The label map is a view of the message's data.

    Raises ImageError for a malformed label image, ValueError for objects that contradict each other.
    """
    objects = message.objects
    boxes = [
        (b.x_offset, b.y_offset, b.x_offset + b.width, b.y_offset + b.height) for b in (o.bounding_box for o in objects)
    ]
    return Tracks(
        stamp=message.header.stamp.sec * NS + message.header.stamp.nanosec,
        label_map=to_gray(message.label_image),
        object_ids=np.array([o.object_id for o in objects], np.int64),
        labels=np.array([o.label for o in objects], np.uint8),
        class_ids=np.array([o.class_id for o in objects], np.uint8),
        class_names=tuple(o.class_name for o in objects),
        states=np.array([o.state for o in objects], np.uint8),
        scores=np.array([o.score for o in objects], np.float32),
        predicted_ious=np.array([o.predicted_iou for o in objects], np.float32),
        boxes=np.array(boxes, np.int32).reshape(-1, 4),
        areas=np.array([o.area for o in objects], np.int64),
        centroids=np.array([(o.centroid_x, o.centroid_y) for o in objects], np.float32).reshape(-1, 2),
        revision=message.prompt_revision,
        returns=np.array([o.return_decision for o in objects], np.uint8),
        similarities=np.array([o.return_similarity for o in objects], np.float32),
        class_scores=np.array([o.class_score for o in objects], np.float32),
    )
