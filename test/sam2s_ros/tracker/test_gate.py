"""Stamps never go backwards unless the stream does; one that is wrong, in either direction, costs one image."""

from __future__ import annotations

import pytest

from sam2s_model.errors import StampError
from sam2s_ros.tracker.gate import CONFIRMED, CONFIRMED_AWAY, MIN_JUDGED, StampGate, seconds

S = 10**9
STEP = 40_000_000  # ns between two images
WALL = 1_800_000_000 * S  # the node's clock when a test begins
DAYS = 48 * 3600 * S


class Stream:
    """Puts stamps through a gate, one image each 40 ms of the node's clock and of steady time."""

    def __init__(self, clock: int = WALL, **policy):
        self.gate, self.clock, self.at = StampGate(), clock, 100.0
        self.policy = dict(on_time_jump="reset", time_jump=1.0) | policy
        self.refused: list[int] = []
        self.said: list[str] = []

    def send(self, *stamps: int) -> list[bool]:
        """Whether each was let in."""
        return [self._send(stamp) for stamp in stamps]

    def live(self, count: int, offset: int = 0) -> list[bool]:
        """Images of a camera whose clock is ahead of the node's by `offset` ns."""
        return [self._send(self.clock + offset) for _ in range(count)]

    def _send(self, stamp: int) -> bool:
        try:
            self.gate.admit(stamp, now=self.clock, at=self.at, **self.policy)
        except StampError as error:
            assert seconds(stamp) in str(error)
            self.refused.append(stamp)
            self.said.append(str(error))
            return False
        finally:
            self.clock, self.at = self.clock + STEP, self.at + 0.04
        return True


def no_clock(**policy) -> Stream:
    """As with simulated time that has not begun: there are only the stamps to go by."""
    return Stream(clock=-(10**15), **policy)


@pytest.mark.parametrize(
    "stamps, refused, epoch",
    [
        ([1, 2, 3], [], 0),
        ([0, 5], [0], 0),
        ([-1, 5], [-1], 0),
        ([5, 5, 6], [5], 0),
        ([5 * S, 5 * S - 1, 6 * S], [5 * S - 1], 0),  # late by 1 ns
        ([5 * S, 4 * S, 6 * S], [4 * S], 0),  # late by time_jump
        ([9 * S, 1 * S, 10 * S], [1 * S], 0),  # a stray back costs itself
        ([9 * S, 99 * S, 10 * S], [99 * S], 0),  # one ahead, too
        ([9 * S, 12 * S, 20 * S], [], 0),  # gaps in a recording
        ([9 * S, 99 * S, 98 * S, 10 * S], [99 * S, 98 * S], 0),  # and two that do not follow each other
        ([9 * S, 1 * S, 2 * S, 3 * S, 4 * S], [1 * S, 2 * S], 1),  # a bag that loops
        ([9 * S, 99 * S, 100 * S, 101 * S, 102 * S], [99 * S, 100 * S], 0),  # a bag with a gap
        ([9 * S, 1 * S, 10 * S, 2 * S, 11 * S, 3 * S], [1 * S, 2 * S, 3 * S], 0),  # two cameras
    ],
)
def test_p02_stamps(stamps, refused, epoch):
    stream = no_clock()
    stream.send(*stamps)
    assert (stream.refused, stream.gate.epoch) == (refused, epoch)


@pytest.mark.parametrize("policy", ["reset", "refuse"])
@pytest.mark.parametrize("offset", [DAYS, 2 * S, -2 * S, -DAYS])
@pytest.mark.parametrize("strays", [1, 2, CONFIRMED_AWAY - 1])
def test_p39_strays_cost_themselves_alone(policy, offset, strays):
    """Of a stream that keeps to the node's clock, whatever is done at jumps."""
    stream = Stream(on_time_jump=policy)
    assert all(stream.live(10))
    assert not any(stream.live(strays, offset))
    assert all(stream.live(30)) and stream.gate.epoch == 0


@pytest.mark.parametrize("policy", ["reset", "refuse"])
def test_p39_a_first_stamp_that_is_of_the_future_is_refused(policy):
    stream = Stream(on_time_jump=policy)
    assert stream.live(1, DAYS) == [False]
    assert "172800.000 s ahead of the node's clock" in stream.said[0]
    assert all(stream.live(5)) and stream.gate.epoch == 0


@pytest.mark.parametrize("offset", [-DAYS, DAYS])
def test_p39_where_the_stream_goes_on_elsewhere_it_is_followed(offset):
    stream = Stream()
    stream.live(5)
    let_in = stream.live(20, offset)
    assert let_in == [False] * (CONFIRMED_AWAY - 1) + [True] * (21 - CONFIRMED_AWAY)
    assert stream.gate.epoch == (1 if offset < 0 else 0)
    assert bool(stream.gate.news()) == (offset > 0) and stream.gate.news() == ""
    assert all(stream.live(5)) and stream.gate.epoch == 1, "and at once where it is of the node's clock again"


