"""Discovery while tracking: what was lost is found under its id, what has drifted is prompted anew; both are said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2s_model.config import TrackerConfig
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import Return, State

STEP = 40_000_000
AWAY = 3_000_000_000  # ns, longer than lost_after


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max((one | other).sum(), 1)


def lose(tracker: Tracker, object_id: int) -> None:
    """As if the tracker had not seen an object for long: what it says of it on the newest frame is "not there"."""
    frame = tracker._history.newest
    frame.predictions[object_id] = replace(frame.predictions[object_id], present=False)
    frame.previous[object_id] = replace(frame.previous[object_id], last_visible=frame.stamp - AWAY)
    tracker._describe(frame)


@pytest.fixture
def tracked(pico, bank, unseen_frames) -> tuple[Tracker, int, np.ndarray]:
    """A tracker with one object of two frames, its id, and its true mask on the second."""
    made = Tracker(pico, "fifo", TrackerConfig(confident_iou=0.0))
    made.discovery.use(bank)
    made.step(AWAY, unseen_frames[0].image)
    label, mask = next((v, m) for v, m in unseen_frames[0].truth.masks.items() if m.sum() > 400)
    [object_id] = made.prompt(0, [Prompt(class_name="instrument", mask=mask)], learn=False).object_ids
    made.step(AWAY + STEP, unseen_frames[1].image)
    return made, object_id, unseen_frames[1].truth.masks[label]


def test_a_lost_object_is_found_again_under_its_id(tracked, unseen_frames):
    tracker, object_id, truth = tracked
    lose(tracker, object_id)
    assert tracker.newest.states.tolist() == [State.LOST]
    assert tracker.rediscover(find=False) == []
    [told] = tracker.rediscover(recondition=False)
    assert (told.object_id, told.kind) == (object_id, Return.FOUND) and told.similarity > 0.3
    newest = tracker.newest
    assert newest.states.tolist() == [State.TRACKED] and newest.returns.tolist() == [Return.FOUND]
    assert iou(newest.mask(object_id), truth) > 0.5
    assert tracker.step(AWAY + 2 * STEP, unseen_frames[2].image).returns.tolist() == [Return.FOUND]
    assert tracker.step(AWAY + 3 * STEP, unseen_frames[2].image).returns.tolist() == [Return.NOT_ASKED]


def test_another_is_not_taken_for_what_was_lost(tracked):
    tracker, object_id, _ = tracked
    lose(tracker, object_id)
    bank = tracker._segmenter.bank
    with torch.inference_mode():
        bank.states["prototype"][bank.row(object_id)] *= -1  # its looks were others
    assert tracker.rediscover() == [] and tracker.newest.states.tolist() == [State.LOST]


def test_a_mask_that_has_drifted_is_replaced_by_a_better_one(tracked):
    tracker, object_id, truth = tracked
    ys, xs = np.nonzero(truth)
    ragged = truth & ((np.arange(truth.shape[0])[:, None] + np.arange(truth.shape[1])) % 4 < 3)
    ragged[: int(np.median(ys))] = False
    tracker.prompt(0, [Prompt(object_id=object_id, mask=ragged)], learn=False)
    frame = tracker._history.newest
    frame.predictions[object_id] = replace(frame.predictions[object_id], predicted_iou=0.3)
    before = iou(tracker.newest.mask(object_id), truth)
    assert tracker.rediscover(recondition=False) == []
    [told] = tracker.rediscover()
    assert (told.object_id, told.kind) == (object_id, Return.RECONDITIONED) and told.gain >= 0.1
    assert iou(tracker.newest.mask(object_id), truth) > max(before, 0.5)
    assert tracker.newest.returns.tolist() == [Return.RECONDITIONED]


def test_what_is_tracked_well_stays_as_it_is(tracked):
    tracker, _, _ = tracked
    revision = tracker.revision
    assert tracker.rediscover() == [] and tracker.revision == revision


def test_without_objects_there_is_nothing_to_look_for(pico, unseen_frames):
    made = Tracker(pico)
    made.step(STEP, unseen_frames[0].image)
    assert made.rediscover() == []
