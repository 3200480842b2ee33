"""Labels that are spoiled as tracking spoils them, and how they go to a later frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2s_model.tracking.memory.matching import Matching
from sam2s_model.training.propagated import LEAST_LEFT, propagate, spoil

MASK = np.zeros((32, 32), bool)
MASK[8:20, 6:26] = True
DRAWS = range(200)


def spoiled(seed: int, mask: np.ndarray = MASK) -> np.ndarray:
    return spoil(np.random.default_rng(seed), mask)


def test_parts_are_lost_and_others_gained_surely_or_half():
    labels = np.stack([spoiled(seed) for seed in DRAWS])
    assert labels.dtype == np.float32 and labels.min() == 0.0 and labels.max() == 1.0
    lost, gained = (labels[:, MASK] < 0.4).any(1), (labels[:, ~MASK] > 0.4).any(1)
    assert lost.mean() > 0.4 and gained.mean() > 0.15
    assert ((labels > 0.2) & (labels < 0.8)).any((1, 2)).mean() > 0.3
    assert (labels != MASK).any((1, 2)).mean() > 0.9


def test_something_of_the_object_is_left():
    left = [np.count_nonzero(spoiled(seed) > Matching.threshold) for seed in DRAWS]
    assert min(left) > LEAST_LEFT * np.count_nonzero(MASK)


def test_a_draw_is_a_function_of_its_generator():
    np.testing.assert_array_equal(spoiled(3), spoiled(3))


@pytest.mark.parametrize("mask", [np.zeros((8, 8), bool), np.pad(np.ones((1, 1), bool), ((3, 4), (3, 4)))])
def test_nothing_and_a_dot(mask):
    for seed in range(30):
        assert spoiled(seed, mask).shape == mask.shape and np.isfinite(spoiled(seed, mask)).all()


def test_labels_move_with_the_features():
    torch.manual_seed(0)
    before = torch.randn(1, 16, 8, 8)
    now = before.roll(2, dims=3)  # places; 4 mask cells each
    labels = torch.zeros(2, 1, 32, 32)
    labels[0, 0, 8:20, 4:16], labels[1, 0, 20:28, 8:16] = 1.0, 1.0
    found = propagate(before, now, labels, Matching())

    def overlap(masks):
        return (found.inside & masks).flatten(1).sum(1) / (found.inside | masks).flatten(1).sum(1)

    assert overlap(labels.roll(8, dims=3)[:, 0] > 0.5).min() > 0.6 > 2 * overlap(labels[:, 0] > 0.5).max()
    assert found.maps.shape == (2, 1, 16, 16) and float(found.maps.max()) <= 1.0 + 1e-6
