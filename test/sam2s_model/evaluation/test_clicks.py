"""Clicks against definitions by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from sam2s_model.evaluation.clicks import centre, correction, first_prompt
from sam2s_model.prompts import NEGATIVE, POSITIVE

MASKS = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)


def depth(region: np.ndarray, x: int, y: int) -> float:
    """Distance to the nearest pixel that is not in the region; the image has a border of such pixels."""
    outside = np.argwhere(~np.pad(region, 1)) - 1
    return float(np.sqrt(((outside - (y, x)) ** 2).sum(1)).min())


@settings(max_examples=100)
@given(MASKS)
def test_the_centre_is_the_deepest_pixel(masks):
    region, _ = masks
    if not region.any():
        with pytest.raises(ValueError, match="the region is empty"):
            centre(region)
        return
    x, y = centre(region)
    deepest = max(depth(region, int(px), int(py)) for py, px in np.argwhere(region))
    assert region[y, x] and depth(region, x, y) == pytest.approx(deepest, abs=1e-4)


@settings(max_examples=100)
@given(MASKS)
def test_a_correction_is_on_what_is_wrong(masks):
    predicted, truth = masks
    click = correction(predicted, truth)
    if click is None:
        assert (predicted == truth).all()
        return
    (x, y), label = click
    assert predicted[y, x] != truth[y, x] and label == (POSITIVE if truth[y, x] else NEGATIVE)


def test_the_largest_region_is_corrected_and_void_is_not():
    truth, predicted = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    truth[5:10, 5:10] = True  # missed: 25 px
    predicted[15:24, 20:29] = True  # too much: 81 px
    predicted[2, 30:39] = True
    assert correction(predicted, truth) == ((24, 19), NEGATIVE)
    assert correction(predicted, truth, void=predicted) == ((7, 7), POSITIVE)
    assert correction(predicted, truth, void=predicted | truth) is None


def test_first_prompts():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:21] = True
    assert first_prompt("box", mask).box.tolist() == [10, 4, 21, 9]
    assert first_prompt("mask", mask).mask is mask
    assert first_prompt("clicks", mask).points[0, 1] == 6 and first_prompt("clicks", mask).point_labels.tolist() == [
        POSITIVE
    ]
