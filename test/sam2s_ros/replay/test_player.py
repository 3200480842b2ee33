"""The schedule of the replay, without ROS: order, timing, pause, step, loop, a slow source, a broken one.

What is timed is timed by a clock that only waiting and decoding move, so that no other work on the machine counts.
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from sam2s_model.errors import SourceError
from sam2s_model.recordings.recording import Frame, Recording
from sam2s_ros.replay import player as player_module
from sam2s_ros.replay.player import Player, PlayState


class Numbers(Recording):
    """A source whose frames are numbers. gaps: s between stamps; slow: s that each frame takes to decode."""

    kind = "folder"
    decode = staticmethod(time.sleep)

    def __init__(self, count: int, *, gaps=None, slow=None, fails_at: int | None = None):
        super().__init__("numbers")
        self.fps, self._size, self.length = 50.0, (2, 2), count
        self._gaps = gaps or [0.02] * count
        self._slow = slow or {}
        self._fails_at = fails_at

    def _frames(self):
        stamp = 10**9
        for i in range(self.length):
            if i == self._fails_at:
                raise SourceError("the disk is gone")
            self.decode(self._slow.get(i, 0.0))
            yield Frame(i, stamp, str(i), np.zeros((2, 2, 3), np.uint8), None)
            stamp += round(self._gaps[i] * 1e9)


class Clock:
    """A clock that waiting moves, by what was asked for and as much more as `oversleep` says, s."""

    def __init__(self):
        self.now, self.oversleep = 100.0, lambda: 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def condition(self) -> threading.Condition:
        clock = self

        class Condition(threading.Condition):
            def wait(self, timeout=None):
                if timeout is None:
                    return super().wait()
                clock.now += timeout + clock.oversleep()
                return False

        return Condition()


class Log:
    """What a player emitted, and when by its clock."""

    def __init__(self, source, **options):
        self.indices, self.times = [], []
        self.player = Player(source, self._emit, **options)
        self.player.start()

    def _emit(self, frame):
        self.indices.append(frame.index)
        self.times.append(player_module.time.monotonic())

    def until(self, condition, timeout=5.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, (self.player.state, self.indices)
            time.sleep(0.002)

    def until_over(self, timeout=5.0):
        self.until(lambda: self.player.over, timeout)


@pytest.fixture
def play():
    logs = []

    def begin(source, **options) -> Log:
        logs.append(Log(source, **options))
        return logs[-1]

    yield begin
    for log in logs:
        assert log.player.stop()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The clock of all players of a test."""
    clock = Clock()
    monkeypatch.setattr(player_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(player_module, "threading", SimpleNamespace(Condition=clock.condition, Thread=threading.Thread))
    monkeypatch.setattr(Numbers, "decode", staticmethod(clock.sleep))
    return clock


def test_errors_do_not_add_up(play, clock):
    rng = np.random.default_rng(0)
    clock.oversleep = lambda: rng.uniform(0, 0.008)
    log = play(Numbers(50), rate=100.0)
    log.until_over()
    assert log.indices == list(range(50)) and log.player.state is PlayState.FINISHED
    late = np.array(log.times) - log.times[0] - np.arange(50) / 100
    assert late.min() > -1e-9 and 0.004 < late.max() < 0.008
    assert log.player.counters.late == 0


def test_decoding_time_is_part_of_the_interval(play, clock):
    log = play(Numbers(20, slow={i: 0.008 for i in range(20)}), rate=50.0)
    log.until_over()
    assert np.diff(log.times) == pytest.approx([1 / 50] * 19)


def test_own_times_are_played(play, clock):
    log = play(Numbers(4, gaps=[0.05, 0.2, 0.1, 0.1]))
    log.until_over()
    assert np.diff(log.times) == pytest.approx([0.05, 0.2, 0.1])


@pytest.mark.parametrize("gap", [-3.0, 0.0, 1000.0])
def test_a_gap_that_makes_no_sense_is_one_interval(play, clock, gap):
    log = play(Numbers(3, gaps=[gap, 0.02, 0.02]))
    log.until_over()
    assert np.diff(log.times) == pytest.approx([0.02, 0.02])


def test_a_late_source_moves_the_schedule_and_does_not_burst(play, clock):
    log = play(Numbers(10, slow={4: 0.3}), rate=50.0)
    log.until_over()
    assert np.diff(log.times) == pytest.approx([0.02] * 3 + [0.3] + [0.02] * 5) and log.player.counters.late == 1


def test_pause_and_step(play):
    log = play(Numbers(20), rate=200.0, paused=True)
    time.sleep(0.05)
    assert log.indices == [] and log.player.state is PlayState.PAUSED
    assert [log.player.step().index for _ in range(3)] == [0, 1, 2]
    log.player.set_paused(False)
    log.until_over()
    assert log.indices == list(range(20))
    with pytest.raises(SourceError, match="ended after 20 frames"):
        log.player.step()


def test_step_while_playing_is_refused(play):
    log = play(Numbers(1000), rate=10.0)
    log.until(lambda: log.indices)
    with pytest.raises(SourceError, match="pause it before you step"):
        log.player.step()


def test_loop_and_limit(play):
    log = play(Numbers(3), rate=500.0, loop=True, max_frames=8)
    log.until_over()
    assert log.indices == [0, 1, 2, 0, 1, 2, 0, 1] and log.player.counters.passes == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(), 3),
        (dict(max_frames=2), 2),
        (dict(max_frames=9), 3),
        (dict(loop=True), None),
        (dict(loop=True, max_frames=9), 9),
    ],
)
def test_expected_frames(options, expected):
    assert Player(Numbers(3), print, **options).expected == expected


