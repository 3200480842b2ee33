"""Play a source of frames on an absolute schedule, in a thread of its own. No ROS import."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sam2s_model.errors import SourceError
from sam2s_model.recordings.recording import Frame, Recording

TICK = 0.01  # s between two calls of `tick`
LONGEST_GAP = 10.0  # s; a longer gap between two stamps of a source is played as one frame interval


class PlayState(str, Enum):
    WAITING = "waiting"  # for `ready`
    PLAYING = "playing"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass
class Counters:
    """emitted: frames handed on. late: how often the source was slower than the schedule by a frame or more.
    passes: times that the source was begun. odd: images and masks left out, all passes.
    """

    emitted: int = 0
    late: int = 0
    passes: int = 0
    odd: int = 0


class Player:
    """Hands the frames of a source to `emit`, each when it is due.

    The next frame is decoded before its time. Due times follow from one another and not from when a frame was
    really emitted, so that errors do not add up. A source that is late by a frame or more does not catch up in a
    burst, as no camera does: the schedule is moved and `late` counts it.

    emit: called with each Frame, from the player's thread
    tick: called about every 10 ms while playing, with the time of the source in ns (last frame .. next frame)
    ready: polled until it returns True; nothing is emitted before
    changed: called after each change of state
    rate: frames per second; 0 plays the source's own times; a change takes effect at once
    max_frames: emitted in all; 0 means no limit
    """

    def __init__(
        self,
        source: Recording,
        emit: Callable[[Frame], None],
        *,
        tick: Callable[[int], None] | None = None,
        ready: Callable[[], bool] = lambda: True,
        changed: Callable[[], None] = lambda: None,
        rate: float = 0.0,
        loop: bool = False,
        paused: bool = False,
        max_frames: int = 0,
    ):
        self.source = source
        self.counters = Counters()
        self.error: Exception | None = None
        self._rate = rate
        self.loop = loop
        self.max_frames = max_frames
        self._emit, self._tick, self._ready, self._changed = emit, tick, ready, changed
        self._paused = paused
        self._ended = PlayState.WAITING
        self._steps_wanted = 0
        self._stop = False
        self._last: Frame | None = None  # without its pixels' life: only index, name and stamp are read
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="player", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float | None = 1.0) -> bool:
        """End the thread. Return whether it has ended in `timeout` s; None: as long as it takes."""
        with self._wake:
            self._stop = True
            self._wake.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def rate(self) -> float:
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        with self._wake:
            self._rate = rate
            self._wake.notify_all()

    @property
    def state(self) -> PlayState:
        if self._ended is not PlayState.PLAYING:
            return self._ended
        return PlayState.PAUSED if self._paused else PlayState.PLAYING

    @property
    def expected(self) -> int | None:
        """Frames that will have been emitted at the end, odd ones counted; None when that is not known."""
        known = None if self.loop else self.source.length
        if not self.max_frames:
            return known
        return self.max_frames if known is None else min(known, self.max_frames)

    @property
    def over(self) -> bool:
        return self._ended in (PlayState.FINISHED, PlayState.FAILED)

    def set_paused(self, paused: bool) -> None:
        with self._wake:
            self._paused = paused
            self._wake.notify_all()
        self._changed()

    def step(self, timeout: float = 5.0) -> Frame:
        """Emit the next frame while paused and return it. Raises SourceError when there is none or it is playing."""
        with self._wake:
            if not self._paused and not self.over:
                raise SourceError("the source is playing: pause it before you step")
            before = self.counters.emitted
            self._steps_wanted += 1
            self._wake.notify_all()
            self._wake.wait_for(lambda: self.counters.emitted > before or self.over, timeout)
            if self.counters.emitted > before and self._last is not None:
                return self._last
            self._steps_wanted = 0
            if self.error is not None:
                raise SourceError(f"the source has failed: {self.error}")
            if self.over:
                raise SourceError(f"the source has ended after {before} frames: start it again or set loop")
            raise SourceError(f"no frame within {timeout:g} s: the player is {self.state.value}")

    def _run(self) -> None:
        try:
            ended = self._play()
        except Exception as error:  # not lost: the owner reports it and exits
            self.error = error
            ended = PlayState.FAILED
        with self._wake:
            self._ended = ended
            self._wake.notify_all()
        self._changed()

    def _play(self) -> PlayState:
        while not self._ready():
            with self._wake:
                if self._wake.wait_for(lambda: self._stop, 0.05):
                    return PlayState.FINISHED
        self._ended = PlayState.PLAYING
        self._changed()
        schedule = _Schedule()
        while True:
            self.counters.passes += 1
            before, odd_before = self.counters.emitted, self.counters.odd
            for frame in self.source:
                self.counters.odd = odd_before + self.source.odd_count
                if not self._wait_until_due(schedule, frame):
                    return PlayState.FINISHED
                self._emit(frame)
                with self._wake:
                    self._last = frame
                    self.counters.emitted += 1
                    self._wake.notify_all()
                if self.counters.emitted == self.max_frames:
                    return PlayState.FINISHED
            self.counters.odd = odd_before + self.source.odd_count
            if self.counters.emitted == before:
                raise SourceError(f"{self.source.spec}: not one frame of it can be read")
            if not self.loop:
                return PlayState.FINISHED

    def _wait_until_due(self, schedule: _Schedule, frame: Frame) -> bool:
        """Wait for the frame's time, a step, or the end; False at the end."""
        own_period = 1.0 / self.source.fps
        with self._wake:
            rate = self._rate
            while not self._stop:
                if self._paused:
                    if self._steps_wanted:
                        self._steps_wanted -= 1
                        schedule.restart(frame)
                        return True
                    schedule.hold()
                    self._wake.wait()
                    continue
                period = 1.0 / self._rate if self._rate > 0 else None
                due = schedule.due(frame, period, own_period)
                now = time.monotonic()
                if now >= due:
                    late = schedule.emit(frame, due, now, period or own_period)
                    if self._rate == rate:  # otherwise it is the new rate that made the frame overdue
                        self.counters.late += late
                    return True
                if self._tick is not None:
                    self._tick(schedule.source_time(frame, due, now))
                self._wake.wait(min(due - now, TICK) if self._tick is not None else due - now)
            return False


