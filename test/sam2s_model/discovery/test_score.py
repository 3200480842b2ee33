"""Recall, precision and class accuracy of what prototypes find."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.discovery.build import build_bank, open_confirmed
from sam2s_model.discovery.discover import Proposal
from sam2s_model.discovery.score import FindingScore, _box_overlaps, _count, score_prototypes

SCENE = "scene:?width=160&height=128&frames=8&seed={}"


def proposal(x0: int, y0: int, x1: int, y1: int, name: str = "hook") -> Proposal:
    mask = np.zeros((20, 20), bool)
    mask[y0:y1, x0:x1] = True
    return Proposal(mask, np.array([x0, y0, x1, y1], np.int32), 0.9, 0.9, name)


def test_pairs_are_one_to_one_and_the_nearest_first():
    score = FindingScore()
    found = [proposal(0, 0, 4, 4), proposal(0, 0, 4, 3), proposal(8, 8, 12, 12, "suction")]
    overlaps = np.array([[0.6, 0.0], [0.9, 0.0], [0.0, 0.8]])
    _count(score, found, overlaps, ["hook", "hook"], np.array([True, True]))
    assert (score.objects, score.found, score.matched, score.same_class) == (2, 3, 2, 1)
    assert (score.recall, score.precision, score.class_accuracy) == (1.0, pytest.approx(2 / 3), 0.5)


def test_specks_count_neither_for_nor_against():
    score = FindingScore()
    _count(score, [proposal(0, 0, 4, 4)], np.array([[0.9, 0.0]]), ["hook", "hook"], np.array([False, True]))
    assert (score.objects, score.found, score.matched) == (1, 0, 0)
    assert np.isnan(score.precision) and score.recall == 0.0


def test_boxes_overlap_as_boxes_do():
    told = _box_overlaps(
        [proposal(0, 0, 10, 10)], [np.array([[5.0, 0.0], [15.0, 10.0]]), np.array([[12, 12], [14, 14]])]
    )
    assert told.tolist() == [[pytest.approx(1 / 3), 0.0]]


def test_trained_prototypes_find_most_instruments():
    model = load_model("sam2s_pico", device="cpu", precision="fp32")
    confirmed = [one for seed in (1, 2, 3) for one in open_confirmed(SCENE.format(seed))]
    bank = build_bank(model, confirmed, frames=4, class_name="instrument").bank
    told = score_prototypes(
        model, bank, open_confirmed(SCENE.format(11)), config=TrackerConfig(), frames=3, class_name="instrument"
    )
    assert told.frames == 3 and told.objects >= 3
    assert told.recall > 0.6 and told.precision > 0.3 and told.class_accuracy == 1.0
