"""Pairs within a tolerance: what two drivers stamp apart is paired, the nearest first, each item once, in order."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from sam2s_ros.tracker.stamp_pairs import StampPairs

PERIOD, TOLERANCE = 33, 5


def feed(pairs: StampPairs, *arrivals: tuple[int, int]) -> list[list[tuple[int, int]]]:
    """Add (side, stamp) in this order; the pairs of stamps that came of each."""
    return [pairs.add(side, stamp, stamp) for side, stamp in arrivals]


@pytest.mark.parametrize("away", [0, 1, 4, 5, -1, -5])
def test_p45_stamps_of_two_drivers_are_paired_within_the_tolerance(away):
    """From the third image on a pair is there with the second of its two, whichever comes first."""
    pairs = StampPairs(5, TOLERANCE)
    stamps = [100 + PERIOD * i for i in range(6)]
    found = [feed(pairs, (0, stamp), (1, stamp + away)) for stamp in stamps]
    assert [pair for both in found for pairs_then in both for pair in pairs_then] == [
        (stamp, stamp + away) for stamp in stamps
    ]
    assert found[2:] == [[[], [(stamp, stamp + away)]] for stamp in stamps[2:]] and pairs.unpaired == [0, 0]


def test_what_is_further_apart_is_not_paired_and_it_is_known_how_far():
    pairs = StampPairs(3, TOLERANCE)
    assert not any(feed(pairs, *((side, 100 + PERIOD * i + 6 * side) for i in range(6) for side in (0, 1))))
    assert (pairs.paired, pairs.nearest, pairs.unpaired) == (0, 6, [3, 3])
    pairs.forget_nearest()
    assert pairs.nearest is None


@pytest.mark.parametrize(
    "arrivals, found",
    [
        # the second left is nearer to the right one than the first, which was there before
        ([(0, 100), (1, 104), (0, 105), (1, 137)], [(105, 104)]),
        # no gap is known yet: certain only when the next left has come
        ([(0, 100), (1, 103), (0, 133)], [(100, 103)]),
        # one of two rights is nearer, and comes second
        ([(1, 97), (0, 100), (1, 101), (0, 133)], [(100, 101)]),
        # both of a side fit, and the other has one: the other of the side is in no pair
        ([(0, 100), (0, 102), (1, 102), (1, 135), (0, 135)], [(102, 102), (135, 135)]),
        # the same distance twice: the first
        ([(0, 100), (0, 104), (1, 102), (0, 140)], [(100, 102)]),
    ],
)
def test_p45_the_nearest_are_paired_first_and_each_once(arrivals, found):
    pairs = StampPairs(5, TOLERANCE)
    assert [pair for came in feed(pairs, *arrivals) for pair in came] == found


def test_a_bag_that_loops_is_paired_again():
    pairs = StampPairs(5, TOLERANCE)
    for _ in range(2):
        found = feed(pairs, *((side, 1000 + PERIOD * i + side) for i in range(5) for side in (0, 1)))
        assert [pair for came in found for pair in came][-3:] == [
            (1000 + PERIOD * i, 1001 + PERIOD * i) for i in (2, 3, 4)
        ]


@given(
    st.lists(st.tuples(st.integers(-8, 8), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40),
    st.integers(0, 8),
)
def test_p45_every_pair_is_of_two_nearest_within_the_tolerance(frames, tolerance):
    """Frames of a period of 20: (how much later the right one is, left lost, right lost, right comes first)."""
    pairs, found, sent = StampPairs(50, tolerance), [], ([], [])
    for number, (away, *lost, right_first) in enumerate(frames, start=1):
        for side in (1, 0) if right_first else (0, 1):
            if not lost[side]:
                stamp = 20 * number + (away if side else 0)
                sent[side].append(stamp)
                found += pairs.add(side, stamp, stamp)
    lefts, rights = ([pair[side] for pair in found] for side in (0, 1))
    assert lefts == sorted(set(lefts)) and rights == sorted(set(rights))
    for left, right in found:
        assert abs(left - right) <= tolerance
        assert (
            abs(left - right)
            == min(abs(left - other) for other in sent[1])
            == min(abs(other - right) for other in sent[0])
        )
    waiting = [len(side) for side in pairs._waiting]
    ended = [len(found) + gone + left for gone, left in zip(pairs.unpaired, waiting, strict=True)]
    assert [len(side) for side in sent] == ended
    whole = [
        (20 * n, 20 * n + a)
        for n, (a, left, right, _) in enumerate(frames, start=1)
        if not left and not right and abs(a) <= tolerance
    ]
    later = [frame for frame in frames[-1:] if not any(frame[1:3])]
    assert set(found) <= set(whole) and len(whole) - len(found) <= 1 + len(later), (
        "but for the last, which may wait for the next"
    )
