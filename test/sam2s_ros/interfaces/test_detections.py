"""Detections for those who read vision_msgs: what they tell of a frame's tracks, and that it is not needed."""

from __future__ import annotations

import importlib.util
import time
from contextlib import suppress

import numpy as np
import pytest
import rclpy
from rclpy.logging import LoggingSeverity
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from sam2s_model.semantics import GENERIC
from sam2s_model.tracking.association import Detection
from sam2s_model.tracks import State, Tracks
from sam2s_ros.interfaces.detections import (
    Detection2DArray,
    LabelInfo,
    boxes_of_detections,
    detections_message,
    label_info_message,
)
from sam2s_ros.interfaces.messages import boxes_of_message
from sam2s_ros.msg import DetectedBox, DetectedBoxes
from sam2s_ros.processes.log import NodeLogger
from sam2s_ros.tracker.health import Health
from sam2s_ros.tracker.outputs import TrackerPublishers

with suppress(ImportError):
    from vision_msgs.msg import Detection2D, ObjectHypothesisWithPose

MISSING = importlib.util.find_spec("vision_msgs") is None
NEEDED = pytest.mark.skipif(
    MISSING, reason="vision_msgs is not installed: it comes with a ROS distribution, PyPI has none"
)


@pytest.fixture
def outputs_node(capfd):
    """A node with the tracker's outputs, in a context of its own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("tracker", context=context, enable_rosout=False)
    node.get_logger().set_level(LoggingSeverity.DEBUG)
    TrackerPublishers(node, Health(), time.time_ns, NodeLogger(node.get_logger()))
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_the_topic_is_there_exactly_where_the_message_is(outputs_node, capfd):
    topics = {name for name, _ in outputs_node.get_publisher_names_and_types_by_node("tracker", "/")}
    assert (
        ("/tracker/detections" in topics) != MISSING
        and ("/tracker/label_info" in topics) != MISSING
        and "/tracker/masks" in topics
    )
    assert (Detection2DArray is None) == (LabelInfo is None) == MISSING
    assert ("vision_msgs is not installed: no ~/detections" in capfd.readouterr().err) == MISSING


def tracks_of(*states: State) -> Tracks:
    n, label_map = len(states), np.zeros((20, 30), np.uint8)
    label_map[2:8, 3:13] = 1
    return Tracks(
        stamp=5, label_map=label_map, object_ids=np.arange(7, 7 + n), labels=np.arange(1, 1 + n, dtype=np.uint8),
        class_ids=np.full(n, 2, np.uint8), class_names=("grasper",) * n, states=np.array(states, np.uint8),
        scores=np.full(n, 0.75, np.float32), predicted_ious=np.full(n, 0.5, np.float32),
        boxes=np.array([[3, 2, 13, 8]] * n, np.int32), areas=np.full(n, 60), centroids=np.full((n, 2), 7.5, np.float32),
    )  # fmt: skip


@NEEDED
def test_tracked_objects_are_detections_with_the_header():
    header = Header(frame_id="endoscope")
    header.stamp.sec = 12
    made = detections_message(tracks_of(State.TRACKED, State.SUSPECT, State.OCCLUDED, State.LOST), header)
    msg = deserialize_message(serialize_message(made), Detection2DArray)
    [found] = msg.detections
    assert msg.header == header == found.header and found.id == "7"
    assert (found.bbox.center.position.x, found.bbox.center.position.y) == (7.5, 4.5)
    assert (found.bbox.size_x, found.bbox.size_y) == (10.0, 6.0)
    [result] = found.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("grasper", 0.75)


@NEEDED
def test_a_frame_without_tracked_objects_is_an_empty_message():
    assert detections_message(tracks_of(State.LOST), Header()).detections == []


@NEEDED
def test_what_a_detector_sends_is_read_with_its_likeliest_class():
    sent = Detection2DArray(detections=[Detection2D(), Detection2D()])
    box = sent.detections[0].bbox
    box.center.position.x, box.center.position.y, box.size_x, box.size_y = 20.0, 10.0, 8.0, 6.0
    for name, score in (("scissors", 0.25), ("grasper", 0.75)):
        made = ObjectHypothesisWithPose()
        made.hypothesis.class_id, made.hypothesis.score = name, score
        sent.detections[0].results.append(made)
    found, bare = boxes_of_detections(deserialize_message(serialize_message(sent), Detection2DArray))
    assert found == Detection((16.0, 7.0, 24.0, 13.0), "grasper", 0.75) and bare.class_name == ""


def test_what_our_own_message_says_is_read():
    sent = DetectedBoxes(boxes=[DetectedBox(box=[1.0, 2.0, 3.0, 4.5], class_name="grasper", score=0.5), DetectedBox()])
    found = boxes_of_message(deserialize_message(serialize_message(sent), DetectedBoxes))
    assert found == [Detection((1.0, 2.0, 3.0, 4.5), "grasper", 0.5), Detection((0.0, 0.0, 0.0, 0.0), "", 0.0)]


@NEEDED
def test_the_classes_are_those_of_the_semantic_image():
    msg = label_info_message(GENERIC, 12 * 10**9)
    assert msg.header.stamp.sec == 12
    assert [(c.class_id, c.class_name) for c in msg.class_map] == [(c.id, c.name) for c in GENERIC.classes]
