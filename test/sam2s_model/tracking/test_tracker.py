"""The four calls of the tracker, on a real model with random weights: what holds whatever the weights are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2s_model.config import POLICY_NAMES, TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import State

BOX = np.array([20, 30, 60, 60], np.float32)
OTHER = np.array([90, 70, 140, 110], np.float32)


PROMPTS = (Prompt(box=BOX),)


def run(model, frames, policy="fifo", prompts=PROMPTS, **config):
    tracker = Tracker(model, policy, TrackerConfig(**config))
    out = [tracker.step(1, frames[0])]
    if prompts:
        out = [tracker.prompt(0, list(prompts)).tracks]
    out += [tracker.step(i + 1, frame) for i, frame in enumerate(frames) if i]
    return tracker, out


@pytest.mark.parametrize("policy", [name for name in POLICY_NAMES if name != "slm"])
def test_p03_tracks_are_complete_for_every_frame(model, frames, policy):
    tracker, out = run(model, frames, policy)
    assert [t.stamp for t in out] == list(range(1, 13))
    assert all(t.label_map.shape == (120, 160) and t.object_ids.tolist() == [1] for t in out)
    # a random model has no features to match; `test_correspondence` follows with a trained one
    drawn = any(t.areas[0] > 0 for t in out[0 if policy == "match" else 1 :])
    assert drawn, "the random model draws nothing: the tests below would say nothing"
    for t in out:
        assert set(np.unique(t.label_map)) <= {0, 1}
        assert t.areas[0] == np.count_nonzero(t.mask(1))
        if t.areas[0]:
            ys, xs = np.nonzero(t.mask(1))
            assert t.boxes[0].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert t.centroids[0] == pytest.approx([xs.mean(), ys.mean()], abs=1e-3)
        else:
            assert not t.boxes[0].any() and np.isnan(t.centroids[0]).all()


def test_p12_no_objects_gives_an_empty_answer(model, frames):
    _, out = run(model, frames, prompts=())
    assert all(len(t) == 0 and not t.label_map.any() for t in out)


def test_p31_same_input_gives_same_masks(model, frames):
    first, second = (run(model, frames)[1] for _ in range(2))
    assert all((a.label_map == b.label_map).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("policy", ["fifo", "none", "match"])
def test_p23_other_objects_change_no_result(model, frames, policy):
    """Logits of an object are the same alone, beside another, and after the other is removed in mid-stream."""
    alone = Tracker(model, policy)
    both = Tracker(model, policy)
    worst = 0.0
    for i, frame in enumerate(frames):
        alone.step(i + 1, frame)
        both.step(i + 1, frame)
        if i == 0:
            alone.prompt(0, [Prompt(box=BOX)])
        if i == 2:
            both.prompt(0, [Prompt(box=OTHER)])
        if i == 0:
            both.prompt(0, [Prompt(box=BOX)])
        if i == 8:
            both.remove([both.object_ids[-1]])
        worst = max(worst, (both.outputs.only([1]).logits - alone.outputs.logits).abs().max().item())
    print(f"largest logit difference of an object, alone and with another that came and went: {worst:.1e}")
    assert worst < 1e-4


def test_removing_the_first_object_keeps_the_last(model, frames):
    tracker, _ = run(model, frames[:4], prompts=[Prompt(box=BOX), Prompt(box=OTHER)])
    before = tracker.outputs.only([2])
    mask = tracker.newest.mask(2) | tracker.newest.mask(1)
    tracks = tracker.remove([1])
    assert tracks.object_ids.tolist() == [2] and tracker.outputs.object_ids == (2,)
    assert (tracker.outputs.logits == before.logits).all()
    assert not (tracks.mask(2) & ~mask).any()
    assert tracker.step(100, frames[4]).object_ids.tolist() == [2]


def test_p04_ids_are_never_given_twice(model, frames):
    tracker, _ = run(model, frames[:2], prompts=[Prompt(box=BOX), Prompt(box=OTHER)])
    tracker.remove([1])
    assert tracker.prompt(0, [Prompt(box=BOX)]).object_ids == (3,)
    assert tracker.newest.labels.tolist() == [2, 1], "labels are reused, ids are not"
    tracker.reset()
    tracker.step(100, frames[0])
    assert tracker.prompt(0, [Prompt(box=BOX)]).object_ids == (4,)


def test_a_mask_prompt_is_the_answer(model, frames):
    tracker = Tracker(model, "fifo")
    tracker.step(1, frames[0])
    mask = np.zeros((120, 160), bool)
    mask[30:60, 20:60] = True
    tracks = tracker.prompt(0, [Prompt(mask=mask)]).tracks
    got = tracks.mask(1)
    assert (got & mask).sum() / (got | mask).sum() > 0.85  # the low-resolution logits have cells of 5 x 4 px
    assert tracks.states[0] == State.TRACKED


def test_a_correction_keeps_the_id_and_is_remembered_as_conditioning(model, frames):
    tracker, _ = run(model, frames[:5])
    click = Prompt(object_id=1, class_name="object", points=np.array([[30.0, 40.0]]), point_labels=np.array([1]))
    result = tracker.prompt(0, [click])
    assert result.object_ids == (1,) and result.tracks.class_names == ("object",)
    frames = tracker._segmenter.bank.frames[0]
    assert sorted(frames[:4]) == [-1, -1, 0, 4]
    assert 4 not in frames[4:], "the frame is conditioning now, not a recent memory as well"


def test_memory_changes_the_result(model, frames):
    fifo, none = (run(model, frames, policy)[1] for policy in ("fifo", "none"))
    assert any((a.label_map != b.label_map).any() for a, b in zip(fifo[1:], none[1:], strict=True))


def test_p25_memory_is_flat(model, frames):
    tracker, _ = run(model, frames)
    for i in range(4):
        tracker.step(50 + i, frames[i])
    before = tracker.memory_bytes()
    for i in range(40):
        tracker.step(100 + i, frames[i % 12])
    assert tracker.memory_bytes() == before
    bank = tracker._segmenter.bank
    features = 4 * (96 * 8 * 8 + 24 * 16 * 16 + 12 * 32 * 32)  # fp32 at 128 px
    assert tracker.memory_bytes() == bank.capacity * bank.layout.bytes_per_object(4) + 17 * features


def test_p13_absent_object_is_occluded_then_lost_with_an_empty_mask(model, frames):
    bias = model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    tracker = Tracker(model, "fifo", TrackerConfig(lost_after=1.0))
    second = 10**9
    tracker.step(second, frames[0])
    tracker.prompt(0, [Prompt(box=BOX)])
    bias.fill_(-40.0)
    try:
        seen = [tracker.step(second + i * second // 2, frames[i]) for i in range(1, 5)]
    finally:
        bias.fill_(4.0)
    assert [State(t.states[0]) for t in seen] == [State.OCCLUDED, State.OCCLUDED, State.LOST, State.LOST]
    assert not any(t.label_map.any() for t in seen) and all(t.scores[0] < 0.01 for t in seen)


def test_a_prompt_that_fails_half_way_changes_nothing(model, frames, monkeypatch):
    tracker, _ = run(model, frames[:3])
    before, calls, encode = tracker.newest, [], model.encode_memory

    def fails_the_second_time(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("injected")
        return encode(*args, **kwargs)

    monkeypatch.setattr(model, "encode_memory", fails_the_second_time)
    with pytest.raises(torch.OutOfMemoryError):
        tracker.prompt(0, [Prompt(box=OTHER), Prompt(box=OTHER)])
    assert tracker.newest is before and tracker.object_ids == (1,) and tracker.next_id == 2
    monkeypatch.undo()
    assert tracker.prompt(0, [Prompt(box=OTHER)]).object_ids == (2,)


def test_a_step_that_fails_at_its_end_leaves_the_newest_frame(model, frames, monkeypatch):
    tracker, _ = run(model, frames[:3])
    before = tracker.newest

    def fails(*args, **kwargs):
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(tracker, "_describe", fails)
    with pytest.raises(torch.OutOfMemoryError):
        tracker.step(50, frames[3])
    monkeypatch.undo()
    assert tracker.newest is before
    assert tracker.step(60, frames[3]).stamp == 60


@pytest.mark.parametrize("policy", ["fifo", "divemem", "none"])
def test_p27_a_step_that_gives_no_numbers_leaves_nothing_behind(model, frames, policy, monkeypatch):
    """Also when all slots were in use, and an object is new, whose slots that hold nothing are read and masked."""

    def play(broken):
        tracker = Tracker(model, policy)
        for i in range(24):
            tracker.step(10 * i + 1, frames[i % len(frames)])
            if i == 0:
                tracker.prompt(0, [Prompt(box=BOX)])
        tracker.prompt(0, [Prompt(box=OTHER)])
        if broken:
            encode = model.encode_image

            def no_numbers(image):
                features = encode(image)
                return replace(features, coarse=features.coarse * torch.nan, middle=features.middle * torch.nan)

            monkeypatch.setattr(model, "encode_image", no_numbers)
            with pytest.raises(ValueError, match="not finite"):
                tracker.step(235, frames[0])
            monkeypatch.undo()
        return [tracker.step(10 * i + 1, frames[i % len(frames)]) for i in range(24, 27)]

    for expected, found in zip(play(broken=False), play(broken=True), strict=True):
        assert np.array_equal(expected.label_map, found.label_map) and np.array_equal(expected.scores, found.scores)


@pytest.mark.filterwarnings("error")
def test_images_of_every_memory_layout_give_the_same_masks(model, frames):
    frozen = [frame.copy() for frame in frames]
    for frame in frozen:
        frame.flags.writeable = False
    reversed_twice = [frame[..., ::-1].copy()[..., ::-1] for frame in frames]
    plain, *others = (run(model, images)[1] for images in (frames, frozen, reversed_twice))
    for other in others:
        assert all((a.label_map == b.label_map).all() for a, b in zip(plain, other, strict=True))


def test_p03_overlapping_objects_share_no_pixel(model, frames):
    _, out = run(model, frames[:3], prompts=[Prompt(box=BOX), Prompt(box=BOX + 4)])
    for t in out:
        assert sum(t.areas) == np.count_nonzero(t.label_map)


def test_warm_up_leaves_no_trace(model, frames):
    tracker = Tracker(model)
    tracker.warm_up(120, 160)
    assert tracker.newest is None and tracker.revision == 0
    tracker.step(1, frames[0])
    assert tracker.prompt(0, [Prompt(box=BOX)]).object_ids == (1,)


def test_a_checkpoint_without_memory_runs_what_needs_none(model):
    model.missing = ("memory_encoder.out_proj.weight",)
    try:
        assert Tracker(model).policy_name == "match" and Tracker(model, "none").policy_name == "none"
        with pytest.raises(ConfigError, match="no trained memory"):
            Tracker(model, "fifo")
    finally:
        model.missing = ()
    assert Tracker(model).policy_name == "fifo"
    with pytest.raises(ConfigError, match="expected auto, fifo, efp, divemem"):
        Tracker(model, "lifo")


CLICK = Prompt(points=np.array([[40.0, 45.0]]), point_labels=np.array([1]))


@pytest.mark.parametrize(
    "policy, prompt, change",
    [
        ("fifo", CLICK, dict(multimask_prompts=False, stability=False)),
        ("fifo", Prompt(box=BOX), dict(multimask_tracking=False, stability=False)),
        ("fifo", Prompt(box=BOX), dict(stability=False)),
        ("none", Prompt(box=BOX), dict(stability=False)),
        ("fifo", Prompt(box=BOX), dict(stability_delta=0.0)),
        ("fifo", Prompt(box=BOX), dict(binarise_prompted=False)),
    ],
)
def test_each_option_of_the_published_predictor_matters(model, frames, policy, prompt, change):
    published, changed = (run(model, frames[:5], policy, [prompt], **c)[0].outputs.logits for c in ({}, change))
    assert (published - changed).abs().max() > 1e-3


def test_gating_by_the_object_score_is_an_option(model, frames):
    bias = model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias
    bias.fill_(-40.0)
    try:
        gated, free = (run(model, frames[:3], object_score_gating=value)[1][-1] for value in (True, False))
    finally:
        bias.fill_(4.0)
    assert gated.areas[0] == 0 and free.areas[0] > 0 and free.scores[0] < 0.01


def test_objects_that_overlap_share_memory_only_when_asked_to(model, frames):
    prompts = [Prompt(box=BOX), Prompt(box=BOX + 4)]
    alone = run(model, frames[:4], prompts=prompts[:1])[0].outputs
    apart, exclusive = (run(model, frames[:4], prompts=prompts, non_overlap_memory=v)[0].outputs for v in (False, True))
    torch.testing.assert_close(apart.only([1]).logits, alone.logits, atol=2e-3, rtol=1e-3)
    assert (exclusive.only([1]).logits - alone.logits).abs().max() > 1e-2


def test_holes_are_filled_in_the_masks_but_not_in_what_is_remembered(model, frames, monkeypatch):
    decode = model.decode

    def with_a_hole(*args, **kwargs):
        decoded = decode(*args, **kwargs)
        decoded.logits[:] = 5.0
        decoded.logits[..., 10:12, 10:14] = -5.0  # 8 px of the low-resolution mask
        return decoded

    monkeypatch.setattr(model, "decode", with_a_hole)
    (tracker, filled), (_, open_) = (run(model, frames[:3], fill_holes=area) for area in (8, 7))
    assert filled[-1].areas[0] == 120 * 160 > open_[-1].areas[0]
    assert (tracker.outputs.logits < 0).sum() == 8


def test_four_objects_at_once_are_as_four_alone(model, frames):
    boxes = [BOX, OTHER, BOX + 10, OTHER - 20]
    together = Tracker(model, "fifo")
    alone = [Tracker(model, "fifo") for _ in boxes]
    worst = 0.0
    for i, frame in enumerate(frames):
        for tracker in (together, *alone):
            tracker.step(i + 1, frame)
        if i == 0:
            together.prompt(0, [Prompt(box=box) for box in boxes])
            for tracker, box in zip(alone, boxes, strict=True):
                tracker.prompt(0, [Prompt(box=box)])
        for object_id, tracker in enumerate(alone, start=1):
            difference = together.outputs.only([object_id]).logits - tracker.outputs.logits
            worst = max(worst, difference.abs().max().item())
    print(f"largest logit difference, 4 objects in one batch against 4 runs: {worst:.1e}")
    assert worst < 1e-3


def test_the_deterministic_mode_runs_every_part(model, frames):
    from sam2s_model.device import use_deterministic_algorithms

    use_deterministic_algorithms(True)
    try:
        first, second = (run(model, frames)[0].outputs.logits for _ in range(2))
    finally:
        use_deterministic_algorithms(False)
    assert (first == second).all()


def test_a_policy_can_be_followed_by_another_and_the_objects_stay(known_model, frames):
    """There and back between two frames is as if nothing had happened; on the way every policy goes on with them."""
    prompts = [Prompt(box=BOX), Prompt(box=OTHER)]
    untouched, switched = (run(known_model, frames[:6], prompts=prompts)[0] for _ in range(2))
    for policy in ("divemem", "distractor", "fifo"):
        switched.set_policy(policy)
        assert switched.policy_name == policy and switched.object_ids == (1, 2)
        assert switched.memory_bytes() > 0 and switched.newest is not None
    for tracker in (untouched, switched):
        tracker.step(50, frames[6])
    assert (untouched.outputs.logits == switched.outputs.logits).all()
    click = Prompt(object_id=1, points=np.array([[30.0, 40.0]]), point_labels=np.array([1]))
    assert switched.prompt(4, [click]).stamp == 4, "a remembered frame can still be prompted"
    for i, policy in enumerate(["efp", "divemem+efp", "tsms", "samurai", "occlusion", "none", "distractor", "fifo"]):
        switched.set_policy(policy)
        tracks = switched.step(60 + i, frames[7])
        assert tracks.object_ids.tolist() == [1, 2] and all(a > 0 for a in tracks.areas)
    for i, policy in enumerate(["match", "fifo+match", "match", "none", "match", "divemem", "fifo+match", "fifo"]):
        switched.set_policy(policy)
        tracks = switched.step(80 + i, frames[7])
        assert tracks.object_ids.tolist() == [1, 2], "random weights have nothing to match, so that masks may be empty"


def test_a_policy_that_follows_none_starts_from_the_newest_masks(model, frames):
    tracker, out = run(model, frames[:6], "none", [Prompt(box=BOX), Prompt(box=OTHER)])
    tracker.set_policy("divemem")
    assert tracker._segmenter.bank.frames[:2, :2].tolist() == [[5, -1], [5, -1]]
    assert tracker.step(60, frames[6]).object_ids.tolist() == [1, 2]


def test_a_policy_that_the_checkpoint_cannot_run_changes_nothing(model, frames):
    tracker, _ = run(model, frames[:3])
    with pytest.raises(ConfigError, match="second memory attention"):
        tracker.set_policy("slm")
    assert tracker.policy_name == "fifo" and tracker.step(50, frames[3]).object_ids.tolist() == [1]
