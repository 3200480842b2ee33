"""Pairs by exact stamp: whatever is lost on either side, pairs are of one stamp, in order; nothing waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sam2s_ros.tracker.stamp_pairs import StampPairs


def feed(pairs: StampPairs, *arrivals: tuple[int, int]) -> list:
    """Add (side, stamp) in this order, with an item that says both; the pairs that came of it."""
    return [pair for side, stamp in arrivals for pair in pairs.add(side, stamp, f"{'LR'[side]}{stamp}")]


def test_either_side_may_come_first():
    assert feed(StampPairs(5), (0, 1), (1, 1), (1, 2), (0, 2)) == [("L1", "R1"), ("L2", "R2")]


def test_what_was_lost_on_the_other_side_is_given_up():
    pairs = StampPairs(5)
    assert feed(pairs, (0, 1), (0, 2), (0, 3), (1, 2), (1, 3)) == [("L2", "R2"), ("L3", "R3")]
    assert (pairs.paired, pairs.unpaired) == (2, [1, 0])
    assert feed(pairs, (1, 1)) == [], "a stamp that was given up does not come back"


def test_a_silent_side_keeps_nothing_waiting_but_the_newest():
    pairs = StampPairs(3)
    assert feed(pairs, *((0, stamp) for stamp in range(1, 101))) == []
    assert pairs.unpaired == [97, 0] and feed(pairs, (1, 98)) == [("L98", "R98")]


def test_a_stream_that_begins_again_is_paired_again():
    pairs = StampPairs(5)
    assert feed(pairs, (0, 90), (1, 90), (0, 91), (0, 5), (1, 5)) == [("L90", "R90"), ("L5", "R5")]
    assert pairs.unpaired == [1, 0]


@given(st.data(), st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_p01_every_stamp_of_both_sides_is_paired_whatever_the_interleaving(data, left, right):
    """With room for all, exactly the stamps that both sides have are paired, in order, and every item ends once."""
    queues, pairs, found = [sorted(left), sorted(right)], StampPairs(30), []
    while any(queues):
        side = data.draw(st.sampled_from([i for i in (0, 1) if queues[i]]))
        found += feed(pairs, (side, queues[side].pop(0)))
    assert found == [(f"L{s}", f"R{s}") for s in sorted(left & right)] and pairs.paired == len(found)
    waiting = [len(side) for side in pairs._waiting]
    assert [len(left), len(right)] == [
        len(found) + gone + left_over for gone, left_over in zip(pairs.unpaired, waiting, strict=True)
    ]


@pytest.mark.parametrize("pending", [1, 2])
def test_little_room_still_pairs_what_comes_together(pending):
    arrivals = [(side, stamp) for stamp in range(1, 20) for side in (0, 1)]
    assert len(feed(StampPairs(pending), *arrivals)) == 19
