"""Stamps never go backwards, unless a jump back is allowed."""

import pytest

from sam2s_model.errors import StampError
from sam2s_ros.tracker.gate import StampGate, seconds

S = 10**9


@pytest.mark.parametrize(
    "stamps, refused, epochs",
    [
        ([1, 2, 3], [], [0, 0, 0]),
        ([0, 5], [0], [0]),
        ([-1, 5], [-1], [0]),
        ([5, 5, 6], [5], [0, 0]),
        ([5 * S, 5 * S - 1, 6 * S], [5 * S - 1], [0, 0]),  # late by 1 ns
        ([5 * S, 4 * S, 6 * S], [4 * S], [0, 0]),  # back by exactly time_jump is late, not a jump
        ([5 * S, 4 * S - 1, 4 * S], [], [0, 1, 1]),  # a jump; what follows ascends from there
        ([9 * S, 1 * S, 9 * S, 1 * S], [], [0, 1, 1, 2]),  # a bag that loops
    ],
)
def test_p02_stamps(stamps, refused, epochs):
    gate, said, seen = StampGate(), [], []
    for stamp in stamps:
        try:
            seen.append(gate.admit(stamp, on_time_jump="reset", time_jump=1.0))
        except StampError as error:
            said.append(stamp)
            assert seconds(stamp) in str(error)
    assert (said, seen) == (refused, epochs)


def test_p02_a_jump_back_is_refused_when_told_so():
    gate = StampGate()
    gate.admit(100 * S, on_time_jump="refuse", time_jump=1.0)
    with pytest.raises(StampError, match=r"1\.000000000 is 99\.000 s older than the newest, 100\.000000000"):
        gate.admit(1 * S, on_time_jump="refuse", time_jump=1.0)
    assert gate.admit(101 * S, on_time_jump="refuse", time_jump=1.0) == 0


@pytest.mark.parametrize("stamp", [1 * S, 99 * S, 100 * S, 101 * S])
@pytest.mark.parametrize("on_time_jump", ["refuse", "reset"])
def test_p02_after_a_restart_one_stamp_is_let_in_whatever_it_is(stamp, on_time_jump):
    gate, policy = StampGate(), dict(on_time_jump=on_time_jump, time_jump=1000.0)
    gate.admit(100 * S, **policy)
    gate.restart()
    with pytest.raises(StampError, match="not after zero"):
        gate.admit(0, **policy)
    epoch = gate.admit(stamp, **policy)
    assert epoch == (1 if stamp <= 100 * S else 0)  # a new one only where stamps do not go on ascending
    with pytest.raises(StampError):
        gate.admit(stamp - 1, **policy)
    assert gate.admit(stamp + 1, **policy) == epoch


def test_p02_a_refused_jump_says_the_way_back():
    gate = StampGate()
    gate.admit(100 * S, on_time_jump="refuse", time_jump=1.0)
    with pytest.raises(StampError, match="on_time_jump is refuse; call ~/reset"):
        gate.admit(1 * S, on_time_jump="refuse", time_jump=1.0)


def test_seconds_shows_every_digit():
    assert (seconds(1), seconds(-1_500_000_000), seconds(12 * S)) == ("0.000000001", "-1.500000000", "12.000000000")
