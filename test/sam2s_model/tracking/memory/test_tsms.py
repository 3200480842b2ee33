"""Split-half pruning, worked by hand: the older half against the first memory, the newer half against the last."""

from __future__ import annotations

import pytest
import torch

from sam2s_model.tracking.memory import Fifo, SplitHalfPruning

ANGLES = {0: 0, 1: 50, 2: 10, 3: 70, 4: 20, 5: 60, 6: 90}


@pytest.mark.parametrize(
    "now, attended, why",
    [
        (5, {0: 6, 1: 3, 2: 2, 3: 1, 4: 0}, "5 + 2 is not more than 7"),
        # M = 0..5, split at 3. 1, 2 against 0: 2 is nearer. 3, 4 against 5: 10 and 40 degrees, 3 is nearer.
        (6, {0: 6, 1: 4, 4: 1, 5: 0}, "one of each half"),
        # M = 0..6, split at 3. 1, 2 against 0: 2 is nearer. 3, 4, 5 against 6: 20, 70, 30 degrees, 3 is nearest.
        (7, {0: 6, 1: 5, 4: 2, 5: 1, 6: 0}, "3 goes; the published index would take 2 instead"),
    ],
)
def test_one_of_each_half_goes(script, small, now, attended, why):
    run = script(Fifo(small, SplitHalfPruning()))
    run.prompt(0, memory=ANGLES[0])
    for frame in range(1, now):
        run.track(frame, memory=ANGLES[frame])
    assert run.attended(now) == attended, why


def test_objects_of_different_ages(script, small):
    """One object has six memories in its window, one five, one two."""
    run = script(Fifo(small, SplitHalfPruning()))
    run.prompt(0, memory=0)
    for frame in range(1, 7):
        run.track(frame, memory=[ANGLES[frame]] * len(run.bank))
        if frame in (1, 4):
            run.prompt(frame, run.bank.add(frame), memory=0)
    assert sorted(run.attended(7, 0)) == [0, 1, 4, 5, 6]
    # M = 1, 2 .. 6, split at 3: 2, 3 against 1 (0 degrees): 2; 4, 5 against 6 (90 degrees): 5
    assert sorted(run.attended(7, 1)) == [1, 3, 4, 6]
    assert sorted(run.attended(7, 2)) == [4, 5, 6]


def test_an_object_without_a_window_beside_one_with_a_full_window(script, small, monkeypatch):
    """Places are counted from the front: torch takes negative ones in some versions alone."""

    def from_the_front(self, indices, dim):
        assert int(indices.min()) >= 0, f"place {int(indices.min())}"
        return torch.take_along_dim(self, indices, dim=dim)

    monkeypatch.setattr(torch.Tensor, "take_along_dim", from_the_front)
    run = script(Fifo(small, SplitHalfPruning()))
    run.prompt(0, memory=ANGLES[0])
    for frame in range(1, 7):
        run.track(frame, memory=ANGLES[frame])
    run.prompt(6, run.bank.add(2))
    assert run.attended(7, 0) == {0: 6, 1: 5, 4: 2, 5: 1, 6: 0} and run.attended(7, 1) == {6: 6}
