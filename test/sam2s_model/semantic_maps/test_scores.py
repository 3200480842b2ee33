"""mIoU and flicker on maps whose values are counted by hand, and the maps of a network that errs."""

from __future__ import annotations

import math

import numpy as np

from sam2s_model.semantic_maps.noisy import Errors, spoiled
from sam2s_model.semantic_maps.scores import ALL, STILL, MapScore


def row(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def test_mean_iou_is_over_the_classes_of_the_truth():
    score = MapScore()
    assert math.isnan(score.mean_iou) and math.isnan(score.flicker)
    score.add(row(0, 0, 1, 1, 2), row(0, 0, 0, 1, 255))  # the last is unlabelled: 2 is no error
    assert score.mean_iou == (2 / 3 + 1 / 2) / 2
    score.add(row(0, 0, 0, 1, 3), row(0, 0, 0, 1, 1))  # 3 is in no truth; its pixel is missing of 1
    assert score.mean_iou == (5 / 6 + 2 / 4) / 2


def test_flicker_counts_what_changes_where_the_truth_stays():
    score = MapScore()
    score.add(row(0, 0, 1, 1), row(0, 0, 1, 1))
    score.add(row(0, 1, 0, 1), row(0, 0, 0, 255))  # the third has moved, the fourth is unlabelled
    assert (score.changed[STILL], score.compared[STILL], score.flicker) == (1, 2, 0.5)
    without = MapScore()
    without.add(row(0, 0, 1, 1), None)
    without.add(row(0, 1, 0, 1), None)
    assert without.flicker == 0.5 and math.isnan(without.mean_iou)
    assert score.flicker_is_of == STILL and without.flicker_is_of == ALL


def test_flicker_of_sparse_truth_says_what_it_is_of():
    sparse = MapScore()
    truths = [row(0, 0, 1, 1), None, row(0, 0, 1, 1), None]
    for found, truth in zip(((0, 0, 1, 1), (0, 0, 0, 1), (0, 1, 1, 1), (0, 1, 1, 1)), truths, strict=True):
        sparse.add(row(*found), truth)
    assert sparse.mean_iou > 0 and sparse.flicker_is_of == ALL and sparse.flicker == 3 / 12
    mixed = MapScore()
    mixed.add(row(0, 0, 1, 1), None)
    mixed.add(row(1, 1, 1, 1), row(0, 0, 1, 1))  # from a frame without truth: of nothing it is known that it stays
    mixed.add(row(1, 1, 1, 0), row(0, 0, 1, 1))
    assert mixed.flicker_is_of == STILL and mixed.flicker == 1 / 4


def test_a_network_that_errs_does_so_in_each_frame_by_itself():
    labels = np.zeros((64, 80), np.uint8)
    labels[10:40, 10:40], labels[:, 78:] = 1, 255
    maps = [spoiled(labels, {1: 2}, (1, 2, 3), seed) for seed in range(60)]
    assert np.array_equal(maps[0], spoiled(labels, {1: 2}, (1, 2, 3), 0))
    right = [(one[15:35, 15:35] == 2).mean() > 0.5 for one in maps]
    assert 0.5 < np.mean(right) < 0.9 and all((one[:, 78:] == 255).all() for one in maps)
    assert set(np.unique(np.stack(maps))) == {0, 1, 2, 3, 255}
    exact = spoiled(labels, {1: 2}, (1, 2, 3), 0, Errors(0, 0, 0, 0))
    assert ((exact == 2) == (labels == 1)).all()
