"""Who follows whom, on scripted tracks."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.evaluation.identities import GONE, Identities
from sam2s_model.recordings.recording import Truth
from sam2s_model.tracks import State, Tracks

LEFT, RIGHT = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
LEFT[2:10, 2:10] = RIGHT[2:10, 12:20] = True
NONE = Truth({}, size=(20, 20))


def truth(**masks) -> Truth:
    """Truth of the objects a (1) and b (2)."""
    return Truth({"ab".index(name) + 1: mask for name, mask in masks.items()}, size=(20, 20))


def tracked(**masks) -> Tracks:
    """Tracks of objects whose ids follow an i: i3=LEFT."""
    ids = np.array([int(name[1:]) for name in masks], np.int64)
    label_map, n = np.zeros((20, 20), np.uint8), len(ids)
    for label, mask in enumerate(masks.values(), start=1):
        label_map[mask] = label
    return Tracks(
        stamp=1, label_map=label_map, object_ids=ids, labels=np.arange(1, n + 1, dtype=np.uint8),
        class_ids=np.ones(n, np.uint8), class_names=("instrument",) * n, states=np.full(n, State.TRACKED, np.uint8),
        scores=np.ones(n, np.float32), predicted_ious=np.ones(n, np.float32), boxes=np.zeros((n, 4), np.int32),
        areas=np.bincount(label_map.ravel(), minlength=n + 1)[1 : n + 1].astype(np.int64),
        centroids=np.zeros((n, 2), np.float32),
    )  # fmt: skip


BOTH = truth(a=LEFT, b=RIGHT)


@pytest.mark.parametrize("steps, switches, returns", [
    ([(tracked(i3=LEFT, i4=RIGHT), BOTH, 4)], 0, []),
    ([(tracked(i3=LEFT, i4=RIGHT), BOTH, 2), (tracked(i3=RIGHT, i4=LEFT), BOTH, 2)], 2, []),
    ([(tracked(i3=LEFT), BOTH, 2), (tracked(i3=RIGHT), BOTH, 2)], 0, []),
    ([(tracked(i3=LEFT), truth(a=LEFT), 2), (tracked(), NONE, GONE), (tracked(), truth(a=LEFT), 3),
      (tracked(i3=LEFT), truth(a=LEFT), 1)], 0, [(3, True)]),
    ([(tracked(i3=LEFT), truth(a=LEFT), 2), (tracked(), NONE, GONE), (tracked(i7=LEFT), truth(a=LEFT), 1)],
     1, [(0, True)]),
    ([(tracked(i3=LEFT), truth(a=LEFT), 2), (tracked(), NONE, GONE), (tracked(), truth(a=LEFT), 2)], 0, [(2, False)]),
    ([(tracked(i3=LEFT), truth(a=LEFT), 2), (tracked(), NONE, GONE - 1), (tracked(), truth(a=LEFT), 2)], 0, []),
])  # fmt: skip
def test_switches_and_returns(steps, switches, returns):
    counted = Identities()
    for tracks, known, frames in steps:
        for _ in range(frames):
            counted.add(tracks, known)
    counted.close()
    assert (counted.switches, counted.returns) == (switches, returns)
    assert counted.several == any(known is BOTH for _, known, _ in steps)


def test_what_discovery_starts_lies_on_an_object_or_is_false():
    counted, nowhere = Identities(), np.zeros((20, 20), bool)
    nowhere[14:18, 2:18] = True
    counted.add(tracked(i3=LEFT), BOTH)
    counted.discovered(tracked(i3=LEFT, i4=RIGHT, i5=nowhere), [4, 5], BOTH)
    assert (counted.starts, counted.false_starts) == (2, 1)
    counted.discovered(tracked(i3=LEFT), [3], BOTH)
    assert (counted.starts, counted.false_starts) == (3, 1)
    counted.discovered(tracked(i3=RIGHT), [3], BOTH)  # it followed the other one
    counted.discovered(tracked(i3=LEFT), [3], truth(b=RIGHT))  # which is not there
    assert (counted.starts, counted.false_starts) == (5, 3)


def test_void_counts_for_nobody():
    void = np.zeros((20, 20), bool)
    void[:, 5:12] = True
    counted = Identities()
    counted.add(tracked(i3=LEFT | void), Truth({1: LEFT & ~void}, void=void, size=(20, 20)))
    counted.add(tracked(i4=LEFT & ~void), Truth({1: LEFT & ~void}, void=void, size=(20, 20)))
    assert counted.switches == 1, "both are on it"


def test_what_discovery_starts_partly_on_void_is_judged_by_the_rest():
    void = np.zeros((20, 20), bool)
    void[2:10, 4:20] = True
    counted = Identities()
    known = Truth({1: LEFT & ~void}, void=void, size=(20, 20))
    counted.discovered(tracked(i3=LEFT, i4=RIGHT), [3, 4], known)
    assert (counted.starts, counted.false_starts) == (1, 0), "of what lies on void pixels alone nothing is known"
