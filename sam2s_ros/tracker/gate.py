"""Which stamps are let in, so that stamps never go backwards on an output and one that is wrong costs one image."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from sam2s_model.errors import StampError

S = 10**9  # ns
CLOCK_OFF = 1.0  # s that a stamp may differ from the node's clock when it came, to be of that clock
AHEAD = 10.0  # s that an image may be ahead of the time that passed since the one before, in a stream of another clock
CONFIRMED = 3  # images in a row that follow one another elsewhere, until the stream is taken to go on there
CONFIRMED_AWAY = 10  # the same where that leads away from the node's clock, which the stream had kept to
RECENT = 50  # newest images that are judged
MIN_JUDGED = 20  # how many it takes to judge them
MIXED = 0.25  # share of them refused from which two streams are said to be mixed


@dataclass(frozen=True)
class _Place:
    """Where a stream is. stamp: ns, of an image; when it came: now, ns, of the node's clock, and at, s, of `steady`."""

    stamp: int
    now: int
    at: float

    def off(self) -> float:
        """Return the s by which the stamp is ahead of the node's clock; 0 when that has not begun."""
        return (self.stamp - self.now) / S if self.now > 0 else 0.0

    def of_the_clock(self) -> bool:
        return self.now > 0 and abs(self.off()) <= CLOCK_OFF


class StampGate:
    """Remembers the newest stamp that was let in.

    The image callback owns it; another thread may call `restart` and `warning`.

    A stamp fits when it is after the newest by no more than the time that passed since, by any clock, and CLOCK_OFF, or
    AHEAD where the stream is not of the node's clock: a recording may have gaps. One that does not fit is refused,
    until some in a row follow one another there: then it was no stray, and the stream goes on there.

    epoch: number of jumps back so far. Frames of one epoch have ascending stamps; the tracker starts
    anew when the epoch changes.
    """

    def __init__(self):
        self.epoch = 0
        self._newest = _Place(0, 0, 0.0)
        self._gap = 0.0  # s between two images, where a stream with long gaps was confirmed
        self._elsewhere: list[_Place] = []  # refused images in a row that follow one another
        self._recent: deque[bool] = deque(maxlen=RECENT)  # whether each was let in
        self._news = ""
        self._restarts = self._seen = 0  # one is written by each of the two threads

    @property
    def newest(self) -> int:
        """ns; 0 when there is none."""
        return self._newest.stamp

    def restart(self) -> None:
        """Let the next stamp in even if it does not fit, since the tracker was reset.

        One that is not after the newest begins a new epoch.
        """
        self._restarts += 1

    def admit(self, stamp_ns: int, *, now: int, at: float, on_time_jump: str, time_jump: float) -> int:
        """Let a stamp in and return its epoch.

        stamp_ns: ns, of the image's header; now: ns, of the node's clock, 0 while it has not begun; at: s, of `steady`
        on_time_jump: "reset" starts a new epoch where the stream goes on earlier, "refuse" does not let it in
        time_jump: s; going back further than this is a jump, less is a late image

        Raises StampError for a stamp that is zero, negative, a duplicate, older than the newest, or too far ahead; the
        last three are let in right after `restart`.
        """
        if stamp_ns <= 0:
            raise StampError(f"stamp {seconds(stamp_ns)} is not after zero: set header.stamp to the time of exposure")
        place, restarts = _Place(stamp_ns, now, at), self._restarts
        try:
            if restarts == self._seen and not self._fits(place):
                self._follow(place, on_time_jump, time_jump)
        except StampError:
            self._recent.append(False)
            raise
        self._recent.append(True)
        if stamp_ns <= self.newest:
            self.epoch += 1
        self._seen, self._newest, self._elsewhere = restarts, place, []
        return self.epoch

    def news(self) -> str:
        """Return a sentence when the last stamp that was let in is far ahead of the one before; otherwise ""."""
        news, self._news = self._news, ""
        return news

    def warning(self) -> str:
        """Return what a person should know about the stamps of the stream, or ""."""
        recent = list(self._recent)
        refused = recent.count(False)
        if len(recent) >= MIN_JUDGED and MIXED * len(recent) <= refused < len(recent):
            return (
                f"{refused} of the last {len(recent)} images had a stamp that does not follow the one before: "
                "are there two cameras on one topic, or is each image sent twice?"
            )
        off = self._newest.off()
        if not self.newest or abs(off) <= CLOCK_OFF:
            return ""
        where = f"{abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} the node's clock"
        why = "is it a recording, or are they times since boot?" if off < -1e6 else "synchronise the clocks"
        return f"stamps are {where} when images come: {why}"

    def _fits(self, place: _Place) -> bool:
        newest = self._newest
        if not newest.stamp:
            return place.off() <= CLOCK_OFF  # of the future is none; of the past may be a recording
        ahead = (place.stamp - newest.stamp) / S
        passed = max(0.0, place.at - newest.at, (place.now - newest.now) / S)
        return 0 < ahead <= max(CLOCK_OFF if newest.of_the_clock() else AHEAD, 2 * self._gap) + passed

    def _follow(self, place: _Place, on_time_jump: str, time_jump: float) -> None:
        """Raise StampError unless the stream goes on here, which is not where it was."""
        newest = self._newest
        if self._elsewhere and place.stamp <= self._elsewhere[-1].stamp:
            self._elsewhere = []
        self._elsewhere.append(place)
        run = self._elsewhere
        needed = CONFIRMED
        back = (newest.stamp - place.stamp) / S
        if newest.stamp and place.of_the_clock():
            went_back = newest.stamp - place.now > CLOCK_OFF * S  # the clock did, and the stream with it
            jumped = back < 0 or back > time_jump  # a late image of a camera that is a little ahead has not
            needed = 1 if jumped and (went_back or not newest.of_the_clock()) else CONFIRMED
        elif newest.of_the_clock():
            needed = CONFIRMED_AWAY
        told = f"stamp {seconds(place.stamp)}"
        then = f"it goes on there when {needed} in a row do, this is the {_ordinal(len(run))}"
        if not newest.stamp:
            if len(run) < needed:
                raise StampError(f"{told} is {place.off():.3f} s ahead of the node's clock: {then}")
        elif back >= 0:
            if on_time_jump == "refuse" and (back > time_jump or len(run) >= needed):
                then = "on_time_jump is refuse; call ~/reset to go on with it"
            elif back <= time_jump:
                then = "expected a later one"
            if back == 0:
                raise StampError(f"{told} was received before: expected a later one")
            if on_time_jump == "refuse" or len(run) < needed:
                raise StampError(f"{told} is {back:.3f} s older than the newest, {seconds(newest.stamp)}: {then}")
        else:
            if len(run) < needed:
                raise StampError(f"{told} is {-back:.3f} s ahead of the newest, {seconds(newest.stamp)}: {then}")
            self._news = f"stamps jumped ahead by {-back:.3f} s to {seconds(place.stamp)}: objects are kept"
        gaps = [(later.stamp - earlier.stamp) / S for earlier, later in pairwise(run)]
        self._gap = min(gaps, default=self._gap)


def _ordinal(number: int) -> str:
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number, 'th') }"


def seconds(stamp_ns: int) -> str:
    """Format a stamp for a person: seconds with all nine decimals."""
    sign, stamp_ns = ("-" if stamp_ns < 0 else ""), abs(stamp_ns)
    return f"{sign}{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}"
