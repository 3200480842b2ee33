"""What the console knows of a tracker: frames that can be prompted, states over time, names, and taking back."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from echo_link import EchoLink

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_ros.console import protocol
from sam2s_ros.console.actions import Actions
from sam2s_ros.console.frames import Pictures, Seen, ShownFrame
from sam2s_ros.console.session import Session


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def frame(stamp: int, sequence: int, states: dict[int, int] | None = None) -> ShownFrame:
    label_map = np.zeros((4, 6), np.uint8)
    seen = []
    for object_id, state in (states or {}).items():
        label_map[object_id % 4, :3] = object_id
        seen.append(Seen(object_id, object_id, 1, "instrument", None, state, 0.9, (0, 0, 3, 1), 3))
    return ShownFrame(stamp, (4, 6), lambda: np.zeros((4, 6, 3), np.uint8), sequence, label_map, tuple(seen))


@pytest.fixture
def session() -> Session:
    made = Session("/t", history=3, clock=Clock(), changed=lambda: None)
    made.on_status({"state": "RUNNING", "message": "fine"})
    return made


def test_the_newest_frames_can_be_prompted(session):
    for number in range(1, 6):
        session.on_masks(frame(number * 10, number))
    assert session.state()["history"] == ["30", "40", "50"]
    assert session.frame().stamp == 50 and session.frame(30).stamp == 30 and session.frame(20) is None
    session.set_history(2)
    session.on_masks(frame(60, 6))
    assert session.state()["history"] == ["50", "60"]


@pytest.mark.parametrize("stamp, sequence, kept", [(60, 1, False), (5, 9, True)])
def test_another_stream_forgets_what_was_of_the_one_before(session, stamp, sequence, kept):
    """A sequence that goes back is another node, whose ids are other objects'; a stamp that goes back, a bag."""
    session.on_masks(frame(50, 5, {1: 1}))
    from sam2s_ros.console.session import SessionDescription

    session.describe(1, SessionDescription("left", "#112233"))
    session.prompted(None, 1, new=True, renamed_only=False)
    session.on_masks(frame(stamp, sequence, {1: 1}))
    state = session.state()
    assert state["history"] == [str(stamp)] and state["undo"] == ""
    assert (state["names"] != {}) is kept


def test_states_over_time(session):
    for number, states in enumerate([{1: 1}, {1: 1, 2: 1}, {1: 2}, {1: 3}, {1: 3}, {1: 1}], 1):
        session.on_masks(frame(number * 1_000_000, number, states))
    lanes = session.state()["lanes"]
    assert lanes == {"1": [[1.0, 1], [3.0, 2], [4.0, 3], [6.0, 1]], "2": [[2.0, 1], [3.0, 0]]}


def test_a_lane_and_the_lanes_are_bounded(session):
    for number in range(1, 1000):
        session.on_masks(frame(number, number, {1: 1 + number % 2, 2 + number % 200: 1}))
    lanes = session.state()["lanes"]
    assert len(lanes) <= 64 and all(len(lane) <= 200 for lane in lanes.values())


def test_without_a_heartbeat_the_tracker_is_gone(session):
    assert session.state()["node"] == {"state": "RUNNING", "message": "fine"}
    session._clock.now = 3.0
    node = session.state()["node"]
    assert (node["state"], node["message"]) == ("GONE", "/t has not been heard of for 3 s: is it running?")
    assert not session.alive


def test_an_image_is_shown_without_masks_only_while_the_tracker_is_off(session):
    session.on_masks(frame(10, 1))
    bare = ShownFrame(20, (4, 6), lambda: np.zeros((4, 6, 3), np.uint8))
    session._clock.now = 5.0
    session.on_status({"state": "DISABLED", "message": ""})
    session.on_image(bare)
    assert session.frame().stamp == 10, "its masks may just be coming"
    session._clock.now = 6.0
    session.on_status({"state": "RUNNING", "message": ""})
    session.on_image(bare)
    assert session.frame().stamp == 10, "a slow one"
    session.on_status({"state": "DISABLED", "message": ""})
    session._clock.now = 7.0
    session.on_status({"state": "DISABLED", "message": ""})
    session.on_image(bare)
    assert session.frame().stamp == 20 and not session.frame().tracked
    assert session.state()["history"] == ["10"], "it cannot be prompted"
    session.on_masks(frame(30, 2))
    assert session.frame().stamp == 30


def test_a_name_is_of_an_object_that_was_seen(session):
    from sam2s_ros.console.session import SessionDescription

    with pytest.raises(RequestError, match="object 7 was never seen in /t"):
        session.describe(7, SessionDescription("x"))


def do(link: EchoLink, **fields) -> dict:
    kinds = {"prompt": protocol.PromptAction, "remove": protocol.Remove, "undo": protocol.UndoAction}
    given = dict(object=0, class_name="", points=(), box=(), stamp=0) if fields["kind"] == "prompt" else {}
    request = kinds[fields.pop("kind")](request=1, camera="/echo", **{**given, **fields})
    actions = Actions({"/echo": link}.get, lambda record: None)
    return asyncio.run(actions.do("somebody", request))


