"""What is drawn, where, and what is left alone."""

import numpy as np
import pytest

from sam2s_model.semantics import GENERIC
from sam2s_model.tracks import State, Tracks
from sam2s_ros.overlay import draw_overlay


def tracks(state=State.TRACKED, empty=False):
    label_map = np.zeros((200, 300), np.uint8)
    if not empty:
        label_map[80:140, 100:180] = 5
    return Tracks(
        stamp=1,
        label_map=label_map,
        object_ids=np.array([1]),
        labels=np.array([5], np.uint8),
        class_ids=np.array([1], np.uint8),
        class_names=("instrument",),
        states=np.array([state], np.uint8),
        scores=np.ones(1, np.float32),
        predicted_ious=np.ones(1, np.float32),
        boxes=np.array([[0, 0, 0, 0] if empty else [100, 80, 180, 140]], np.int32),
        areas=np.array([0 if empty else 4800]),
        centroids=np.zeros((1, 2), np.float32),
    )


IMAGE = np.full((200, 300, 3), 100, np.uint8)


def test_the_mask_is_blended_with_its_class_colour_and_the_image_is_not_touched():
    drawn = draw_overlay(IMAGE, tracks(), GENERIC, alpha=0.5)
    np.testing.assert_allclose(drawn[110, 140], (100 + np.array(GENERIC.classes[0].color)) / 2, atol=1)
    assert (drawn[150:] == 100).all() and (drawn[:, 200:] == 100).all()
    assert (IMAGE == 100).all()


def test_alpha_zero_leaves_the_inside():
    assert (draw_overlay(IMAGE, tracks(), GENERIC, alpha=0.0)[90:130, 110:170] == 100).all()


def test_p14_a_suspect_mask_is_only_outlined():
    drawn = draw_overlay(IMAGE, tracks(State.SUSPECT), GENERIC, alpha=0.9)
    assert (drawn[90:130, 110:170] == 100).all() and (drawn[139, 110:170] != 100).any()


def test_p13_a_lost_object_is_listed_in_the_corner():
    drawn = draw_overlay(IMAGE, tracks(State.LOST, empty=True), GENERIC)
    assert (drawn[:30, :120] != 100).any() and (drawn[60:] == 100).all()


def test_a_class_that_is_not_in_the_set_is_drawn_white():
    other = GENERIC.__class__("other", (GENERIC.classes[1],))
    assert (draw_overlay(IMAGE, tracks(), other, alpha=1.0)[110, 140] == 255).all()


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"\(100, 300\).*\(200, 300\)"):
        draw_overlay(IMAGE[:100], tracks(), GENERIC)


def test_p07_late_masks_have_it_written_on_their_picture():
    drawn, late = (draw_overlay(IMAGE, tracks(), GENERIC, late=late) for late in (False, True))
    assert (drawn[170:] == 100).all() and (late[170:, :100] != 100).any()
    assert (late[:160] == drawn[:160]).all()