class _Schedule:
    """When the next frame is due. Times are of time.monotonic(), in s."""

    def __init__(self):
        self._at: float | None = None  # when the last frame was due; None: the next one is due now
        self._stamp = 0  # ns, of the last frame

    def hold(self) -> None:
        """Pause: after it the next frame is due at once."""
        self._at = None

    def restart(self, frame: Frame) -> None:
        """Note that a frame goes out now, outside the schedule."""
        self._at, self._stamp = None, frame.stamp_ns

    def due(self, frame: Frame, period: float | None, own_period: float) -> float:
        """Return when a frame is due. period: s between frames; None: the stamps' difference, if it is sensible"""
        if self._at is None:
            return time.monotonic()
        if period is None:
            gap = (frame.stamp_ns - self._stamp) * 1e-9
            period = gap if 0 < gap <= LONGEST_GAP else own_period
        return self._at + period

    def emit(self, frame: Frame, due: float, now: float, period: float) -> int:
        """Note that a frame goes out. Return 1 when the schedule had to be moved, otherwise 0."""
        late = now - due > period
        self._at, self._stamp = (now if late else due), frame.stamp_ns
        return int(late)

    def source_time(self, frame: Frame, due: float, now: float) -> int:
        """Return the source's time, ns, between the last frame and this one, which is not due yet."""
        gap = frame.stamp_ns - self._stamp
        if self._at is None or not self._stamp or gap <= 0:
            return self._stamp
        return self._stamp + int(gap * (now - self._at) / (due - self._at))
