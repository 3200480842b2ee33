"""The schedule of the replay, without ROS: order, timing, pause, step, loop, a slow source, a broken one."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from sam2s_model.errors import SourceError
from sam2s_model.recordings.recording import Frame, Recording
from sam2s_ros.replay.player import Player, PlayState


class Numbers(Recording):
    """A source whose frames are numbers. gaps: s between stamps; slow: s that each frame takes to decode."""

    kind = "folder"

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
            time.sleep(self._slow.get(i, 0.0))
            yield Frame(i, stamp, str(i), np.zeros((2, 2, 3), np.uint8), None)
            stamp += round(self._gaps[i] * 1e9)


class Log:
    """What a player emitted, and when; late: how often the schedule had been moved before."""

    def __init__(self, source, **options):
        self.indices, self.times, self.late, self.ticks = [], [], [], []
        self.player = Player(source, self._emit, **options)
        self.player.start()

    def _emit(self, frame):
        self.indices.append(frame.index)
        self.times.append(time.monotonic())
        self.late.append(self.player.counters.late)

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


def test_errors_do_not_add_up(play):
    log = play(Numbers(50), rate=100.0)
    log.until_over()
    assert log.indices == list(range(50)) and log.player.state is PlayState.FINISHED
    offsets = np.array(log.times) - log.times[0] - np.arange(50) / 100
    moved = np.maximum(np.searchsorted(log.late, log.late) - 1, 0)  # the frame at which a busy machine last was late
    assert np.median(np.abs(offsets - offsets[moved])) < 0.005, offsets
    assert log.player.counters.late < 10


def test_decoding_time_is_part_of_the_interval(play):
    log = play(Numbers(20, slow={i: 0.008 for i in range(20)}), rate=50.0)
    log.until_over()
    assert log.times[-1] - log.times[0] == pytest.approx(19 / 50, rel=0.1)


def test_own_times_are_played(play):
    log = play(Numbers(4, gaps=[0.05, 0.2, 0.1, 0.1]))
    log.until_over()
    assert np.diff(log.times) == pytest.approx([0.05, 0.2, 0.1], abs=0.02)


@pytest.mark.parametrize("gap", [-3.0, 0.0, 1000.0])
def test_a_gap_that_makes_no_sense_is_one_interval(play, gap):
    log = play(Numbers(3, gaps=[gap, 0.02, 0.02]))
    log.until_over()
    assert log.times[1] - log.times[0] == pytest.approx(0.02, abs=0.015)


def test_a_late_source_moves_the_schedule_and_does_not_burst(play):
    log = play(Numbers(10, slow={4: 0.3}), rate=50.0)
    log.until_over()
    intervals = np.diff(log.times)
    assert intervals[3] > 0.25 and log.player.counters.late == 1
    assert min(intervals[4:]) > 0.01, intervals


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


def test_ticks_lie_between_the_frames(play):
    ticks = []
    log = play(Numbers(4, gaps=[0.5] * 4), rate=10.0, tick=ticks.append)
    log.until_over()
    assert ticks == sorted(ticks) and len(ticks) > 15
    assert ticks[0] >= 10**9 and ticks[-1] <= 10**9 + 3 * 500_000_000
    assert max(np.diff(ticks)) < 200_000_000  # the source's time passes five times as fast as ours


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
    assert log.player.stop() and time.monotonic() - began < 2