def test_each_action_is_taken_back_from_the_last_to_the_first(link):
    link.step()
    [first] = do(link, kind="prompt", points=((20, 24, 1),))["objects"]
    began = dict(link.places)
    do(link, kind="prompt", object=first, points=((40, 24, 1),))
    do(link, kind="prompt", object=first, class_name="grasper")
    do(link, kind="remove", objects=(first,))
    assert link.places == {} and link.session.frame().objects == ()
    back = do(link, kind="undo")
    [again] = back["objects"]
    assert again != first and back["message"] == f"taken back: removal of object {first}, under a new id"
    assert link.places == {again: (40, 24)} and link.classes[again] == "grasper"
    assert do(link, kind="undo")["ok"] and link.classes[again] == "instrument", "of the object's new id"
    assert do(link, kind="undo")["ok"] and link.places == {again: began[first]}
    assert do(link, kind="undo")["ok"] and link.places == {} and link.session.frame().objects == ()
    answer = do(link, kind="undo")
    assert (answer["ok"], answer["error"], answer["message"]) == (
        False,
        "EMPTY_REQUEST",
        "there is nothing to take back",
    )


def test_a_correction_of_long_ago_cannot_be_taken_back_and_is_not_in_the_way(link):
    link.step()
    [first] = do(link, kind="prompt", points=((20, 24, 1),))["objects"]
    do(link, kind="prompt", object=first, points=((40, 24, 1),))
    for _ in range(5):
        link.step()
    answer = do(link, kind="undo")
    assert (answer["ok"], answer["error"]) == (False, "TOO_OLD") and "prompt_history" in answer["message"]
    assert link.places == {first: (40, 24)}
    assert do(link, kind="undo")["ok"] and link.places == {}


def test_a_correction_on_an_earlier_picture_leaves_those_after_it_unknown(link):
    link.step()
    [first] = do(link, kind="prompt", points=((20, 24, 1),))["objects"]
    [second] = do(link, kind="prompt", points=((50, 40, 1),))["objects"]
    began, early, newest = link.places[first], link.step(), link.step()
    do(link, kind="prompt", object=first, stamp=early.stamp, class_name="grasper")
    assert link.session.frame().mask(first) is not None, "a class changes no mask"
    do(link, kind="prompt", object=first, stamp=early.stamp, points=((40, 10, 1),))
    assert link.session.frame(early.stamp).mask(first)[10, 40]
    shown = link.session.frame()
    assert (shown.stamp, shown.mask(first)) == (newest.stamp, None) and shown.mask(second)[40, 50]
    assert {seen.id: (seen.stale, seen.area) for seen in shown.objects} == {first: (True, 0), second: (False, 144)}
    do(link, kind="prompt", object=first, stamp=newest.stamp, points=((30, 30, 1),))
    assert link.session.frame().mask(first)[30, 30] and not any(seen.stale for seen in link.session.frame().objects)
    answer = do(link, kind="undo")  # to the mask that the correction had shown to be wrong
    assert not answer["ok"] and "had no mask before its correction" in answer["message"]
    assert do(link, kind="undo")["ok"] and link.places[first] == began


def test_what_was_refused_is_not_there_to_be_taken_back(link):
    link.step()
    assert not do(link, kind="prompt", points=((900, 24, 1),))["ok"]
    assert link.session.state()["undo"] == ""


def test_pictures_are_made_small_and_once():
    label_map = np.zeros((90, 200), np.uint8)
    label_map[::3, ::3] = 7
    asked = []

    def image():
        asked.append(1)
        return np.zeros((90, 200, 3), np.uint8)

    made = ShownFrame(5, (90, 200), image, 1, label_map)
    pictures = Pictures(image_side=100, mask_side=70)
    jpeg, small, size = pictures.picture("/t", made)
    assert size == (90, 200) and small.shape == (30, 67) and (small == 7).all()
    assert pictures.picture("/t", made).jpeg is jpeg and len(asked) == 1
    import cv2

    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (45, 100, 3)
    assert pictures.picture("/t", ShownFrame(6, (0, 0), image)).size == (90, 200), "of one that nothing else tells of"
    for stamp in range(100):
        pictures.picture("/t", ShownFrame(stamp, (90, 200), image))
    assert len(pictures._jpegs) == Pictures.KEPT


def test_a_camera_that_is_not_there_is_an_answer():
    actions = Actions(lambda name: None, lambda record: None)
    answer = asyncio.run(actions.do("somebody", protocol.UndoAction(4, "/nowhere")))
    assert (answer["request"], answer["ok"], answer["error"]) == (4, False, ErrorCode.NOT_ACTIVE.name)
    assert answer["message"] == "there is no tracker '/nowhere'"
