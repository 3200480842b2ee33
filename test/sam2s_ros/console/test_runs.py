"""Label images as run lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from sam2s_model.errors import ConsoleError
from sam2s_ros.console.runs import LONGEST, decode_runs, encode_runs

label_maps = st.tuples(st.integers(1, 30), st.integers(1, 30)).flatmap(
    lambda size: arrays(np.uint8, size, elements=st.sampled_from([0, 1, 7, 255]))
)


@given(label_maps)
def test_runs_give_the_label_map_back(label_map):
    lengths, labels = encode_runs(label_map)
    assert (lengths > 0).all() and len(lengths) == len(labels) <= label_map.size
    assert (decode_runs(lengths, labels, *label_map.shape) == label_map).all()
    assert (labels[1:] != labels[:-1]).all()  # none of these is longer than LONGEST


@pytest.mark.parametrize("pixels", [1, LONGEST - 1, LONGEST, LONGEST + 1, 2 * LONGEST, 3 * LONGEST + 5])
def test_a_long_run_is_several(pixels):
    label_map = np.zeros((1, pixels + 3), np.uint8)
    label_map[0, pixels:] = 9
    lengths, labels = encode_runs(label_map)
    assert (decode_runs(lengths, labels, 1, pixels + 3) == label_map).all()
    assert len(lengths) == -(-pixels // LONGEST) + 1


def test_a_part_of_a_larger_map_is_read_as_it_is():
    label_map = np.arange(48, dtype=np.uint8).reshape(6, 8)[::2, ::3]
    assert (decode_runs(*encode_runs(label_map), 3, 3) == label_map).all()


def test_runs_that_do_not_fill_the_image_are_refused():
    lengths, labels = encode_runs(np.zeros((4, 5), np.uint8))
    with pytest.raises(ConsoleError, match="the runs have 20 px: expected 30, 5 x 6"):
        decode_runs(lengths, labels, 6, 5)
    with pytest.raises(ConsoleError, match="1 lengths and 0 labels"):
        decode_runs(lengths, labels[:0], 4, 5)
