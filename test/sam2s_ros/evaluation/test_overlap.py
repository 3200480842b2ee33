"""IoU of labels and objects against the plain formula, and the summary of times."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.metrics import iou
from sam2s_model.recordings.recording import Truth
from sam2s_ros.evaluation.overlap import OverlapMeter, summary_ms


def test_every_pair_as_the_plain_formula():
    rng = np.random.default_rng(0)
    meter, expected = OverlapMeter(), {}
    for _ in range(5):
        truth = rng.choice([0, 1, 4, 255], (30, 40)).astype(np.uint8)
        label_map = rng.choice([0, 2, 9, 255], (30, 40)).astype(np.uint8)
        found = meter.add(Truth.of_labels(truth), label_map, [11, 12], [2, 9])
        assert set(found) == {1, 4}
        for label in (1, 4):
            for object_id, value in ((11, 2), (12, 9)):
                plain = iou(label_map == value, truth == label, truth == 255)
                assert found[label][object_id] == pytest.approx(plain)
                expected.setdefault((label, object_id), []).append(plain)
    for pair, values in expected.items():
        assert meter.mean(*pair) == (pytest.approx(np.mean(values)), 5)
    assert [(p["label"], p["object_id"], p["frames"]) for p in meter.pairs()] == [
        (1, 11, 5),
        (1, 12, 5),
        (4, 11, 5),
        (4, 12, 5),
    ]


def test_an_object_that_left_is_right_when_its_mask_is_empty():
    meter = OverlapMeter()
    here, gone = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    here[:2] = 1
    assert meter.add(Truth.of_labels(here), here, [5], [1]) == {1: {5: 1.0}}
    assert meter.add(Truth.of_labels(gone), gone, [5], [1]) == {1: {5: 1.0}}
    assert meter.add(Truth.of_labels(gone), here, [5], [1]) == {1: {5: 0.0}}
    assert meter.mean(1, 5) == (pytest.approx(2 / 3), 3)


def test_frames_before_the_prompt_do_not_count():
    meter = OverlapMeter()
    truth = np.ones((4, 4), np.uint8)
    meter.add(Truth.of_labels(truth), np.zeros((4, 4), np.uint8), [], [])
    meter.add(Truth.of_labels(truth), truth, [5], [1])
    assert meter.mean(1, 5) == (1.0, 1) and meter.mean(1, 6) == (0.0, 0)


def test_any_number_may_be_an_object_and_what_is_not_known_does_not_count():
    """As in SA-V: objects from 0 on, a file each, overlapping; without a file nothing is known."""
    meter = OverlapMeter()
    label_map = np.zeros((4, 4), np.uint8)
    label_map[:2] = 1
    first, second = label_map == 1, np.ones((4, 4), bool)
    assert meter.add(Truth({0: first, 300: second}, complete=False), label_map, [5], [1]) == {
        0: {5: 1.0},
        300: {5: 0.5},
    }
    assert meter.add(Truth({300: second}, complete=False), label_map, [5], [1]) == {300: {5: 0.5}}
    assert meter.add(Truth({300: second}), label_map, [5], [1]) == {0: {5: 0.0}, 300: {5: 0.5}}
    assert meter.mean(0, 5) == (0.5, 2) and meter.mean(300, 5) == (0.5, 3)
    assert meter.best_label(5) == 0 and meter.best_label(6) is None


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(4, 5\)"):
        OverlapMeter().add(Truth.of_labels(np.zeros((4, 4), np.uint8)), np.zeros((4, 5), np.uint8), [], [])


def test_summary_of_times():
    assert summary_ms([]) == {"count": 0}
    assert summary_ms(list(range(101))) == dict(count=101, p50=50.0, p90=90.0, p99=99.0, max=100.0)
