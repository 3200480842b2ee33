"""What the page and the console say to each other: what is read, and what is refused with which sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from sam2s_model.errors import ConsoleError
from sam2s_ros.console import protocol
from sam2s_ros.console.protocol import frame_message, read_command, read_frame
from sam2s_ros.console.runs import decode_runs

PROMPT = dict(type="prompt", request=7, camera="/tracker", stamp="12345678901234567890"[:19], object=0)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=12,
)
names = st.sampled_from([
    "request", "camera", "stamp", "object", "class", "points", "box", "objects", "name", "color", "on", "count",
    "shown",
])  # fmt: skip
messages = st.builds(
    lambda kind, fields: json.dumps({"type": kind, **fields}),
    st.sampled_from(["prompt", "remove", "undo", "reset", "enable", "describe", "ack", "watch", "show", "hello"]),
    st.dictionaries(names, plain, max_size=8),
)


@pytest.mark.parametrize("fields, expected", [
    (dict(type="hello", name="Ada"), protocol.Hello("Ada")),
    (dict(type="ack", count=3, shown=4.5), protocol.Ack(3, 4.5)),
    (dict(type="watch", camera="/left/tracker"), protocol.Watch("/left/tracker")),
    (dict(type="show", stamp="0"), protocol.ShowAction(0)),
    (dict(PROMPT, stamp="1700000000000000001", points=[[1, 2.5, 1], [3, 4, 0]]),
     protocol.PromptAction(7, "/tracker", 1700000000000000001, 0, "", ((1.0, 2.5, 1), (3.0, 4.0, 0)), ())),
    (dict(PROMPT, stamp="5", object=4, box=[1, 2, 30, 40], **{"class": "grasper"}),
     protocol.PromptAction(7, "/tracker", 5, 4, "grasper", (), (1.0, 2.0, 30.0, 40.0))),
    (dict(type="remove", request=1, camera="/t", objects=[2, 3]), protocol.Remove(1, "/t", (2, 3))),
    (dict(type="undo", request=1, camera="/t"), protocol.UndoAction(1, "/t")),
    (dict(type="reset", request=1, camera="/t"), protocol.Reset(1, "/t")),
    (dict(type="enable", request=1, camera="/t", on=False), protocol.Enable(1, "/t", False)),
    (dict(type="describe", request=1, camera="/t", object=2, name="left", color="#00ffAA"),
     protocol.Describe(1, "/t", 2, "left", "#00ffAA")),
])  # fmt: skip
def test_a_message_is_read(fields, expected):
    assert read_command(json.dumps(fields)) == expected


@pytest.mark.parametrize("text, said", [
    ("", "a message is not JSON"),
    ("[" * 5000, "a message is not JSON"),
    ('{"type": "show", "stamp": NaN}', "a message is not JSON"),
    ("[1]", "a message is [1]: expected an object with a type"),
    ('{"type": "shout"}', "message of type 'shout': expected one of hello, ack"),
    ('{"type": ["show"]}', "message of type ['show']"),
    ('{"type": "show", "stamp": 5}', "stamp of show is 5: expected a string of ns"),
    ('{"type": "show", "stamp": "-5"}', "stamp of show is '-5'"),
    ('{"type": "show", "stamp": "9999999999999999999"}', "from 0 to 2147483647999999999"),
    ('{"type": "ack", "count": true}', "count of ack is True: expected a whole number"),
    ('{"type": "watch", "camera": "a\\nb"}', "camera of watch is 'a\\nb': expected at most 200 printable"),
    ('{"type": "hello", "name": "\\ud800"}', "expected at most 40 printable characters"),
    (json.dumps(dict(type="hello", name="x" * 41)), "expected at most 40 printable"),
    (json.dumps(dict(PROMPT, stamp="1", points=[[1, 2]])), "points of prompt is [1, 2]: expected x, y and a sign"),
    (json.dumps(dict(PROMPT, stamp="1", points=[[1, 2, 2]])), "points of prompt is 2: expected a whole number from 0"),
    (json.dumps(dict(PROMPT, stamp="1", points=[[1e9, 2, 1]])), "expected a number from -1e+06 to 1e+06"),
    (json.dumps(dict(PROMPT, stamp="1", points=[[1, 2, 1]] * 65)), "expected a list of at most 64"),
    (json.dumps(dict(PROMPT, stamp="1", box=[1, 2, 3])), "expected x0, y0, x1, y1, or nothing"),
    (json.dumps(dict(type="remove", request=1, camera="", objects=[])), "expected at least one id"),
    (json.dumps(dict(type="remove", request=1, camera="", objects=[0])), "a whole number from 1 to 4294967295"),
    (json.dumps(dict(type="describe", request=1, camera="", object=1, color="red")), "expected #rrggbb"),
    (json.dumps(dict(type="enable", request=1, camera="", on=1)), "on of enable is 1: expected true or false"),
])  # fmt: skip
def test_a_bad_message_is_refused_with_value_and_limit(text, said):
    with pytest.raises(ConsoleError) as refusal:
        read_command(text)
    assert said in str(refusal.value)
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 300


@settings(max_examples=100)
@given(st.text(max_size=200) | plain.map(lambda value: json.dumps(value)) | messages)
@example("9" * 5000)
@example('{"type": "ack", "count": 1' + "0" * 400 + "}")
@example('{"type": "ack", "count": 1, "shown": 1' + "0" * 400 + "}")
def test_any_message_is_read_or_refused_in_one_line(text):
    try:
        protocol.read_command(text)
    except ConsoleError as error:
        assert str(error).isprintable() and len(str(error)) < 400


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)),
    st.binary(max_size=50),
    st.text(max_size=20),
)
def test_a_frame_comes_back(label_map, jpeg, name):
    height, width = label_map.shape
    header = {"camera": name, "mask": [width, height], "age": None}
    found, image, lengths, labels = read_frame(frame_message(header, jpeg, label_map))
    assert found == header and image == jpeg
    assert (decode_runs(lengths, labels, height, width) == label_map).all()


def test_what_is_no_frame_is_refused():
    message = frame_message({}, b"jpeg", np.zeros((2, 2), np.uint8))
    for data, said in (
        (b"", "a frame has 0 bytes: expected at least 16"),
        (b"\x02" + message[1:], "message of kind 2, version 1: expected 1 and 1"),
        (message[:-1], f"a frame has {len(message) - 1} bytes: its prefix says {len(message)}"),
    ):
        with pytest.raises(ConsoleError, match=said):
            read_frame(data)


def test_a_number_that_is_none_is_never_sent():
    with pytest.raises(ValueError):
        frame_message({"score": float("nan")}, b"", np.zeros((1, 1), np.uint8))