def test_p39_a_camera_whose_clock_is_ahead_is_followed_and_named():
    stream = Stream()
    assert stream.live(30, 3600 * S) == [False] * (CONFIRMED - 1) + [True] * (31 - CONFIRMED)
    assert (
        "stamps are 3600.0 s ahead of the node's clock when images come: synchronise the clocks"
        in stream.gate.warning()
    )


@pytest.mark.parametrize("ahead", [S // 2, S + 5_000_000, S + 30_000_000, 2 * S, -S - 30_000_000])
@pytest.mark.parametrize("late", [0, STEP + STEP // 2])
def test_p02_p39_a_duplicate_or_late_image_is_refused_however_far_the_camera_is_off_the_clock(ahead, late):
    """Also about CLOCK_OFF, where a stamp is of the node's clock and the one before is not."""
    stream = Stream()
    stream.live(CONFIRMED, ahead)
    for _ in range(20):
        assert all(stream.live(3, ahead))
        assert stream.send(stream.gate.newest - late) == [False]
        assert "was received before" in stream.said[-1] or "older than the newest" in stream.said[-1]
    assert stream.gate.epoch == 0


def test_p02_a_duplicate_is_refused_also_as_the_last_of_several_late_images():
    stream = no_clock()
    assert all(stream.send(*range(S, 2 * S + 1, STEP)))
    assert stream.send(2 * S - 2 * STEP, 2 * S - STEP, 2 * S, 2 * S + STEP) == [False, False, False, True]
    assert stream.gate.epoch == 0


def test_p39_stamps_of_another_clock_are_named():
    boot = Stream()
    assert all(boot.live(5, 300 * S - WALL))
    assert (
        "s behind the node's clock when images come: is it a recording, or are they times since boot?"
        in boot.gate.warning()
    )
    good = Stream()
    good.live(60, -S // 2)
    assert good.gate.warning() == "" and no_clock().gate.warning() == ""


@pytest.mark.parametrize("clip", [0.4, 0.8, 4.0])
def test_p39_a_clip_that_loops_is_followed_however_short(clip):
    stream, first = Stream(), 10 * S
    one_pass = [first + i * STEP for i in range(int(clip * S) // STEP)]
    for number in range(4):
        let_in = stream.send(*one_pass)
        assert sum(let_in) == len(one_pass) - (CONFIRMED - 1) * (number > 0)
        assert stream.gate.epoch == number
    assert any("when 3 in a row do" in said or "expected a later one" in said for said in stream.said)


@pytest.mark.parametrize("offset", [-S // 10, -3600 * S, 3600 * S])
def test_p39_two_cameras_on_one_topic_are_named(offset):
    stream = Stream()
    for _ in range(MIN_JUDGED):
        assert stream.live(1) == [True]
        assert stream.live(1, offset) == [False]
    assert stream.gate.warning().endswith("are there two cameras on one topic, or is each image sent twice?")
    assert stream.gate.epoch == 0
    stream.live(60)
    assert stream.gate.warning() == ""


def test_p39_images_far_apart_that_are_played_fast_are_let_in():
    stream = Stream()
    let_in = stream.send(*(5 * S + i * 30 * S for i in range(40)))
    assert sum(let_in) == 40 - (CONFIRMED - 1) and not any(let_in[1:CONFIRMED])


def test_p39_a_pause_of_the_camera_or_a_step_of_the_clock_is_no_jump():
    paused = Stream()
    paused.live(5)
    paused.clock, paused.at = paused.clock + 60 * S, paused.at + 60
    assert all(paused.live(5))
    stepped = Stream()  # both clocks of one machine, by NTP
    stepped.live(5)
    stepped.clock += 10 * S
    assert all(stepped.live(5)) and stepped.gate.epoch == 0
    looped = Stream(clock=1000 * S)  # simulated time that goes back with the stamps
    looped.live(5)
    looped.clock = 10 * S
    assert all(looped.live(5)) and looped.gate.epoch == 1


def test_p02_a_jump_back_is_refused_when_told_so():
    stream = no_clock(on_time_jump="refuse")
    assert stream.send(100 * S, 1 * S, 2 * S, 3 * S, 4 * S, 101 * S) == [True, False, False, False, False, True]
    assert "1.000000000 is 99.000 s older than the newest, 100.000000000" in stream.said[0]
    assert all("on_time_jump is refuse; call ~/reset" in said for said in stream.said)


@pytest.mark.parametrize("stamp", [1 * S, 99 * S, 100 * S, 101 * S])
@pytest.mark.parametrize("on_time_jump", ["refuse", "reset"])
def test_p02_after_a_restart_one_stamp_is_let_in_whatever_it_is(stamp, on_time_jump):
    stream = no_clock(on_time_jump=on_time_jump, time_jump=1000.0)
    assert stream.send(100 * S) == [True]
    stream.gate.restart()
    assert stream.send(0, stamp, stamp - 1, stamp + 1) == [False, True, False, True]
    assert "not after zero" in stream.said[0]
    assert stream.gate.epoch == (1 if stamp <= 100 * S else 0)  # a new one only where stamps do not go on ascending


def test_seconds_shows_every_digit():
    assert (seconds(1), seconds(-1_500_000_000), seconds(12 * S)) == ("0.000000001", "-1.500000000", "12.000000000")
