"""Which frames make a clip: what each way of sampling promises, for recordings of any length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from sam2s_model.errors import ConfigError
from sam2s_model.training.sampling import divemem, draw_indices, roles, tsms, vanilla


@settings(max_examples=60)
@given(
    st.sampled_from(["vanilla", "tsms", "divemem"]),
    st.integers(1, 50),
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(0, 9),
)
def test_indices_are_frames_and_a_function_of_the_seed(how, frames, length, stride, seed):
    first, second = (
        draw_indices(np.random.default_rng(seed), how, frames, length, stride, reverse=0.5) for _ in range(2)
    )
    assert first == second and len(first) == length and all(0 <= i < frames for i in first)
    if frames >= length:
        assert len(set(first)) == length


@settings(max_examples=100)
@given(st.integers(8, 200), st.integers(0, 99))
def test_divemem_is_one_conditional_two_long_term_and_five_consecutive(frames, seed):
    indices = divemem(np.random.default_rng(seed), frames)
    assert indices == sorted(set(indices)) and len(indices) == 8
    assert np.diff(indices[3:]).tolist() == [1, 1, 1, 1]
    assert roles(8, "divemem") == ("conditional", "long", "long") + ("short",) * 5


def test_divemem_draws_over_the_whole_video():
    drawn = np.array([divemem(np.random.default_rng(seed), 100) for seed in range(400)])
    assert drawn[:, 0].max() > 60 and drawn[:, 0].min() < 3 and drawn[:, -1].max() == 99
    assert np.median(drawn[:, 3] - drawn[:, 0]) > 15


@pytest.mark.parametrize("length, expected", [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2)])
def test_short_divemem_clips_keep_the_conditional_frame(length, expected):
    assert roles(length, "divemem").count("long") == expected and roles(length, "divemem")[0] == "conditional"
    assert len(divemem(np.random.default_rng(0), 50, length)) == length


def test_tsms_strides_have_their_odds():
    strides = [np.diff(tsms(np.random.default_rng(seed), 100, 4))[0] for seed in range(2000)]
    shares = [strides.count(stride) / len(strides) for stride in (1, 2, 3)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_vanilla_is_evenly_spaced_and_short_recordings_run_to_and_fro():
    rng = np.random.default_rng(0)
    assert np.diff(vanilla(rng, 30, 5, 4)).tolist() == [4] * 4
    assert np.diff(vanilla(rng, 9, 5, 4)).tolist() == [2] * 4  # a smaller stride fits
    assert vanilla(rng, 3, 7) == [0, 1, 2, 1, 0, 1, 2] and vanilla(rng, 1, 3) == [0, 0, 0]


def test_reversal():
    forward, backward = (draw_indices(np.random.default_rng(4), "vanilla", 20, 4, 1, reverse) for reverse in (0.0, 1.0))
    assert np.diff(forward).tolist() == [1] * 3 and np.diff(backward).tolist() == [-1] * 3


@pytest.mark.parametrize(
    "how, frames, message", [("all", 5, "sampling is 'all': expected"), ("tsms", 0, "a recording has 0 frames")]
)
def test_what_cannot_be_sampled_is_refused(how, frames, message):
    with pytest.raises(ConfigError, match=message):
        draw_indices(np.random.default_rng(0), how, frames, 4)
