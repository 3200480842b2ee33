"""Tracklets of candidate masks, worked by hand."""

from __future__ import annotations

import pytest
import torch

from sam2s_model.tracking.memory import BankView, Refine

HERE, THERE = (4, 4, 8, 8), (12, 12, 16, 16)


def masks(*boxes) -> torch.Tensor:
    out = torch.full((1, 3, 16, 16), -1.0)
    for mask, (x0, y0, x1, y1) in zip(out[0], boxes, strict=True):
        mask[y0:y1, x0:x1] = 1.0
    return out


def consistency(run) -> list[float]:
    return BankView(run.bank, [0]).state("consistency")[0].tolist()


def test_a_tracklet_outweighs_a_little_more_predicted_iou(script, small):
    """0.25 x 1 + 0.75 x 0.6 = 0.7 at the place of the prompt; elsewhere 0.75 x 0.9 = 0.675, or 0.75 x 0.95 = 0.7125."""
    run = script(Refine(small))
    run.prompt(0, box=HERE)
    view = BankView(run.bank, [0])
    for far, chosen in ((0.9, 1), (0.95, 0)):
        assert run.policy.choose(view, masks(THERE, HERE, THERE), torch.tensor([[far, 0.6, 0.1]])).item() == chosen


def test_consistency_goes_along_the_links(script, small):
    """Half of the mask before is 8 of 16 cells: an IoU of 0.5; the next frame's link is 1 x (0.2 + 0.8 x 0.5) = 0.6."""
    run = script(Refine(small))
    run.prompt(0, box=HERE)
    run.track(1, box=HERE, candidates=masks(HERE, (4, 4, 8, 6), THERE))
    assert consistency(run) == pytest.approx([1.0, 0.5, 0.0])
    run.track(2, box=HERE, candidates=masks((4, 4, 8, 6), THERE, THERE))
    # the half goes on from the half, 0.6, rather than from the whole, 0.5; the other place from itself, 0.2 + 0.8 x 0
    assert consistency(run) == pytest.approx([0.6, 0.2, 0.2])


def test_only_what_is_consistent_is_kept(script, small):
    run = script(Refine(small))
    run.prompt(0, box=HERE)
    run.track(1, box=HERE)
    run.track(2, box=HERE, iou=0.5)
    run.track(3, box=THERE)
    run.track(4, logit=-3.0)
    assert run.held("consistent") == [1] and run.attended(5) == {0: 6, 4: 0, 1: 1}
    for frame in (5, 6, 7, 8):
        run.track(frame, box=THERE)  # one that goes on elsewhere: 0.2, then 0.2 + 0.8 x 0.2 = 0.36 and more
    assert run.held("consistent") == [1, 6, 7, 8] and consistency(run)[0] == pytest.approx(0.5904)


def test_a_prompt_begins_anew_and_absence_changes_nothing(script, small):
    run = script(Refine(small))
    run.prompt(0, box=HERE)
    run.track(1, box=(4, 4, 8, 6))
    before = consistency(run)
    run.track(2, logit=-3.0)
    assert consistency(run) == before == pytest.approx([0.5] * 3)
    run.prompt(3, box=THERE)
    assert consistency(run) == [1.0] * 3
    run.track(4, box=THERE)
    assert consistency(run) == pytest.approx([1.0] * 3) and 4 in run.held("consistent")
