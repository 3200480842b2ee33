"""Which detections become objects: none where an object is, one for each instrument, none on a guess."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.tracking.association import Detection, Fate, KnownObject, associate, box_iou, within
from sam2s_model.tracks import State

HERE, NEAR, FAR, ELSEWHERE = (10, 10, 50, 40), (14, 12, 54, 42), (80, 60, 120, 90), (130, 5, 150, 45)
TRACKED, OCCLUDED, LOST = State.TRACKED, State.OCCLUDED, State.LOST


def fates(detections, objects, **options):
    return associate(detections, objects, **{**dict(min_iou=0.3, min_score=0.5), **options})


def grasper(object_id: int, *boxes, state: int = TRACKED, name: str = "grasper") -> KnownObject:
    return KnownObject(object_id, name, state, boxes)


CASES = {
    "an object is there": ([Detection(NEAR, "grasper")], [grasper(3, HERE)], [(Fate.KNOWN, 3)]),
    "of a detector without classes": ([Detection(NEAR)], [grasper(3, HERE)], [(Fate.KNOWN, 3)]),
    "it was there on that image": ([Detection(HERE, "grasper")], [grasper(3, FAR, HERE)], [(Fate.KNOWN, 3)]),
    "nothing is tracked": ([Detection(HERE, "grasper")], [], [(Fate.NEW, 0)]),
    "elsewhere": ([Detection(FAR, "grasper")], [grasper(3, HERE)], [(Fate.NEW, 0)]),
    "another class is there": ([Detection(NEAR, "scissors")], [grasper(3, HERE)], [(Fate.OTHER_CLASS, 0)]),
    "two boxes of one object": (
        [Detection(NEAR, "grasper", 0.6), Detection(HERE, "grasper", 0.9)],
        [grasper(3, HERE)],
        [(Fate.DUPLICATE, 3), (Fate.KNOWN, 3)],
    ),
    "two boxes of one new instrument": (
        [Detection(NEAR, "grasper", 0.6), Detection(HERE, "grasper", 0.9), Detection(FAR, "grasper")],
        [],
        [(Fate.DUPLICATE, 0), (Fate.NEW, 0), (Fate.NEW, 0)],
    ),
    "the better overlap wins": (
        [Detection(HERE, "grasper", 0.6), Detection(NEAR, "grasper", 0.9)],
        [grasper(3, HERE), grasper(4, NEAR)],
        [(Fate.KNOWN, 3), (Fate.KNOWN, 4)],
    ),
    "a low score, no box, no number": (
        [
            Detection(HERE, score=0.4),
            Detection((5, 5, 5, 9)),
            Detection((np.nan, 1, 5, 5)),
            Detection(FAR, score=np.nan),
        ],
        [],
        [(Fate.WEAK, 0)] * 4,
    ),
    "the one of its class that is lost": (
        [Detection(FAR, "grasper")],
        [grasper(3, state=LOST), grasper(4, HERE), grasper(5, state=LOST, name="scissors")],
        [(Fate.RETURNED, 3)],
    ),
    "it returns once": (
        [Detection(FAR, "grasper", 0.9), Detection(ELSEWHERE, "grasper", 0.8)],
        [grasper(3, state=LOST)],
        [(Fate.RETURNED, 3), (Fate.NEW, 0)],
    ),
    "which of two lost ones": (
        [Detection(FAR, "grasper")],
        [grasper(3, state=LOST), grasper(4, state=LOST)],
        [(Fate.AMBIGUOUS, 0)],
    ),
    "one is hidden for a moment": ([Detection(FAR, "grasper")], [grasper(3, state=OCCLUDED)], [(Fate.WAITING, 0)]),
}


@pytest.mark.parametrize("detections, objects, expected", CASES.values(), ids=CASES)
def test_what_becomes_of_a_detection(detections, objects, expected):
    assert fates(detections, objects) == expected


def test_one_that_is_lost_is_left_alone_where_that_is_asked():
    found = fates([Detection(FAR, "grasper")], [grasper(3, state=LOST)], prompt_lost=False)
    assert found == [(Fate.NEW, 0)]


def test_a_place_that_was_prompted_in_vain_is_left_out():
    found = fates([Detection(NEAR), Detection(FAR)], [], unfollowed=[HERE])
    assert found == [(Fate.UNFOLLOWED, 0), (Fate.NEW, 0)]


def test_no_object_gets_two_detections_and_no_new_ones_overlap():
    generator = np.random.default_rng(0)
    for _ in range(200):
        corners = generator.uniform(0, 100, (12, 2))
        boxes = [(*c, *(c + generator.uniform(5, 60, 2))) for c in corners]
        names = generator.choice(["grasper", "scissors", ""], 12)
        detections = [
            Detection(b, str(n), float(s)) for b, n, s in zip(boxes[:8], names[:8], generator.random(8), strict=True)
        ]
        objects = [grasper(i + 1, boxes[8 + i], name=str(names[8 + i]) or "grasper") for i in range(4)]
        found = fates(detections, objects)
        assert len(found) == 8
        known = [i for fate, i in found if fate is Fate.KNOWN]
        assert len(known) == len(set(known))
        new = [d for d, (fate, _) in zip(detections, found, strict=True) if fate is Fate.NEW]
        there = [*(o.boxes[0] for o in objects), *(d.box for d in new)]
        assert all(box_iou(d.box, box) < 0.3 for d in new for box in there if box is not d.box)


@pytest.mark.parametrize("a, b, iou", [(HERE, HERE, 1.0), (HERE, FAR, 0.0), ((0, 0, 2, 2), (1, 0, 3, 2), 1 / 3)])
def test_overlap(a, b, iou):
    assert box_iou(a, b) == pytest.approx(iou) == box_iou(b, a)


def test_a_box_is_cut_to_the_image():
    assert within((-5, -3, 700, 20), (480, 640)) == (0.0, 0.0, 639.0, 20)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(4))
def test_a_box_that_is_not_finite_is_not_cut_to_one_that_is(place, wrong):
    box = (*HERE[:place], wrong, *HERE[place + 1 :])
    cut = within(box, (480, 640))
    np.testing.assert_array_equal(cut, box)
    assert fates([Detection(cut)], []) == [(Fate.WEAK, 0)]


def test_where_there_is_no_room_the_best_new_ones_begin_and_a_lost_object_returns():
    lost = grasper(4, state=LOST)
    found = [
        Detection(HERE, "scissors", 0.6), Detection(FAR, "scissors", 0.9), Detection(FAR, "scissors", 0.8),
        Detection(ELSEWHERE, "grasper", 0.5),
    ]  # fmt: skip
    returned = (Fate.RETURNED, 4)
    for room, here, far in ((2, Fate.NEW, Fate.NEW), (1, Fate.NO_ROOM, Fate.NEW), (0, Fate.NO_ROOM, Fate.NO_ROOM)):
        assert fates(found, [lost], room=room) == [(here, 0), (far, 0), (Fate.DUPLICATE, 0), returned]
