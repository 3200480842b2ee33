"""Policy `none`: the box around the previous mask, and the mask itself, are the prompts."""

from __future__ import annotations

import torch

from sam2s_model.tracking.previous_mask import previous_prompts


def test_box_is_the_masks_extent_with_a_margin():
    logits = torch.full((2, 1, 8, 8), -5.0)
    logits[0, 0, 2:4, 1:6] = 40.0
    corners, dense = previous_prompts(logits, image_size=80)
    assert corners[0].flatten().tolist() == [10 - 5, 20 - 2, 60 + 5, 40 + 2]
    assert corners[1].flatten().tolist() == [0, 0, 80, 80], "an empty mask: look everywhere"
    assert dense.max() == 32 and dense.min() == -5


def test_box_stays_inside_the_image():
    corners, _ = previous_prompts(torch.ones(1, 1, 8, 8), image_size=80)
    assert corners.flatten().tolist() == [0, 0, 80, 80]
