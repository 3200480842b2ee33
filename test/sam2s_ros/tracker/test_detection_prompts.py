"""What a message of detections leads to in the worker: the decision and the prompt are one call."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from said_log import SaidLog
from std_msgs.msg import Header

from sam2s_model.config import TrackerConfig
from sam2s_model.semantics import GENERIC
from sam2s_model.tracking.association import Detection, Fate
from sam2s_model.tracking.requests import PromptResult, check_prompts
from sam2s_model.tracks import State, Tracks
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.tracker.detection_prompts import DetectionPrompts
from sam2s_ros.tracker.event_log import EventLog

THERE, LEFT, RIGHT = (10.0, 10.0, 40.0, 40.0), (200.0, 200.0, 260.0, 260.0), (300.0, 300.0, 360.0, 360.0)
ELSEWHERE = (100.0, 300.0, 140.0, 340.0)


class BoxTracker:
    """Obeys the contract as far as prompts go: an object's mask is the box it was prompted with.

    follows: whether it is; else the mask is elsewhere
    """

    def __init__(self, max_objects: int, follows: bool):
        self.follows = follows
        self.config = TrackerConfig(max_objects=max_objects)
        self.boxes, self.states, self.asked = {1: THERE, 2: (0.0, 0.0, 0.0, 0.0)}, {1: State.TRACKED, 2: State.LOST}, []

    @property
    def object_ids(self):
        return tuple(self.boxes)

    @property
    def newest(self) -> Tracks:
        boxes = np.array(list(self.boxes.values()), np.int32).reshape(-1, 4)
        return SimpleNamespace(
            size=(400, 400), object_ids=np.array(self.object_ids), boxes=boxes,
            areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), class_names=("object",) * len(boxes),
            states=np.array(list(self.states.values())), index=list(self.object_ids).index,
        )  # fmt: skip

    def prompt(self, stamp, prompts, *, learn=True):
        check_prompts(prompts, self.object_ids, self.config, GENERIC)
        ids = []
        for prompt in prompts:
            ids.append(prompt.object_id or max(self.boxes) + 1)
            self.boxes[ids[-1]], self.states[ids[-1]] = tuple(prompt.box) if self.follows else ELSEWHERE, State.TRACKED
        self.asked.append(ids)
        return PromptResult(stamp, tuple(ids), self.newest, tuple(prompts))

    def remove(self, object_ids):
        for object_id in object_ids:
            del self.boxes[object_id], self.states[object_id]


class Detected:
    """Messages of detections as the topic's callback gets them, with a tracker of so many objects at most."""

    def __init__(self, max_objects: int, follows: bool = True):
        self.tracker, self.log = BoxTracker(max_objects, follows), SaidLog()
        self.prompts = DetectionPrompts(
            None, lambda call: (call(self.tracker), None), lambda: (), lambda: NodeConfig(detections_in="boxes"),
            lambda: max_objects, lambda: GENERIC, None, EventLog(self.log),
        )  # fmt: skip
        self.prompts._kind = "boxes"

    def send(self, *found: Detection) -> dict[Fate, int]:
        before = self.counts()
        self.prompts._on_detections(lambda message: list(found), SimpleNamespace(header=Header()))
        return {fate: n - before[fate] for fate, n in self.counts().items() if n > before[fate]}

    def counts(self) -> dict[Fate, int]:
        return {fate: int(self.prompts.values()[fate.value]) for fate in Fate}


@pytest.mark.parametrize("max_objects", [2, 3])
def test_a_detection_for_which_there_is_no_room_does_not_keep_a_lost_object_from_returning(max_objects):
    detected = Detected(max_objects)
    found = [Detection(RIGHT, "", 0.9), Detection(LEFT, "", 0.8), Detection((310.0, 20.0, 350.0, 60.0), "", 0.7)]
    room = max_objects - 2
    expected = {Fate.RETURNED: 1, Fate.NEW: room, Fate.NO_ROOM: 2 - room}
    assert detected.send(*found) == {fate: n for fate, n in expected.items() if n}
    assert detected.tracker.asked == [[2, *range(3, 3 + room)]] and detected.tracker.states[2] is State.TRACKED
    assert any("no prompt for the detection" in said and "max_objects" in said for said in detected.log.warnings)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_detection_that_is_not_finite_is_no_prompt(wrong):
    detected = Detected(max_objects=8)
    boxes = (wrong,) * 4, (LEFT[0], LEFT[1], wrong, LEFT[3]), (-wrong, LEFT[1], LEFT[2], LEFT[3])
    assert detected.send(*(Detection(box) for box in boxes)) == {Fate.WEAK: 3}
    assert detected.tracker.asked == [] and len(detected.tracker.boxes) == 2


def test_a_place_that_was_prompted_in_vain_is_tried_again_in_another_stream():
    detected = Detected(max_objects=8, follows=False)
    found = Detection(LEFT, "instrument")
    assert detected.send(found) == {Fate.NEW: 1} and detected.send(found) == {Fate.UNFOLLOWED: 1}
    detected.prompts.forget()
    assert detected.send(found) == {Fate.NEW: 1} and len(detected.tracker.asked) == 2
