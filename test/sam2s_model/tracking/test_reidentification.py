"""What comes back after it was LOST: compared with what went, accepted under the same id, or withheld."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2s_model.config import TrackerConfig
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.memory import BankLayout, BankView, MemoryBank
from sam2s_model.tracking.reidentification import MEMORY, Reidentification, appearance
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import Return, State

SECOND = 10**9
BOX = np.array([20, 30, 60, 60], np.float32)
LEFT, RIGHT = (slice(0, 4), slice(0, 4)), (slice(0, 4), slice(12, 16))


def image(**places: float) -> torch.Tensor:
    """(1, 8, 16, 16) features: grey, with things at the left and the right whose channel says what they are."""
    features = torch.ones(1, 8, 16, 16)
    for name, place in (("left", LEFT), ("right", RIGHT)):
        if name in places:
            features[0, places[name], place[0], place[1]] = 4.0
    return features


def mask(*places) -> torch.Tensor:
    logits = torch.full((len(places), 1, 64, 64), -1.0)
    for row, (ys, xs) in enumerate(places):
        logits[row, 0, 4 * ys.start : 4 * ys.stop, 4 * xs.start : 4 * xs.stop] = 1.0
    return logits


def learn(judge, view, features, logits, *said) -> None:
    judge.learn(view, 0, appearance(features, logits), logits, *said)


def hide(judge, view, second: float) -> None:
    nowhere = torch.full((2, 1, 64, 64), -1.0)
    learn(judge, view, image(), nowhere, torch.ones(2), torch.tensor([False, False]), round(second * SECOND))


@pytest.fixture
def known() -> tuple[Reidentification, BankView]:
    """Two objects: 1 is of channel 2 and on the left, 2 of channel 5 and on the right; last seen after 3 s."""
    judge = Reidentification(TrackerConfig(), dim=8)
    bank = MemoryBank(BankLayout(0, 0, 0, 1, 1, 1, 8, (2, 2), states=judge.states), torch.device("cpu"), torch.float32)
    bank.add(1), bank.add(2)
    view = BankView(bank, slice(0, 2))
    for second in (1, 2, 3):
        iou = torch.tensor([0.9, 0.9])
        learn(judge, view, image(left=2, right=5), mask(LEFT, RIGHT), iou, torch.tensor([True, True]), second * SECOND)
    return judge, view


@pytest.mark.parametrize(
    "second, shown, present, asked, accepted",
    [
        (5.0, dict(left=5, right=2), [True, True], [False, False], [False, False]),  # not lost: after 2 s they are
        (None, dict(left=5, right=2), [True, True], [False, False], [False, False]),  # seen on the frame before
        (6.0, dict(left=2, right=5), [True, True], [True, True], [True, True]),
        (6.0, dict(left=5, right=2), [True, True], [True, True], [False, False]),  # they have changed places
        (6.0, dict(left=2, right=7), [True, True], [True, True], [True, False]),
        (6.0, dict(left=2, right=5), [False, True], [False, True], [False, True]),
    ],
)
def test_who_is_asked_and_what_is_found(known, second, shown, present, asked, accepted):
    """second: s, of the last frame without them; None: each frame shows them"""
    judge, view = known
    if second is not None:
        hide(judge, view, second)
    verdict = judge.judge(view, image(**shown), mask(LEFT, RIGHT), torch.tensor(present))
    assert verdict.asked.tolist() == asked and verdict.accepted.tolist() == accepted
    assert verdict.similarity.isnan().tolist() == [not a for a in asked]
    assert verdict.rejected.tolist() == [a and not b for a, b in zip(asked, accepted, strict=True)]


def test_only_confident_frames_teach(known):
    judge, view = known
    before = view.state("prototype")
    args = image(left=7, right=7), mask(LEFT, RIGHT)
    learn(judge, view, *args, torch.tensor([0.9, 0.5]), torch.tensor([False, True]), 9 * SECOND)
    assert (view.state("prototype") == before).all(), "the one is not there, the other not sure"
    assert view.state("stamps").tolist() == [[3 * SECOND, 9 * SECOND], [9 * SECOND, 9 * SECOND]]
    learn(judge, view, *args, torch.tensor([0.9, 0.5]), torch.tensor([True, True]), 10 * SECOND)
    assert (view.state("prototype") != before).any(1).tolist() == [True, False]
    assert view.state("prototype_frames").tolist() == [4, 3]


def test_a_prototype_is_the_mean_and_then_follows(known):
    judge, view = known
    expected = appearance(image(left=2), mask(LEFT))[0]
    features = [image(left=2), image(left=3)]
    view.write_state("prototype", torch.zeros(2, 8)), view.write_state("prototype_frames", torch.zeros(2))
    for shown in features:
        learn(judge, view, shown, mask(LEFT, LEFT), torch.ones(2), torch.ones(2, dtype=torch.bool), SECOND)
    torch.testing.assert_close(view.state("prototype")[0], (expected + appearance(image(left=3), mask(LEFT))[0]) / 2)
    for _ in range(5 * MEMORY):
        learn(judge, view, features[1], mask(LEFT, LEFT), torch.ones(2), torch.ones(2, dtype=torch.bool), SECOND)
    assert (view.state("prototype")[0] - appearance(image(left=3), mask(LEFT))[0]).abs().max() < 0.01


def test_what_was_never_seen_well_is_not_asked(known):
    judge, view = known
    view.write_state("prototype_frames", torch.zeros(2))
    hide(judge, view, 8)
    verdict = judge.judge(view, image(left=2), mask(LEFT, RIGHT), torch.tensor([True, True]))
    assert not verdict.asked.any() and not verdict.rejected.any()


@pytest.mark.parametrize("policy", ["fifo", "divemem+efp", "none"])
@pytest.mark.parametrize(
    "min_similarity, decision, state, shown",
    [(-1.0, Return.ACCEPTED, State.TRACKED, True), (1.0, Return.REJECTED, State.LOST, False)],
)
def test_the_decision_is_reported_and_a_strangers_mask_is_withheld(
    model, frames, policy, min_similarity, decision, state, shown
):
    bias = model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    config = TrackerConfig(
        min_similarity=min_similarity, confident_iou=0.0, min_predicted_iou=0.0, max_area_fraction=1.0
    )
    tracker = Tracker(model, policy, config)
    tracker.step(SECOND, frames[0])
    tracker.prompt(0, [Prompt(box=BOX)])
    seen = tracker.step(2 * SECOND, frames[1])
    assert seen.areas[0] > 0 and seen.returns[0] == Return.NOT_ASKED and np.isnan(seen.similarities[0])
    bias.fill_(-40.0)
    try:
        gone = [tracker.step(second * SECOND, frames[2]) for second in (3, 5)]
    finally:
        bias.fill_(4.0)
    assert [State(t.states[0]) for t in gone] == [State.OCCLUDED, State.LOST]
    tracks = tracker.step(6 * SECOND, frames[3])
    assert (tracks.returns[0], tracks.states[0], bool(tracks.areas[0])) == (decision, state, shown)
    assert -1 <= tracks.similarities[0] <= 1 and tracks.object_ids.tolist() == [1]
    assert tracker.outputs.rejected.tolist() == [not shown]
    again = tracker.step(7 * SECOND, frames[4])
    assert again.returns[0] == (Return.NOT_ASKED if shown else Return.REJECTED)
    prompted = tracker.prompt(0, [Prompt(object_id=1, box=BOX)]).tracks
    assert prompted.states[0] == State.TRACKED and prompted.areas[0] > 0, "a person is believed"


@pytest.mark.parametrize("seconds, lost_after", [(9, 2.0), (1, 0.0)])
def test_what_is_seen_on_each_frame_never_returns(model, frames, seconds, lost_after):
    """However far apart frames are: no frame says LOST, and so none asks whether it is the same object."""
    config = TrackerConfig(
        lost_after=lost_after, min_similarity=1.0, confident_iou=0.0, min_predicted_iou=0.0, max_area_fraction=1.0
    )
    tracker = Tracker(model, "fifo", config)
    tracker.step(SECOND, frames[0])
    tracker.prompt(0, [Prompt(box=BOX)])
    for i in (1, 2):
        tracks = tracker.step(SECOND + i * seconds * SECOND, frames[i])
        assert tracks.areas[0] > 0 and tracks.returns[0] == Return.NOT_ASKED


def test_it_can_be_switched_off(model, frames):
    tracker = Tracker(model, "fifo", TrackerConfig(reidentification=False))
    tracker.step(1, frames[0])
    tracker.prompt(0, [Prompt(box=BOX)])
    assert tracker.step(9 * SECOND, frames[1]).returns[0] == Return.NOT_ASKED
    assert not tracker._segmenter.bank.states
