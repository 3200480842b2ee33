"""Objects of a class are told apart, and the class is still recognised."""

from __future__ import annotations

import colorsys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from sam2s_model.colours import coloured, instance_colour, palette
from sam2s_model.semantics import GENERIC, LabelSet
from sam2s_model.tracks import LABEL_OUTSIDE, State, Tracks

LABELS = sorted((Path(__file__).resolve().parents[2] / "config" / "labels").glob("*.yaml"))


@pytest.mark.parametrize("label_set", [GENERIC, *map(LabelSet.from_yaml, LABELS)], ids=lambda labels: labels.name)
def test_six_objects_of_a_class_differ_visibly(label_set):
    for label in label_set.classes:
        colours = [np.array(instance_colour(label.color, i), float) for i in range(1, 7)]
        assert min(np.abs(a - b).max() for a, b in combinations(colours, 2)) >= 15, label.name


def test_the_first_object_has_the_colour_of_its_class():
    assert instance_colour((230, 160, 0), 1) == instance_colour((230, 160, 0), 7) == (230, 160, 0)


def test_a_shade_stays_near_the_hue_of_its_class():
    hue = colorsys.rgb_to_hsv(0, 200 / 255, 120 / 255)[0]
    for i in range(1, 7):
        shade = colorsys.rgb_to_hsv(*(c / 255 for c in instance_colour((0, 200, 120), i)))[0]
        assert min(abs(shade - hue), 1 - abs(shade - hue)) < 0.1


def test_a_palette_is_black_where_no_object_is():
    table = palette({3: (1, 2, 3)})
    assert table.shape == (256, 3) and table[3].tolist() == [1, 2, 3] and not table[[0, 1, 2, 4, 254]].any()


def test_a_frame_in_colours_has_each_object_in_its_own_nothing_black_and_the_outside_grey():
    label_map = np.zeros((6, 8), np.uint8)
    label_map[1:3, 1:3], label_map[3:5, 4:8], label_map[5] = 1, 2, LABEL_OUTSIDE
    [generic] = {c.color for c in GENERIC.classes if c.id == 1}
    tracks = Tracks(
        stamp=5, label_map=label_map, object_ids=np.array([3, 4]), labels=np.array([1, 2], np.uint8),
        class_ids=np.array([1, 1], np.uint8), class_names=(GENERIC.classes[0].name,) * 2,
        states=np.full(2, State.TRACKED, np.uint8), scores=np.ones(2, np.float32),
        predicted_ious=np.ones(2, np.float32), boxes=np.array([[1, 1, 3, 3], [4, 3, 8, 5]], np.int32),
        areas=np.array([4, 8]), centroids=np.array([[1.5, 1.5], [5.5, 3.5]], np.float32),
    )  # fmt: skip
    picture = coloured(tracks, GENERIC)
    assert picture.shape == (6, 8, 3) and picture.dtype == np.uint8
    assert tuple(picture[1, 1]) == instance_colour(generic, 3) != instance_colour(generic, 4) == tuple(picture[4, 7])
    assert not picture[0].any() and (picture[5] == 64).all()
