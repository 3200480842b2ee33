"""Outlines and captions for Foxglove: what they tell of a frame's tracks, and that foxglove_msgs is not needed."""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from sam2s_model.colours import colours_of
from sam2s_model.semantics import GENERIC
from sam2s_model.tracks import State, Tracks
from sam2s_ros.interfaces.annotations import ImageAnnotations, annotations_message
from sam2s_ros.overlay import LATE

MISSING = importlib.util.find_spec("foxglove_msgs") is None
NEEDED = pytest.mark.skipif(
    MISSING, reason="foxglove_msgs is not installed: it comes with a ROS distribution, PyPI has none"
)


def test_there_is_a_message_exactly_where_the_package_is():
    assert (ImageAnnotations is None) == MISSING


def tracks_of(label_map: np.ndarray, *states: State) -> Tracks:
    n = len(states)
    masks = [label_map == label for label in range(1, n + 1)]
    boxes = [cv2.boundingRect(mask.view(np.uint8)) for mask in masks]
    return Tracks(
        stamp=5, label_map=label_map, object_ids=np.arange(7, 7 + n), labels=np.arange(1, 1 + n, dtype=np.uint8),
        class_ids=np.full(n, 1, np.uint8), class_names=("grasper",) * n, states=np.array(states, np.uint8),
        scores=np.full(n, 0.75, np.float32), predicted_ious=np.full(n, 0.5, np.float32),
        boxes=np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.int32).reshape(n, 4),
        areas=np.array([mask.sum() for mask in masks], np.int64), centroids=np.full((n, 2), 7.5, np.float32),
    )  # fmt: skip


def made_of(tracks: Tracks, *, late: bool = False) -> ImageAnnotations:
    header = Header(frame_id="endoscope")
    header.stamp.sec = 12
    made = annotations_message(tracks, header, GENERIC, late=late)
    msg = deserialize_message(serialize_message(made), ImageAnnotations)
    assert {part.timestamp.sec for part in (*msg.points, *msg.texts)} <= {12}
    return msg


@NEEDED
def test_the_outlines_drawn_anew_are_the_mask_with_its_hole():
    label_map = np.zeros((80, 120), np.uint8)
    cv2.ellipse(label_map, (50, 40), (30, 20), 20, 0, 360, 1, -1)
    label_map[35:45, 45:55] = 0
    label_map[70:76, 5:11] = 1  # a second part
    msg = made_of(tracks_of(label_map, State.TRACKED))
    assert len(msg.points) == 3 and {part.type for part in msg.points} == {2}  # LINE_LOOP: closed polygons
    borders = [np.array([(p.x - 0.5, p.y - 0.5) for p in part.points]) for part in msg.points]
    drawn = np.zeros_like(label_map)
    cv2.fillPoly(drawn, [border.round().astype(np.int32) for border in borders], 1)
    ring = cv2.dilate(label_map, np.ones((3, 3))) - cv2.erode(label_map, np.ones((3, 3)))
    assert not ((drawn != label_map) & (ring == 0)).any()


@NEEDED
def test_captions_and_colours_are_those_of_the_overlay_and_say_the_state():
    label_map = np.zeros((400, 600), np.uint8)
    label_map[100:140, 30:130], label_map[200:240, 30:130] = 1, 2
    tracks = tracks_of(label_map, State.TRACKED, State.SUSPECT, State.OCCLUDED, State.LOST)
    msg = made_of(tracks)
    assert [t.text for t in msg.texts] == ["7 grasper", "8 grasper SUSPECT", "9 grasper OCCLUDED", "10 grasper LOST"]
    for text, colour in zip(msg.texts, colours_of(tracks, GENERIC).values(), strict=True):
        assert [round(255 * v) for v in (text.text_color.r, text.text_color.g, text.text_color.b)] == list(colour)
    assert [(t.position.x, t.position.y) for t in msg.texts[:2]] == [(30, 100), (30, 200)]
    assert 0 < msg.texts[2].position.y < msg.texts[3].position.y < 100
    tracked, suspect = msg.points
    assert tracked.thickness > suspect.thickness > 0 and tracked.outline_color.a == 1


@NEEDED
def test_no_objects_are_an_empty_message():
    msg = made_of(tracks_of(np.zeros((8, 8), np.uint8)))
    assert not msg.points and not msg.texts


@NEEDED
def test_p07_late_masks_say_so_in_a_caption():
    msg = made_of(tracks_of(np.zeros((80, 120), np.uint8)), late=True)
    assert [text.text for text in msg.texts] == [LATE] and 70 < msg.texts[0].position.y < 80
