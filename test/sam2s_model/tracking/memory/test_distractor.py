"""DAM4SAM's rule for distractor frames, each condition by itself."""

from __future__ import annotations

import pytest
import torch

from sam2s_model.tracking.memory import DistractorAware

MASK = (4, 4, 8, 8)  # 16 px


def candidates(x0: int, x1: int) -> torch.Tensor:
    """The mask and an alternative that has a second piece, as high as the mask, from x0 to x1."""
    masks = torch.full((1, 3, 16, 16), -1.0)
    masks[:, :, 4:8, 4:8] = 1.0
    masks[:, 1, 4:8, x0:x1] = 1.0
    return masks


FAR = candidates(11, 15)  # box of both 4..15 by 4..8: IoU 16 / 44
NEAR = candidates(8, 9)  # IoU 16 / 20 = 0.8 if it counted; narrower than 3 px it does not


@pytest.mark.parametrize(
    "frame, given, added",
    [
        (6, dict(iou=0.9, candidates=FAR), True),
        (5, dict(iou=0.9, candidates=FAR), False),  # 5 frames since the prompt are not more than 5
        (6, dict(iou=0.8, candidates=FAR), False),  # not above 0.8
        (6, dict(iou=0.9, candidates=FAR, logit=-1.0), False),  # not there
        (6, dict(iou=0.9), False),  # no alternative
        (6, dict(iou=0.9, candidates=NEAR), False),
        (6, dict(iou=0.9, candidates=candidates(8, 13)), True),  # 16 / 36, larger by 5
        (6, dict(iou=0.9, candidates=candidates(11, 15), box=(4, 4, 9, 8)), False),  # 20 px: 25 % over the median
        (6, dict(iou=0.9, candidates=candidates(11, 15), box=(4, 4, 8, 7)), False),  # 12 px: 25 % under it
    ],
)
def test_each_condition_of_a_distractor_frame(script, small, frame, given, added):
    run = script(DistractorAware(small))
    run.prompt(0, box=MASK)
    for earlier in range(1, frame):
        run.track(earlier, box=MASK)
    run.track(frame, **{"box": MASK, **given})
    assert run.held("distractors") == ([frame] if added else [])


def test_distractor_frames_are_like_prompted_ones_and_bounded(script, small):
    run = script(DistractorAware(small))
    run.prompt(0, box=MASK)
    for frame in range(1, 31):
        run.track(frame, iou=0.9, candidates=FAR, box=MASK)
    assert run.held("distractors") == [18, 24, 30], "every sixth; the newest three"
    assert run.attended(31) == {0: 6, 18: 6, 24: 6, 30: 0, 29: 1, 28: 2, 27: 3, 26: 4, 25: 5}, (
        "30 is the newest as well"
    )
    run.track(31)
    assert run.attended(32) == {0: 6, 18: 6, 24: 6, 30: 6, 31: 0, 29: 1, 28: 2, 27: 3, 26: 4, 25: 5}
    pointers = {0: 32, **{frame: 32 - frame for frame in range(17, 32)}}
    assert run.pointed(32) == pointers, "18 is among the fifteen newest"
    for frame in range(32, 36):
        run.track(frame)
    assert run.pointed(36)[18] == 18, "and then has the pointer of its own"
    run.prompt(30, box=MASK)
    assert run.held("distractors") == [18, 24]


def test_frames_without_the_object_are_not_remembered_but_for_the_newest(script, small):
    run = script(DistractorAware(small))
    run.prompt(0, box=MASK)
    for frame in range(1, 10):
        run.track(frame, logit=-1.0 if frame in (4, 5, 9) else 5.0)
    assert run.attended(10) == {0: 6, 9: 0, 8: 1, 7: 2, 6: 3, 3: 4, 2: 5}
