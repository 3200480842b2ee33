"""The value objects: prompts, tracks, label sets, options, states and IoU. Tables of input and expectation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError, ErrorCode, RequestError
from sam2s_model.metrics import iou
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import GENERIC, ClassLabel, LabelSet
from sam2s_model.tracking.presence import ObjectHistory, Prediction, TrackedObject, describe_frame
from sam2s_model.tracks import State, Tracks

H, W = 40, 60


@pytest.mark.parametrize("prompt, words", [
    (Prompt(), "no points, no strokes, no box and no mask"),
    (Prompt(points=[[60, 5]], point_labels=[1]), r"point \(60, 5\) is outside the image: expected 0 <= x <= 59"),
    (Prompt(points=[[5, -1]], point_labels=[1]), r"point \(5, -1\) is outside"),
    (Prompt(points=[[np.nan, 5]], point_labels=[1]), r"point \(nan, 5\) is outside"),
    (Prompt(points=[[5, 5]], point_labels=[2]), "point label 2: expected 1"),
    (Prompt(points=[[5, 5]], point_labels=[]), "1 points but 0 point labels"),
    (Prompt(points=[5, 5], point_labels=[1, 1]), r"points have shape \(2,\): expected \(P, 2\)"),
    (Prompt(box=[5, 5, 5, 9]), r"box \(5, 5, 5, 9\) is empty: expected x0 < x1"),
    (Prompt(box=[5, 5, 61, 9]), r"box \(5, 5, 61, 9\) is outside the image"),
    (Prompt(box=[5, np.inf, 9, 9]), "is not finite"),
    (Prompt(box=[5, 5, 9]), r"box has shape \(3,\)"),
    (Prompt(mask=np.zeros((H, W))), "the mask is empty"),
    (Prompt(mask=np.ones((W, H))), r"mask has shape \(60, 40\): expected the image's, \(40, 60\)"),
    (Prompt(mask=np.ones((H, W)), box=[1, 1, 5, 5]), "give a mask alone"),
    (Prompt(mask=np.where(np.eye(H, W), 5.0, -5.0)),
     "the mask has 2 values from -5 to 5: expected bool, or 0 and 1 .*logits. give mask > 0"),
    (Prompt(mask=np.where(np.eye(H, W), 0.9, 0.02)), "2 values from 0.02 to 0.9: .*probabilities. give mask > 0.5"),
    (Prompt(mask=np.eye(H, W) * 0.7), "2 values from 0 to 0.7: .*probabilities"),
    (Prompt(mask=np.where(np.eye(H, W), 1, np.nan)), "the mask has values that are not finite: expected bool"),
    (Prompt(mask=np.where(np.eye(H, W), 1, -np.inf)), "the mask has values that are not finite"),
    (Prompt(mask=np.arange(H * W, dtype=np.uint8).reshape(H, W)),
     "256 values from 0 to 255: .*grey edges .*give mask >= 127.5"),
    (Prompt(mask=np.eye(H, W, dtype=np.uint8) + np.eye(H, W, 3, dtype=np.uint8) * 2),
     "labels of several objects. give mask == label"),
    (Prompt(mask=np.full((H, W), "a")), "mask is <U1: expected bool"),
    (Prompt(points=[[5, 5], [9, 9]], point_labels=[0, 0]), "a new object has 2 points, all of them negative"),
    (Prompt(points=[[0.4, 0.6]], point_labels=[1]), "within the first pixel: expected px of the image, not fractions"),
    (Prompt(box=[0.1, 0.2, 0.5, 0.8]),
     "is 0.4 x 0.6 px: expected at least 2 on each side; .* not fractions of its size"),
    (Prompt(box=[5, 5, 30, 6]), "is 25 x 1 px: expected at least 2"),
    (Prompt(points=[[5, 5], [9, 9], [5, 5]], point_labels=[1, 1, 0]), r"\(5, 5\) is given twice, on the object and"),
    (Prompt(points=[["a", "b"]], point_labels=[1]), r"points \[\['a', 'b'\]\] are no numbers: could not convert"),
    (Prompt(points=[[1, 2], [3]], point_labels=[1, 1]), "points .* are no numbers: .*inhomogeneous"),
    (Prompt(points=[[1e300, 1]], point_labels=[1]), r"point \(inf, 1\) is outside"),
    (Prompt(box=[[1, 2], [3]]), "box .* are no numbers"),
    (Prompt(mask=np.eye(H, W, dtype=complex)), "mask is complex128: expected bool"),
])  # fmt: skip
def test_bad_prompts(prompt, words):
    with pytest.raises(RequestError, match=words) as refused:
        prompt.validated(H, W)
    assert refused.value.code in (ErrorCode.INVALID_PROMPT, ErrorCode.EMPTY_REQUEST)


def test_good_prompts_have_canonical_types():
    got = Prompt(points=[[0, 0], [59, 39]], point_labels=[1, 0], box=(0, 0, 60, 40)).validated(H, W)
    assert got.points.dtype == np.float32 and got.point_labels.tolist() == [1, 0] and got.box.tolist() == [0, 0, 60, 40]
    for mask in (
        np.eye(H, W),
        np.eye(H, W, dtype=bool),
        np.eye(H, W, dtype=np.uint8) * 255,
        np.eye(H, W, dtype=np.int64),
    ):
        got = Prompt(mask=mask).validated(H, W).mask
        assert got.dtype == bool and got.sum() == H
    negative = dict(points=[[5, 5]], point_labels=[0])
    assert Prompt(object_id=3, **negative).validated(H, W).point_labels.tolist() == [0], "a correction"
    assert Prompt(box=[1, 1, 9, 9], **negative).validated(H, W).box is not None


def test_tracks_refuse_arrays_that_disagree():
    good = Tracks.empty(1, H, W)
    for change in [
        dict(scores=np.zeros(1, np.float32)),
        dict(class_names=("a",)),
        dict(label_map=np.zeros((H, W), np.int32)),
        dict(object_ids=np.array([2, 1])),
    ]:
        with pytest.raises(ValueError, match=f"Tracks.{next(iter(change))}|Tracks.labels"):
            dataclasses.replace(good, **change)


KNOWN = TrackedObject(7, 3, ClassLabel(2, "object", (0, 0, 0)))


def describe(mask_box=None, stamp=1, last=None, view=None, predicted_iou=0.9, prompted=False, lost_after=2.0):
    """The tracks and the sight of one object whose mask is a box. stamp: s; last: its sight on the frame before."""
    label_map = np.zeros((H, W), np.uint8)
    if mask_box:
        x0, y0, x1, y1 = mask_box
        label_map[y0:y1, x0:x1] = 3
    readings, before = {7: Prediction(0.8, predicted_iou, True, prompted)}, {} if last is None else {7: last}
    config = TrackerConfig(lost_after=lost_after)
    tracks, sights = describe_frame(stamp * 10**9, label_map, view, [KNOWN], readings, before, config, 0)
    return tracks, sights[7]


def test_a_description_measures_the_mask():
    view = np.ones((H, W), bool)
    view[:, :2] = False
    tracks, sight = describe((10, 5, 20, 9), view=view)
    assert tracks.boxes.tolist() == [[10, 5, 20, 9]] and tracks.areas.tolist() == [40]
    assert tracks.centroids[0] == pytest.approx([14.5, 6.5]) and sight.centroid == pytest.approx([14.5, 6.5])
    assert tracks.states[0] == State.TRACKED and tracks.index(7) == 0 and sight.last_visible == 10**9
    assert set(np.unique(tracks.label_map)) == {0, 3, 255} and set(np.unique(tracks.semantic_map())) == {0, 2, 255}
    with pytest.raises(KeyError):
        tracks.mask(8)


FAR = ObjectHistory(0, np.array([55.0, 35.0]))


@pytest.mark.parametrize("mask_box, given, expected", [
    ((10, 5, 20, 9), dict(last=ObjectHistory(0, np.array([14.0, 7.0]))), State.TRACKED),
    ((10, 5, 20, 9), dict(last=FAR), State.SUSPECT),
    ((10, 5, 20, 9), dict(last=FAR, prompted=True), State.TRACKED),
    ((10, 5, 20, 9), dict(predicted_iou=0.1), State.SUSPECT),
    ((2, 0, 60, 30), {}, State.SUSPECT),
    (None, {}, State.OCCLUDED),
])  # fmt: skip
def test_p14_states(mask_box, given, expected):
    assert describe(mask_box, **given)[0].states[0] == expected


def test_p14_what_returns_far_from_where_it_went_is_suspect_at_first():
    states, sight = [], describe((2, 5, 10, 9))[1]
    for i, place in enumerate([None, (50, 30, 58, 38), (50, 30, 58, 38)]):
        tracks, sight = describe(place, stamp=2 + i, last=sight, lost_after=5.0)
        states.append(tracks.states[0])
    assert states == [State.OCCLUDED, State.SUSPECT, State.TRACKED]


def states_of(readings, area=60, **options) -> list[State]:
    """States of an object TRACKED with 60 px that then has these scores, predicted IoUs (and areas), frame by frame."""
    config, sight, states = TrackerConfig(**options), ObjectHistory(0, np.array([10.0, 10.0]), 60.0), []
    for frame, (score, predicted, *size) in enumerate(readings, start=1):
        label_map = np.zeros((H, W), np.uint8)
        label_map[8 : 8 + (size[0] if size else area) // 10, 5:15] = 3
        before = {7: sight}
        tracks, sights = describe_frame(
            frame, label_map, None, [KNOWN], {7: Prediction(score, predicted, True)}, before, config, 0
        )
        sight = sights[7]
        states.append(State(tracks.states[0]))
    return states


T, S, OC = State.TRACKED, State.SUSPECT, State.OCCLUDED


@pytest.mark.parametrize("readings, options, expected", [
    # predicted IoU: SUSPECT below 0.4, TRACKED again from 0.45 on
    ([(0.9, 0.42), (0.9, 0.39), (0.9, 0.42), (0.9, 0.46), (0.9, 0.42)], {}, [T, S, S, T, T]),
    # after it was hidden the score must be 0.55, otherwise only what the mask's gate asks for
    ([(0.51, 0.9), (0.1, 0.9, 0), (0.51, 0.9), (0.56, 0.9), (0.51, 0.9)], {}, [T, OC, S, T, T]),
    ([(0.9, 0.9, 0), (0.9, 0.9), (0.9, 0.9), (0.9, 0.9)], dict(confirm_frames=3), [OC, S, S, T]),
    ([(0.9, 0.9, 0), (0.9, 0.9), (0.9, 0.3), (0.9, 0.9), (0.9, 0.9)], dict(confirm_frames=2), [OC, S, S, S, T]),
    # 10 px of usually 60
    ([(0.9, 0.9, 10), (0.9, 0.9, 20)], dict(min_area_ratio=0.25), [S, T]),
    ([(0.9, 0.9, 10)], dict(min_area_ratio=0.1), [T]),
])  # fmt: skip
def test_states_have_hysteresis(readings, options, expected):
    assert states_of(readings, **options) == expected


def test_long_absence_is_lost():
    states, sight = [], describe((10, 5, 20, 9), stamp=2)[1]
    for second in (3, 4, 5):
        tracks, sight = describe(None, stamp=second, last=sight)
        states.append(tracks.states[0])
    assert states == [State.OCCLUDED, State.OCCLUDED, State.LOST]


def test_label_sets(tmp_path):
    root = Path(__file__).resolve().parents[2] / "config" / "labels"
    for path in root.glob("*.yaml"):
        assert LabelSet.from_yaml(path).name == path.stem
    assert LabelSet.from_yaml(root / "generic.yaml") == GENERIC
    assert GENERIC.by_name("").id == 1 and GENERIC.by_name("object").id == 2
    with pytest.raises(
        RequestError, match="class 'x' is not in label set 'generic': expected one of instrument, object"
    ):
        GENERIC.by_name("x")
    for text in ["name: a", "{", "name: a\nclasses: [{id: 1}]", "name: a\nclasses: []",
                 "name: a\nclasses: [{id: 255, name: b, color: [0, 0, 0]}]"]:  # fmt: skip
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError):
            LabelSet.from_yaml(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match="nowhere.yaml is not a label set"):
        LabelSet.from_yaml(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("options, words", [
    (dict(max_objects=0), "max_objects is 0: expected at least 1"),
    (dict(max_area_fraction=1.5), "max_area_fraction is 1.5: expected at most 1.0"),
    (dict(field_of_view="half"), "field_of_view is 'half': expected one of 'full', 'auto'"),
])  # fmt: skip
def test_options_out_of_range(options, words):
    with pytest.raises(ConfigError, match=words):
        TrackerConfig(**options)


def test_iou():
    a = np.zeros((4, 4), bool)
    b = a.copy()
    assert iou(a, b) == 1.0
    a[:2] = True
    assert iou(a, b) == 0.0
    b[1:3] = True
    assert iou(a, b) == pytest.approx(4 / 12)
    with pytest.raises(ValueError, match="expected the same"):
        iou(a, b[:2])
