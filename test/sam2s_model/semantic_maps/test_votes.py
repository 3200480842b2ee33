"""Objects take the class that base maps vote for: over their life, bounded, and what a person says stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam2s_model.semantic_maps.votes import BACKGROUND, VOID, ClassVotes, composed, semantic_image
from sam2s_model.tracks import State, Tracks

SIZE = (20, 30)


def tracks_of(classes: dict[int, int], named: tuple[int, ...] = (), outside: int = 0) -> Tracks:
    """Objects side by side, 6 px wide. classes: id -> class id; named: by a person; outside: rows at the bottom"""
    label_map = np.zeros(SIZE, np.uint8)
    ids = np.array(list(classes), np.int64)
    for i in range(len(ids)):
        label_map[:, 6 * i : 6 * i + 6] = i + 1
    if outside:
        label_map[-outside:] = VOID
    n = len(ids)
    boxes = np.array([[6 * i, 0, 6 * i + 6, 20] for i in range(n)], np.int32)
    return replace(
        Tracks.empty(1, *SIZE), label_map=label_map, object_ids=ids, labels=np.arange(1, n + 1).astype(np.uint8),
        class_ids=np.array(list(classes.values()), np.uint8), class_names=("x",) * n,
        states=np.full(n, State.TRACKED, np.uint8), scores=np.ones(n, np.float32),
        predicted_ious=np.ones(n, np.float32), boxes=boxes.reshape(n, 4),
        areas=np.full(n, 120),
        centroids=np.zeros((n, 2), np.float32), returns=None, similarities=None,
        class_scores=np.array([1.0 if i in named else np.nan for i in ids], np.float32),
    )  # fmt: skip


def filled(value: int) -> np.ndarray:
    return np.full(SIZE, value, np.uint8)


def test_the_majority_of_an_objects_life_is_its_class_and_the_base_map_stays_elsewhere():
    votes, tracks = ClassVotes(), tracks_of({7: 1})
    base = filled(3)
    base[:, :4] = 5  # 4 of its 6 columns
    out = semantic_image(votes, tracks, base)
    assert (out[:, :6] == 5).all() and (out[:, 6:] == 3).all()
    for _ in range(2):
        out = semantic_image(votes, tracks, filled(5))
    assert (out == 5).all()
    wrong = semantic_image(votes, tracks, filled(4))  # one frame of another class changes nothing inside
    assert (wrong[:, :6] == 5).all() and (wrong[:, 6:] == 4).all()


def test_what_a_person_said_stands_and_background_does_not_win():
    tracks = tracks_of({1: 2, 2: 1, 3: 9}, named=(1,))
    base = filled(5)
    base[:, 6:12], base[:2, 6:12] = BACKGROUND, 4  # a tenth of it is of a class
    base[:, 12:18] = BACKGROUND
    out = semantic_image(ClassVotes(), tracks, base)
    assert (out[:, :6] == 2).all()  # named
    assert (out[:, 6:12] == 4).all()  # the best class there is
    assert (out[:, 12:18] == 9).all()  # without any it is as the tracker says
    assert (out[:, 18:] == 5).all()


def test_unlabelled_pixels_have_no_vote_and_outside_the_field_nothing_is_labelled():
    tracks = tracks_of({1: 1}, outside=5)
    base = filled(VOID)
    base[0, 0] = 6
    out = semantic_image(ClassVotes(), tracks, base)
    assert (out[:15, :6] == 6).all() and (out[15:] == VOID).all() and (out[:15, 6:] == VOID).all()
    votes = ClassVotes()
    semantic_image(votes, tracks, filled(VOID))
    assert votes.class_of(1) == (BACKGROUND, 0.0) and len(votes) == 0


def test_a_frame_has_one_vote_however_large_the_object_is():
    votes = ClassVotes()
    large, small = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    large[:], small[:2, :2] = 1, 1
    votes.add(large, {1: 1}, filled(3))
    votes.add(small, {1: 1}, filled(4))
    votes.add(small, {1: 1}, filled(4))
    assert votes.class_of(1) == (4, pytest.approx(2 / 3))


def test_votes_are_bounded_and_those_of_objects_that_are_gone_are_dropped():
    votes = ClassVotes(memory=10)
    for i in range(1000):
        semantic_image(votes, tracks_of({i + 1: 1, i + 2: 1}), filled(3))
        assert len(votes) == 2
    for _ in range(1000):
        semantic_image(votes, tracks_of({5: 1}), filled(3))
    assert votes._votes[5].sum() == pytest.approx(10) and len(votes) == 1
    for _ in range(8):  # what it has been for ever is outvoted within its memory
        semantic_image(votes, tracks_of({5: 1}), filled(4))
    assert votes.class_of(5)[0] == 4


def test_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"masks of \(20, 30\) and a base map of \(10, 30\)"):
        semantic_image(ClassVotes(), tracks_of({1: 1}), np.zeros((10, 30), np.uint8))
    with pytest.raises(ValueError, match=r"masks of \(2, 2\) and a base map of \(2, 3\)"):
        ClassVotes().add(np.zeros((2, 2), np.uint8), {1: 1}, np.zeros((2, 3), np.uint8))
    empty = replace(tracks_of({1: 1}), label_map=np.zeros(SIZE, np.uint8), areas=np.zeros(1, np.int64))
    votes = ClassVotes()
    assert (semantic_image(votes, empty, filled(3)) == 3).all() and len(votes) == 0
    assert (composed(np.zeros(SIZE, np.uint8), {}, filled(3)) == 3).all()
