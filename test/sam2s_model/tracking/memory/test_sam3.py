"""SAM 3's memory selection, worked by hand."""

from __future__ import annotations

import math

import pytest

from sam2s_model.tracking.memory import Sam3Selection

SEEN, FAINT, GONE = dict(iou=0.9), dict(iou=0.9, logit=0.01), dict(logit=-3.0)


@pytest.mark.parametrize(
    "frames, seen, attended",
    [
        ([SEEN] * 3, [1, 2, 3], {0: 6, 3: 0, 2: 1, 1: 2}),
        ([SEEN, FAINT, GONE, SEEN], [1, 4], {0: 6, 4: 0, 1: 1}),
        ([SEEN, SEEN, GONE, GONE], [1, 2], {0: 6, 4: 0, 2: 1, 1: 2}),  # the frame before is always there
        ([SEEN] * 9 + [GONE] * 30, [4, 5, 6, 7, 8, 9], {0: 6, 39: 0, 9: 1, 8: 2, 7: 3, 6: 4, 5: 5}),
    ],
    ids=["all", "0.005 x 0.9 is not above 0.01", "the newest does not count", "six at most, however old"],
)
def test_only_frames_in_which_the_object_was_seen_well_are_attended_to(script, small, frames, seen, attended):
    run = script(Sam3Selection(small))
    run.prompt(0)
    for frame, scores in enumerate(frames, start=1):
        run.track(frame, **scores)
    assert run.held("seen") == seen and run.attended(len(frames) + 1) == attended


@pytest.mark.parametrize("iou", [0.09, 0.12])
def test_the_limit(script, small, iou):
    """2 sigmoid(logit) - 1 = 0.1, so that the limit is an IoU of 0.1."""
    run = script(Sam3Selection(small))
    run.prompt(0)
    run.track(1, iou=iou, logit=math.log(0.55 / 0.45))
    assert run.held("seen") == ([1] if iou > 0.1 else [])


def test_pointers_are_of_those_frames_and_coded_by_their_order(script, small):
    run = script(Sam3Selection(small))
    run.prompt(0)
    for frame in range(1, 31):
        run.track(frame, **(SEEN if frame % 3 else GONE))
    # the prompted one by its age; 30 is the frame before, and was not seen; 15 frames back begins 16
    seen = [30, 29, 28, 26, 25, 23, 22, 20, 19, 17, 16]
    assert run.pointed(31) == {0: 31, **{frame: order for order, frame in enumerate(seen, start=1)}}
    for frame in range(31, 51):
        run.track(frame, **GONE)
    assert run.pointed(51) == {0: 51, 50: 1, 29: 2, 28: 3, 26: 4, 25: 5, 23: 6}, "and of the kept memories"


def test_a_frame_that_is_done_again_counts_once(script, small):
    run = script(Sam3Selection(small))
    run.prompt(0)
    for frame in range(1, 6):
        run.track(frame)
    run.prompt(3)
    for frame in (4, 5):
        run.track(frame, **GONE)
    assert run.held("seen") == [1, 2] and run.attended(6) == {0: 6, 3: 6, 5: 0, 2: 1, 1: 2}
    assert run.pointed(6) == {0: 6, 3: 3, 5: 1, 2: 2, 1: 3}


def test_each_object_by_itself(script, small):
    run = script(Sam3Selection(small), 2)
    run.prompt(0, 0)
    run.prompt(0, 1)
    for frame in range(1, 5):
        run.track(frame, logit=[5.0, -3.0 if frame < 4 else 5.0])
    assert run.attended(5, 0) == {0: 6, 4: 0, 3: 1, 2: 2, 1: 3} and run.attended(5, 1) == {0: 6, 4: 0}
