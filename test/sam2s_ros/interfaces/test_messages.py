"""Values survive the way into messages and back; headers are carried as they are."""

import array
from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from hypothesis import given, strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2s_model import errors, tracks
from sam2s_model.errors import ConfigError, ErrorCode, RequestError
from sam2s_model.prompting.strokes import Stroke
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import ClassLabel, LabelSet
from sam2s_model.tracks import Return, State, Tracks
from sam2s_ros.interfaces import messages
from sam2s_ros.msg import ErrorCode as ErrorCodeMsg, Prompt as PromptMsg, TrackedMasks, TrackedObject

HEADER = Header(stamp=Time(sec=12, nanosec=345), frame_id="endoscope")


def two_objects(stamp=12_000_000_345):
    label_map = np.zeros((20, 30), np.uint8)
    label_map[2:8, 3:13] = 7
    label_map[:, 29] = 255
    return Tracks(
        stamp=stamp,
        label_map=label_map,
        object_ids=np.array([4, 2**32 - 1]),
        labels=np.array([7, 1], np.uint8),
        class_ids=np.array([2, 254], np.uint8),
        class_names=("object", "grasper"),
        states=np.array([State.TRACKED, State.LOST], np.uint8),
        scores=np.array([0.75, 0.25], np.float32),
        predicted_ious=np.array([0.5, 0.0], np.float32),
        boxes=np.array([[3, 2, 13, 8], [0, 0, 0, 0]], np.int32),
        areas=np.array([60, 0]),
        centroids=np.array([[7.5, 4.5], [np.nan, np.nan]], np.float32),
        revision=9,
        returns=np.array([Return.NOT_ASKED, Return.REJECTED], np.uint8),
        similarities=np.array([np.nan, 0.125], np.float32),
        class_scores=np.array([0.625, np.nan], np.float32),
    )


def over_the_wire(msg):
    return deserialize_message(serialize_message(msg), type(msg))


def test_p04_tracks_survive_the_way_there_and_back():
    there = messages.masks_message(
        two_objects(), HEADER, sequence=3, received_ns=5, finished_ns=2 * 10**9 + 7, model="m/none"
    )
    arrived = over_the_wire(there)
    back = messages.tracks_from_message(arrived)
    for field in Tracks.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, field), getattr(two_objects(), field), err_msg=field)
    assert (arrived.sequence, arrived.model, messages.to_ns(arrived.received), messages.to_ns(arrived.finished)) == (
        3, "m/none", 5, 2 * 10**9 + 7,
    )  # fmt: skip


def test_p05_one_header_everywhere():
    msg = over_the_wire(
        messages.masks_message(two_objects(), HEADER, sequence=1, received_ns=0, finished_ns=0, model="")
    )
    assert msg.header == HEADER and msg.label_image.header == HEADER


def test_p12_no_objects_is_an_explicit_empty_message():
    msg = over_the_wire(
        messages.masks_message(Tracks.empty(7, 6, 8), HEADER, sequence=1, received_ns=0, finished_ns=0, model="")
    )
    assert (
        msg.objects == []
        and (msg.label_image.height, msg.label_image.width) == (6, 8)
        and not any(msg.label_image.data)
    )


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_survive(ns):
    assert messages.to_ns(messages.to_time(ns)) == ns


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(object_id=3, class_name="grasper", box=np.array([1, 2, 3.5, 4], np.float32)),
        Prompt(points=np.array([[1, 2], [3, 4]], np.float32), point_labels=np.array([1, 0])),
        Prompt(mask=np.eye(8, 9) > 0),
        Prompt(mask=np.eye(8, 9) > 0, tube=True),
        Prompt(strokes=(Stroke(np.array([[1, 2], [3, 4]], np.float32)), Stroke(np.zeros((1, 2), np.float32), 0))),
        Prompt(points=np.array([[1, 2]], np.float32), point_labels=np.array([1]), granularity=0.25),
        Prompt(),
        Prompt(points=np.array([[np.nan, 2]], np.float32), point_labels=np.array([1, 2, 3])),  # judged by the tracker
    ],
)
def test_prompts_survive(prompt):
    back = messages.prompt_from_message(over_the_wire(messages.prompt_message(prompt)))
    for drawn, found in zip(prompt.strokes, back.strokes, strict=True):
        np.testing.assert_array_equal(drawn.points, found.points)
        assert drawn.label == found.label
    back, prompt = replace(back, strokes=()), replace(prompt, strokes=())
    for field in Prompt.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, field), getattr(prompt, field), err_msg=field)


def test_a_prompt_mask_of_probabilities_is_refused():
    grey = Image(encoding="mono8", height=2, width=4, step=4, data=array.array("B", [0, 3, 90, 140, 200, 250, 255, 9]))
    with pytest.raises(RequestError, match="the mask has 8 values from 0 to 255: expected bool") as caught:
        messages.prompt_from_message(PromptMsg(mask=grey))
    assert caught.value.code == ErrorCode.INVALID_PROMPT


def test_a_malformed_prompt_mask_is_refused():
    with pytest.raises(RequestError, match="the prompt's mask: image data has 0 bytes") as caught:
        messages.prompt_from_message(PromptMsg(mask=Image(encoding="mono8", height=4, width=4, step=4)))
    assert caught.value.code == ErrorCode.INVALID_PROMPT
    with pytest.raises(RequestError, match="encoding 'rgb8'"):
        messages.prompt_from_message(PromptMsg(mask=Image(encoding="rgb8", height=4, width=4, step=12)))


def test_label_sets_survive():
    labels = LabelSet("mine", (ClassLabel(1, "a", (0, 128, 255)), ClassLabel(254, "b", (1, 2, 3))))
    msg = over_the_wire(messages.labels_message(labels, 5))
    assert messages.labels_from_message(msg) == labels and messages.to_ns(msg.header.stamp) == 5


def test_a_label_set_with_a_name_too_few_is_refused():
    msg = messages.labels_message(LabelSet("mine", (ClassLabel(1, "a", (0, 128, 255)),)), 5)
    msg.class_names = []
    with pytest.raises(ConfigError, match="1 ids, 0 names and 1 colours"):
        messages.labels_from_message(msg)


def test_constants_of_messages_and_of_the_core_are_equal():
    in_messages = {name: getattr(ErrorCodeMsg, name) for name in ErrorCode.__members__}
    assert in_messages == {code.name: code.value for code in errors.ErrorCode}
    assert {s.name: getattr(TrackedObject, f"STATE_{s.name}") for s in State} == {s.name: s.value for s in State}
    assert {r.name: getattr(TrackedObject, f"RETURN_{r.name}") for r in Return} == {r.name: r.value for r in Return}
    assert (TrackedMasks.LABEL_NONE, TrackedMasks.LABEL_OUTSIDE) == (tracks.LABEL_NONE, tracks.LABEL_OUTSIDE)
