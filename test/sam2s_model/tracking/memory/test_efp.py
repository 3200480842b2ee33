"""Frame pruning against the published rule, by hand: the most similar to the newest are left out, down to four."""

from __future__ import annotations

import pytest

from sam2s_model.tracking.memory import Fifo, FramePruning

ANGLES = {1: 10, 2: 80, 3: 20, 4: 60, 5: 40, 6: 0}  # of the memories, degrees


@pytest.mark.parametrize(
    "now, attended, why",
    [
        (5, {0: 6, 1: 3, 2: 2, 3: 1, 4: 0}, "five memories with the prompted one: nothing is pruned"),
        # newest 5 at 40 degrees; away from it: 1 by 30, 2 by 40, 3 by 20, 4 by 20.5
        (6, {0: 6, 1: 4, 2: 3, 4: 1, 5: 0}, "one too many: the nearest to the newest, 3, goes"),
        # newest 6 at 0 degrees; away from it: 1 by 10, 2 by 80, 3 by 20, 4 by 60.5, 5 by 40
        (7, {0: 6, 2: 4, 4: 2, 5: 1, 6: 0}, "two too many: the nearest, 1 and 3, go; codes are still ages"),
    ],
)
def test_the_most_similar_go(script, small, now, attended, why):
    run = script(Fifo(small, FramePruning()))
    run.prompt(0)
    for frame in range(1, now):
        run.track(frame, memory=ANGLES[frame] + 0.5 * (frame == 4))
    assert run.attended(now) == attended, why
    assert len(run.pointed(now)) == now, "pointers are not pruned"


def test_each_object_is_decided_for_by_itself(script, small):
    run = script(Fifo(small, FramePruning()), objects=2)
    other = {1: 50, 2: 1, 3: 2, 4: 60, 5: 70, 6: 0}
    run.prompt(0, 0), run.prompt(0, 1)
    for frame in range(1, 7):
        run.track(frame, memory=[ANGLES[frame], other[frame], 0.0][: len(run.bank)])
        if frame == 3:
            run.prompt(3, run.bank.add(3))
    assert sorted(run.attended(7, 0)) == [0, 2, 4, 5, 6]
    assert sorted(run.attended(7, 1)) == [0, 1, 4, 5, 6]
    assert sorted(run.attended(7, 2)) == [3, 4, 5, 6], "an object with few memories keeps them all"


def test_every_prompted_frame_is_protected(script, small):
    run = script(Fifo(small, FramePruning()))
    run.prompt(0)
    for frame in range(1, 9):
        run.track(frame, memory=20.0)
        if frame in (4, 6):
            run.prompt(frame, memory=20.0)
    kept = run.attended(9)
    assert {0, 4, 6, 8} <= set(kept) and [kept[f] for f in (0, 4, 6, 8)] == [6, 6, 6, 0]
    assert len(kept) == 3 + 4, "3, 5, 7 and 8 are four; the window had no more"
