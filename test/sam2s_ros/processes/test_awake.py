"""Steady clocks: what a stop of the process, or a sleep of the machine, adds to them."""

from __future__ import annotations

import time

import pytest

from sam2s_ros.processes.awake import LONGEST, STANDS, AwakeClock, ClockWatch, steady


def test_p37_a_clock_that_stands_while_the_process_does():
    now = [100.0]
    clock = AwakeClock(lambda: now[0])
    for _ in range(20):
        now[0] += 0.1
        clock()
    assert clock() == pytest.approx(2.0)
    now[0] += 3600.0  # stopped
    assert clock() == pytest.approx(2.0 + LONGEST)
    now[0] += 0.1
    assert clock() == pytest.approx(2.1 + LONGEST)


def test_ages_go_on_while_the_machine_sleeps():
    before, slept = steady(), time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    time.sleep(0.05)
    assert 0.05 <= steady() - before < 5.0
    assert steady() == pytest.approx(time.monotonic() + slept, abs=5.0)


def test_p38_a_clock_that_stands_is_named():
    watch, S = ClockWatch(), 10**9
    assert watch.look(0, True, 50.0) == "" and watch.look(0, True, 50.0 + STANDS) == ""
    assert "nothing is on /clock: set it to false" in watch.look(0, True, 51.0 + STANDS)
    assert watch.look(7 * S, True, 60.0) == "", "it moves"
    assert "stood at 7.000 s for 9 s: is /clock paused" in watch.look(7 * S, True, 69.0)
    assert watch.look(3 * S, True, 70.0) == "", "back is a move, too"
    assert watch.look(3 * S, False, 99.0) == "", "the system's clock is not watched"
    assert watch.look(3 * S, True, 100.0) == ""
