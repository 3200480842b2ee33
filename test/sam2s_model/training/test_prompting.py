"""Simulated prompts: where they may lie, and that they are a function of the random generator."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.network.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, NEGATIVE, POSITIVE
from sam2s_model.training.config import PromptConfig
from sam2s_model.training.prompting import draw_box, draw_click, draw_correction, draw_first_prompt, draw_plan

MASK = np.zeros((40, 60), bool)
MASK[10:20, 30:50] = True
VALID = np.ones_like(MASK)


def test_a_box_without_jitter_is_the_tight_one():
    np.testing.assert_array_equal(draw_box(np.random.default_rng(0), MASK, 0.0), [[30, 10], [50, 20]])


def test_the_edges_of_a_box_are_off_by_at_most_the_jitter():
    boxes = np.stack([draw_box(np.random.default_rng(i), MASK, 0.1) for i in range(300)])
    away = np.abs(boxes - [[30, 10], [50, 20]])
    assert (away <= [2.001, 1.001]).all() and (away.max(0) > [1.8, 0.9]).all()


def test_a_box_stays_in_the_image():
    full = np.ones((8, 8), bool)
    boxes = np.stack([draw_box(np.random.default_rng(i), full, 0.5) for i in range(50)])
    assert boxes.min() >= 0 and boxes.max() <= 8


def test_clicks_are_spread_over_the_object():
    clicks = np.stack([draw_click(np.random.default_rng(i), MASK) for i in range(300)])
    assert all(MASK[int(y), int(x)] for x, y in clicks)
    assert clicks.min(0).tolist() == [30, 10] and clicks.max(0).tolist() == [49, 19]


@pytest.mark.parametrize("draw", [draw_click, lambda rng, mask: draw_box(rng, mask, 0.1)])
def test_nothing_can_be_prompted_with_an_empty_mask(draw):
    with pytest.raises(ValueError, match="the mask is empty: expected at least one pixel"):
        draw(np.random.default_rng(0), np.zeros((4, 4), bool))


def test_corrections_are_on_errors_and_say_which_kind():
    predicted = np.roll(MASK, 5, axis=1)
    seen = set()
    for i in range(200):
        (x, y), label = draw_correction(np.random.default_rng(i), predicted, MASK, VALID)
        x, y = int(x), int(y)
        assert predicted[y, x] != MASK[y, x] and label == (POSITIVE if MASK[y, x] else NEGATIVE)
        seen.add(label)
    assert seen == {POSITIVE, NEGATIVE}


def test_errors_in_void_are_none():
    predicted, valid = MASK.copy(), VALID.copy()
    predicted[30:, :] = True
    valid[30:, :] = False
    (x, y), label = draw_correction(np.random.default_rng(0), predicted, MASK, valid)
    assert label == POSITIVE and MASK[int(y), int(x)]


def test_without_an_error_the_click_is_on_the_object_or_beside_none():
    (x, y), label = draw_correction(np.random.default_rng(0), MASK, MASK, VALID)
    assert label == POSITIVE and MASK[int(y), int(x)]
    empty = np.zeros_like(MASK)
    assert draw_correction(np.random.default_rng(0), empty, empty, VALID)[1] == NEGATIVE


def test_first_prompts_have_the_labels_of_the_prompt_encoder():
    points, labels = draw_first_prompt(np.random.default_rng(0), "box", MASK, 0.0)
    assert points.shape == (2, 2) and labels.tolist() == [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]
    points, labels = draw_first_prompt(np.random.default_rng(0), "point", MASK, 0.0)
    assert points.shape == (1, 2) and labels.tolist() == [POSITIVE]


def plans(config: PromptConfig, length: int, count: int = 400):
    return [draw_plan(np.random.default_rng((7, i)), config, length) for i in range(count)]


def test_kinds_come_as_often_as_their_odds_say():
    kinds = [plan.kind for plan in plans(PromptConfig(), 8)]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert shares["mask"] == pytest.approx(0.5, abs=0.08) and shares["box"] == pytest.approx(0.25, abs=0.08)


def test_single_images_have_no_mask_prompts():
    assert {plan.kind for plan in plans(PromptConfig(), 1)} == {"box", "point"}
    assert "mask" in {plan.kind for plan in plans(PromptConfig(images_without_mask=False), 1)}


def test_corrections_are_on_the_first_and_on_later_frames():
    drawn = plans(PromptConfig(correct=1.0, corrected_frames=3), 6)
    assert {len(plan.corrected) for plan in drawn} == {1, 2, 3}
    for plan in drawn:
        assert list(plan.corrected) == sorted(set(plan.corrected)) and max(plan.corrected) < 6
        assert (0 in plan.corrected) == (plan.kind != "mask")
    assert not any(plan.corrected for plan in plans(PromptConfig(correct=0.0), 6))
    assert not any(plan.corrected for plan in plans(PromptConfig(clicks=0), 6))


def test_plans_are_a_function_of_the_generator():
    assert plans(PromptConfig(), 8) == plans(PromptConfig(), 8)


def test_hard_prompts_come_as_often_as_said_and_change_no_other_draw():
    plain, hard = PromptConfig(), PromptConfig(hard=0.25)
    plans = [draw_plan(np.random.default_rng(seed), hard, 3) for seed in range(400)]
    assert 0.18 < np.mean([plan.hard for plan in plans]) < 0.32
    assert not draw_plan(np.random.default_rng(0), plain, 3).hard
    same = [draw_plan(np.random.default_rng(seed), plain, 3) for seed in range(400)]
    assert [(p.kind, p.corrected, p.from_truth) for p in plans] == [(p.kind, p.corrected, p.from_truth) for p in same]
