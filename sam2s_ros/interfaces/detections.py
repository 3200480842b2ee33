"""Tracks and classes in messages of vision_msgs, and what detectors send in them, where it is installed."""

from __future__ import annotations

from std_msgs.msg import Header

from sam2s_model.semantics import LabelSet
from sam2s_model.tracking.association import Detection
from sam2s_model.tracks import State, Tracks
from sam2s_ros.interfaces.messages import to_time

try:
    from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass
except ImportError:  # PyPI has no vision_msgs
    Detection2DArray = LabelInfo = None


def detections_message(tracks: Tracks, header: Header) -> Detection2DArray:
    """Make one detection of each object that is TRACKED: the message has no field for a state.

    id: the object id; class_id: the class name; score: that the object is there. The box is that of the mask's pixels,
    in px of the source image, where the centre of the first pixel is (0, 0).
    """
    found = [i for i in range(len(tracks)) if tracks.states[i] == State.TRACKED]
    return Detection2DArray(header=header, detections=[_detection(tracks, i, header) for i in found])


def _detection(tracks: Tracks, i: int, header: Header) -> Detection2D:
    x0, y0, x1, y1 = (float(v) for v in tracks.boxes[i])
    detection = Detection2D(header=header, id=str(tracks.object_ids[i]))
    detection.bbox.center.position.x, detection.bbox.center.position.y = (x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2
    detection.bbox.size_x, detection.bbox.size_y = x1 - x0, y1 - y0
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = tracks.class_names[i], float(tracks.scores[i])
    detection.results = [hypothesis]
    return detection


def boxes_of_detections(msg: Detection2DArray) -> list[Detection]:
    """Read the detections of a detector, the likeliest class of each. The corners are those of its box."""
    found = []
    for one in msg.detections:
        center, width, height = one.bbox.center.position, one.bbox.size_x, one.bbox.size_y
        box = (center.x - width / 2, center.y - height / 2, center.x + width / 2, center.y + height / 2)
        best = max((result.hypothesis for result in one.results), key=lambda each: each.score, default=None)
        found.append(Detection(box, best.class_id if best else "", float(best.score) if best else 1.0))
    return found


def label_info_message(labels: LabelSet, stamp_ns: int) -> LabelInfo:
    """Make the table of classes of ~/semantic_image. stamp_ns: node clock, when it took effect

    The threshold is 0: no class of the image is less certain than that.
    """
    classes = [VisionClass(class_id=c.id, class_name=c.name) for c in labels.classes]
    return LabelInfo(header=Header(stamp=to_time(stamp_ns)), class_map=classes, threshold=0.0)