def test_rate_changes_at_once(play):
    log = play(Numbers(1000), rate=0.01)
    log.until(lambda: log.indices)
    time.sleep(0.1)
    log.player.rate = 100.0
    log.until(lambda: len(log.indices) > 1, 1.0)
    assert log.player.counters.late == 0  # overdue by the new rate, not by a slow source
    log.until(lambda: len(log.indices) > 20, 3.0)


def test_waits_until_it_is_ready(play):
    ready = threading.Event()
    log = play(Numbers(5), rate=500.0, ready=ready.is_set)
    time.sleep(0.15)
    assert log.indices == [] and log.player.state is PlayState.WAITING
    ready.set()
    log.until_over()
    assert log.indices == list(range(5))


def test_ticks_lie_between_the_frames(play, clock):
    ticks = []
    log = play(Numbers(4, gaps=[0.5] * 4), rate=10.0, tick=ticks.append)
    log.until_over()
    assert ticks == sorted(ticks) and len(ticks) > 15
    assert ticks[0] >= 10**9 and ticks[-1] <= 10**9 + 3 * 500_000_000
    assert max(np.diff(ticks)) == pytest.approx(50_000_000, rel=0.01)  # the source's time passes five times as fast


def test_a_source_that_fails_is_told(play):
    log = play(Numbers(9, fails_at=4), rate=500.0)
    log.until_over()
    assert log.player.state is PlayState.FAILED and str(log.player.error) == "the disk is gone"
    assert log.indices == [0, 1, 2, 3]
    with pytest.raises(SourceError, match="the disk is gone"):
        log.player.step()


def test_a_source_without_a_readable_frame_fails_also_when_it_loops(play):
    log = play(Numbers(0), loop=True)
    log.until_over()
    assert log.player.state is PlayState.FAILED and "not one frame" in str(log.player.error)


@pytest.mark.parametrize("paused", [True, False])
def test_stop_ends_the_thread_while_it_waits(paused):
    log = Log(Numbers(1000), rate=0.1, paused=paused)
    time.sleep(0.05)
    began = time.monotonic()
    assert log.player.stop() and time.monotonic() - began < 5  # of 10 s from one frame to the next
