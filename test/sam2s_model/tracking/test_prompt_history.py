"""Prompts on remembered frames: the tracker is then as if they had come in time, or as if they had not come."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.prompts import Prompt
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.tracker import Tracker

SCENE = Scene(SceneConfig(width=160, height=128, frames=12, seed=2))
BOX, OTHER = (np.array(state.box, np.float32) for state in SCENE[0].objects)
CLICKS = dict(points=np.array([[30.0, 60.0], [100.0, 100.0]]), point_labels=np.array([1, 0]))
TIGHT = dict(atol=2e-3, rtol=1e-3)  # batches of other sizes are summed in another order


@pytest.fixture(scope="module")
def model():
    """Trained weights: masks that are neither empty nor full, and change with a prompt."""
    return load_model(resolve_checkpoint("sam2s_pico"), image_size=128, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def frames():
    return [np.ascontiguousarray(frame.image) for frame in SCENE]


def play(model, frames, policy, prompts, now=None, **config):
    """Step through all frames (stamp: index + 1). prompts: (when, on which, prompt), both as indices of frames."""
    tracker = Tracker(model, policy, TrackerConfig(**config))
    for i, frame in enumerate(frames[:now]):
        tracker.step(i + 1, frame)
        for when, on, prompt in prompts:
            if when == i:
                tracker.prompt(on + 1, [prompt])
    return tracker


def assert_same(one: Tracker, other: Tracker) -> None:
    assert one.object_ids == other.object_ids
    assert_known_alike(one, other)
    got, expected = (t.outputs.only(t.object_ids) for t in (one, other))
    for name in ("logits", "iou", "object_logit", "pointers"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), **TIGHT)
    a, b = one.newest, other.newest
    # of all objects together: where two have followed one instrument, their logits tie
    assert ((a.label_map > 0) != (b.label_map > 0)).mean() < 1e-3
    assert (a.states == b.states).all() and a.class_names == b.class_names


def assert_known_alike(one: Tracker, other: Tracker) -> None:
    """What re-identification knows of the objects is the same."""
    for name in ("prototype", "prototype_frames", "stamps"):
        got, expected = (t._segmenter.bank.states[name][: len(t.object_ids)] for t in (one, other))
        torch.testing.assert_close(got, expected, **TIGHT)


LATE = {
    "a new object": [(9, 4, Prompt(box=BOX))],
    "a correction": [(0, 0, Prompt(box=BOX)), (9, 4, Prompt(object_id=1, **CLICKS))],
    "a mask": [(0, 0, Prompt(box=BOX)), (9, 4, Prompt(object_id=1, mask=np.tri(128, 160, -60, dtype=bool)))],
    "one of two": [(0, 0, Prompt(box=BOX)), (2, 2, Prompt(box=OTHER)), (9, 4, Prompt(object_id=1, **CLICKS))],
    "the first frame": [(0, 0, Prompt(box=BOX)), (9, 0, Prompt(object_id=1, **CLICKS))],
}


@pytest.mark.parametrize(
    "policy", ["fifo", "match", *(pytest.param(name, marks=pytest.mark.full) for name in ("efp", "fifo+match", "none"))]
)
@pytest.mark.parametrize("prompts", LATE.values(), ids=LATE)
def test_p20_a_late_prompt_leads_to_what_a_prompt_in_time_does(model, frames, policy, prompts):
    in_time = [(on, on, prompt) for _, on, prompt in prompts]
    late, expected = play(model, frames, policy, prompts), play(model, frames, policy, in_time)
    assert_same(late, expected)
    on = prompts[-1][1]
    before, after = (play(model, frames, policy, p, now=on + 1).outputs for p in (in_time[:-1], in_time))
    assert before is None or (before.logits - after.logits).abs().max() > 1, "the prompt must matter"
    for i in range(3):  # the memories are the same, too
        for tracker in (late, expected):
            tracker.step(100 + i, frames[i])
    assert_same(late, expected)


@pytest.mark.parametrize("policy", ["fifo", "match"])
@pytest.mark.parametrize("later", [[3], [2, 3]], ids=["one later", "all later"])
def test_p20_a_late_correction_takes_no_place_of_a_newer_one(model, frames, policy, later):
    """With as many prompted frames as there is room for: it is there until it is carried on to the newest of them."""
    first, fix = (0, 0, Prompt(box=BOX)), Prompt(object_id=1, **CLICKS)
    given = np.zeros((128, 160), bool)
    given[70:110, 90:140] = True
    others = [(on, on, Prompt(object_id=1, mask=given)) for on in later]  # the same whatever came before
    options = dict(now=5, max_conditioning=len(later) + 1)
    late = play(model, frames, policy, [first, *others, (4, 1, fix)], **options)
    in_time = play(model, frames, policy, [first, (1, 1, fix), *others], **options)
    held = [sorted(one._segmenter.bank.prompted_frames(0)) for one in (late, in_time)]
    assert held[0] == held[1] == [0, *later] and not late._segmenter.bank.aside
    if late.matches:
        assert late.matches.frames == in_time.matches.frames, "each step compares with no more frames than before"
    assert_same(late, in_time)


def test_p20_a_late_correction_makes_no_room_for_frames_that_another_object_has(model, frames):
    masks = np.zeros((2, 128, 160), bool)
    masks[0, 70:110, 90:140], masks[1, 10:50, 20:70] = True, True
    begin = [(0, 0, Prompt(box=BOX)), (0, 0, Prompt(box=OTHER))]
    again = [(3, 3, Prompt(object_id=i, mask=mask)) for i, mask in enumerate(masks, 1)]
    fix = Prompt(object_id=1, **CLICKS)
    late = play(model, frames, "match", [*begin, *again], now=5, max_conditioning=2)
    store = late.matches.store
    before = store.slots, store.generation
    late.prompt(2, [fix])
    assert (store.slots, store.generation) == before and (store.tokens_of(0) != store.tokens_of(3)).any()
    assert_same(late, play(model, frames, "match", [*begin, (1, 1, fix), *again], now=5, max_conditioning=2))


@pytest.mark.parametrize("non_overlap", [False, True])
def test_p20_a_late_correction_leaves_nothing_of_the_wrong_object_in_the_prototype(model, frames, non_overlap):
    """Object 1 was on the wrong instrument; on a later frame a person had confirmed what it was then."""
    right, wrong, later_box = (np.array(SCENE[i].objects[k].box, np.float32) for i, k in ((2, 0), (0, 1), (6, 0)))
    first, fix = (0, 0, Prompt(box=wrong)), (9, 2, Prompt(object_id=1, box=right))
    later = (6, 6, Prompt(object_id=1, box=later_box))
    options = dict(confident_iou=0.0, non_overlap_memory=non_overlap)
    for prompts in ([first, fix], [first, later, fix], [first, (0, 0, Prompt(box=BOX)), later, fix]):
        in_time = sorted(((on, on, prompt) for _, on, prompt in prompts), key=lambda one: one[0])
        late = play(model, frames, "fifo", prompts, **options)
        assert_known_alike(late, play(model, frames, "fifo", in_time, **options))
    without = play(model, frames, "fifo", [first], **options)
    with pytest.raises(AssertionError):
        assert_known_alike(play(model, frames, "fifo", [first, fix], **options), without)


@pytest.mark.parametrize("policy", ["samurai", "refine", "distractor"])
def test_p20_a_policy_is_told_again_of_the_corrections_after_a_late_prompt(model, frames, policy):
    """What it notes of the motion, of masks and of areas begins with the newest prompt, not with the one before."""
    elsewhere = np.zeros((128, 160), bool)
    elsewhere[70:110, 90:140] = True
    first, later = (0, 0, Prompt(box=BOX)), (2, 2, Prompt(object_id=1, mask=elsewhere))
    fix = Prompt(object_id=1, box=BOX)
    late = play(model, frames, policy, [first, later, (2, 1, fix)], now=3)
    in_time = play(model, frames, policy, [first, (1, 1, fix), later], now=3)
    for state in late._segmenter.policy.states:
        got, expected = (t._segmenter.bank.states[state.name][:1] for t in (late, in_time))
        torch.testing.assert_close(got, expected, **TIGHT, equal_nan=True)


def test_a_step_that_fails_teaches_nothing(model, frames, monkeypatch):
    plain, failing = (play(model, frames, "fifo", [(0, 0, Prompt(box=BOX))], now=4) for _ in range(2))
    monkeypatch.setattr(failing, "_describe", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.step(5, frames[4])
    assert_known_alike(failing, plain)


def test_p20_the_answer_is_of_the_prompted_frame(model, frames):
    prompts = [(0, 0, Prompt(box=BOX))]
    tracker, before = play(model, frames, "fifo", prompts), play(model, frames, "fifo", prompts, now=6)
    answer = tracker.prompt(6, [Prompt(box=OTHER)])
    assert (answer.stamp, answer.tracks.stamp, answer.object_ids) == (6, 6, (2,))
    assert answer.tracks.revision == tracker.newest.revision == 2 and tracker.newest.stamp == 12
    assert (before.newest.mask(1) & ~answer.tracks.mask(1) & ~answer.tracks.mask(2)).sum() == 0
    assert answer.tracks.object_ids.tolist() == tracker.newest.object_ids.tolist() == [1, 2]


@pytest.mark.parametrize("policy", ["fifo", "match", "fifo+match"])
def test_p23_a_late_prompt_changes_no_other_object(model, frames, policy):
    without = play(model, frames, policy, [(0, 0, Prompt(box=BOX))])
    beside = play(model, frames, policy, [(0, 0, Prompt(box=BOX)), (9, 3, Prompt(box=OTHER))])
    torch.testing.assert_close(beside.outputs.only([1]).logits, without.outputs.logits, **TIGHT)


@pytest.mark.parametrize("policy", ["fifo", "match", "none"])
def test_a_later_prompt_stays_when_an_earlier_frame_is_prompted(model, frames, policy):
    given = np.zeros((128, 160), bool)
    given[70:110, 90:140] = True
    tracker = play(model, frames[:8], policy, [(0, 0, Prompt(box=BOX)), (7, 7, Prompt(object_id=1, mask=given))])
    before = tracker.outputs.logits.clone()
    tracker.prompt(4, [Prompt(object_id=1, **CLICKS)])
    assert (tracker.outputs.logits == before).all(), "what a person said of the newest frame still holds"


@pytest.mark.parametrize("stamp, code, words", [
    (1, ErrorCode.TOO_OLD, r"stamp 1 ns is too old: expected at least 9 ns, the oldest of the 4 .*prompt_history is 4"),
    (99, ErrorCode.UNKNOWN_STAMP, "stamp 99 ns is not of a processed image: expected 12 ns, the nearest"),
])  # fmt: skip
def test_p20_stamps_that_are_not_remembered(model, frames, stamp, code, words):
    tracker = play(model, frames, "fifo", [(0, 0, Prompt(box=BOX))], prompt_history=4)
    with pytest.raises(RequestError, match=words) as refused:
        tracker.prompt(stamp, [Prompt(object_id=1, **CLICKS)])
    assert refused.value.code is code
    assert tracker.prompt(9, [Prompt(object_id=1, **CLICKS)]).stamp == 9


@pytest.mark.parametrize("policy", ["fifo", "match", "none"])
def test_a_late_prompt_that_fails_half_way_changes_nothing(model, frames, policy, monkeypatch):
    prompts = [(0, 0, Prompt(box=BOX)), (2, 2, Prompt(box=OTHER))]
    tracker, untouched = (play(model, frames, policy, prompts) for _ in range(2))
    calls: list = []

    def failing(decode):
        def fails_on_the_way(*args, **kwargs):
            calls.append(args)
            if len(calls) == 5:
                raise torch.OutOfMemoryError("injected")
            return decode(*args, **kwargs)

        return fails_on_the_way

    for name in ("decode", "candidates"):
        monkeypatch.setattr(model, name, failing(getattr(model, name)))
    newest = tracker.newest
    with pytest.raises(torch.OutOfMemoryError):
        tracker.prompt(6, [Prompt(object_id=1, **CLICKS), Prompt(box=OTHER)])
    monkeypatch.undo()
    assert len(calls) == 5 and tracker.newest is newest and (tracker.revision, tracker.next_id) == (2, 3)
    for one in (tracker, untouched):
        one.step(50, frames[0])
        one.prompt(8, [Prompt(object_id=2, **CLICKS)])
    assert_same(tracker, untouched)
    assert (tracker.outputs.logits == untouched.outputs.logits).all()


def test_a_step_that_fails_leaves_every_remembered_frame_promptable(model, frames, monkeypatch):
    prompts = [(0, 0, Prompt(box=BOX))]
    tracker, untouched = (play(model, frames, "fifo", prompts, prompt_history=3) for _ in range(2))
    monkeypatch.setattr(tracker, "_describe", lambda *said: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tracker.step(50, frames[0])
    monkeypatch.undo()
    for one in (tracker, untouched):
        one.prompt(10, [Prompt(object_id=1, **CLICKS)])
    assert_same(tracker, untouched)


def test_without_history_only_the_newest_frame_can_be_prompted(model, frames):
    tracker = play(model, frames, "none", [(0, 0, Prompt(box=BOX))], prompt_history=1)
    with pytest.raises(RequestError, match="too old"):
        tracker.prompt(11, [Prompt(box=OTHER)])
    assert tracker.prompt(0, [Prompt(object_id=1, **CLICKS)]).stamp == 12


@pytest.mark.parametrize("policy", ["divemem", "samurai", "distractor", "occlusion"])
def test_a_late_prompt_forgets_what_was_kept_of_later_frames(model, frames, policy):
    """What a policy keeps of the frames after the prompt is from after it: as with a tracker prompted in time."""
    options = dict(long_term_min_iou=0.0, long_term_buffer=2)
    prompts = [(0, 0, Prompt(box=BOX)), (9, 4, Prompt(object_id=1, **CLICKS))]
    early = [(on, on, prompt) for _, on, prompt in prompts]
    late, in_time = (play(model, frames, policy, p, **options) for p in (prompts, early))
    kept = [t._segmenter.bank.frames[0, t._segmenter.bank.layout.kept_columns].tolist() for t in (late, in_time)]
    after = [sorted(frame for frame in frames if frame > 4) for frames in kept]
    assert after[0] == after[1] and 4 not in kept[0]
