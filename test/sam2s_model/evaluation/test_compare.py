"""Differences of reports: exact where they can be, intervals that hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.compare import compare


def report(values: dict[str, dict[str, list[float | None]]], sources: tuple[dict, ...] = (), **configuration) -> dict:
    """values: data set -> recording -> J&F of its objects; the other figures are the same."""
    recordings = [
        dict(
            data_set=data_set, name=name,
            objects=[dict(object=i, jf=v, j=v, f=v, dice=v) for i, v in enumerate(objects, start=1)],
        )
        for data_set, own in values.items()
        for name, objects in own.items()
    ]  # fmt: skip
    return dict(recordings=recordings, configuration=dict(policy="fifo", sources=list(sources), **configuration))


def test_overall_is_the_mean_over_data_sets_of_the_mean_over_objects():
    first = report({"x": {"a": [0.5, 0.7], "b": [0.9]}, "y": {"c": [0.4]}})
    other = report({"x": {"a": [0.6, 0.7], "b": [0.6]}, "y": {"c": [0.8]}}, seed=1)
    found = compare(first, other, draws=200)
    overall = found["overall"]["jf"]
    assert overall["first"] == pytest.approx((0.7 + 0.4) / 2) and overall["other"] == pytest.approx((1.9 / 3 + 0.8) / 2)
    assert overall["difference"] == pytest.approx(overall["other"] - overall["first"])
    differences = {row["name"]: row["jf"]["difference"] for row in found["recordings"]}
    assert differences == pytest.approx({"a": 0.05, "b": -0.3, "c": 0.4})
    assert found["configurations"] == {"seed": [None, 1]} and found["objects"] == 4


def test_another_ground_truth_is_another_configuration():
    """Not another place, nor more sources that are read alike."""
    own = dict(
        spec="/a/clip.mp4", data_set="", layout="auto", topic="", mask_topic="", truth="/a/masks", mask_values="auto"
    )
    values = {"x": {"a": [0.5]}}
    first = report(values, (own,))
    others = [
        dict(own, spec="/b/clip.mp4", data_set="mine"),
        dict(own, truth="/a/others"),
        dict(own, mask_values="binary"),
    ]
    changed = [compare(first, report(values, (other,)), draws=100)["configurations"] for other in others]
    assert changed == [
        {}, {"sources.truth": ["/a/masks", "/a/others"]}, {"sources.mask_values": ["auto", "binary"]}
    ]  # fmt: skip
    assert compare(first, report(values, (own, dict(own, spec="/a/b.mp4"))), draws=100)["configurations"] == {}
    both = compare(first, report(values, (own, dict(own, truth=""))), draws=100)["configurations"]
    assert both == {"sources.truth": ["/a/masks", ["", "/a/masks"]]}


def test_only_what_both_have_is_compared():
    first, other = report({"x": {"a": [0.5, 0.1, None], "b": [0.2]}}), report({"x": {"a": [0.7, None, 0.3]}})
    found = compare(first, other, draws=100)
    assert found["objects"] == 1 and found["left_out"] == dict(first=2, other=1)
    assert found["overall"]["j"]["difference"] == pytest.approx(0.2)
    with pytest.raises(ConfigError, match="have no scored object in common: expected some of x/a/1"):
        compare(first, report({"y": {"a": [0.7]}}))


def test_intervals_are_those_of_the_normal_distribution_where_there_are_many_recordings():
    rng = np.random.default_rng(0)
    base, gain = rng.uniform(0.3, 0.7, 200), rng.normal(0.05, 0.1, 200)
    first, other = (report({"x": {str(i): [float(v)] for i, v in enumerate(values)}}) for values in (base, base + gain))
    found = compare(first, other, seed=3)["overall"]["jf"]
    half = 1.96 * gain.std() / np.sqrt(200)
    assert found["low"] == pytest.approx(gain.mean() - half, abs=0.1 * half)
    assert found["high"] == pytest.approx(gain.mean() + half, abs=0.1 * half)
    assert compare(first, other, seed=3)["overall"]["jf"] == found, "the seed decides"
    assert compare(first, other, seed=4)["overall"]["jf"]["low"] != found["low"]


def test_recordings_are_drawn_within_their_data_set():
    """A data set of one recording adds nothing to the interval, and its difference is always in it."""
    first, other = report({"x": {"a": [0.5]}, "y": {"b": [0.1]}}), report({"x": {"a": [0.6]}, "y": {"b": [0.5]}})
    found = compare(first, other, draws=100)["overall"]["jf"]
    assert found["low"] == found["high"] == pytest.approx(0.25)
