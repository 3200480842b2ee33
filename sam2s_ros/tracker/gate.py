"""Which stamps are let in, so that stamps never go backwards on an output."""

from __future__ import annotations

from sam2s_model.errors import StampError


class StampGate:
    """Remembers the newest stamp that was let in. The image callback owns it; another thread may call `restart`.

    epoch: number of jumps back so far. Frames of one epoch have ascending stamps; the tracker starts
    anew when the epoch changes.
    """

    def __init__(self):
        self.newest = 0
        self.epoch = 0
        self._restarts = self._seen = 0  # one is written by each of the two threads

    def restart(self) -> None:
        """Let the next stamp in even if it is not after the newest, as a new epoch: the tracker was reset."""
        self._restarts += 1

    def admit(self, stamp_ns: int, *, on_time_jump: str, time_jump: float) -> int:
        """Let a stamp in and return its epoch.

        stamp_ns: ns, of the image's header
        on_time_jump: "reset" starts a new epoch at a jump back, "refuse" does not let it in
        time_jump: s; going back further than this is a jump (a bag that loops), less is a late image

        Raises StampError for a stamp that is zero, negative, a duplicate, or older than the newest; the last
        two are let in right after `restart`.
        """
        if stamp_ns <= 0:
            raise StampError(f"stamp {seconds(stamp_ns)} is not after zero: set header.stamp to the time of exposure")
        restarts = self._restarts
        if stamp_ns <= self.newest:
            if restarts == self._seen:
                self._check(stamp_ns, on_time_jump, time_jump)
            self.epoch += 1
        self._seen = restarts
        self.newest = stamp_ns
        return self.epoch

    def _check(self, stamp_ns: int, on_time_jump: str, time_jump: float) -> None:
        """Raise StampError unless this is a jump back that begins a new epoch."""
        if stamp_ns == self.newest:
            raise StampError(f"stamp {seconds(stamp_ns)} was received before: expected a later one")
        back = (self.newest - stamp_ns) / 1e9
        jump = back > time_jump
        if on_time_jump == "reset" and jump:
            return
        wanted = "on_time_jump is refuse; call ~/reset to go on with it" if jump else "expected a later one"
        raise StampError(
            f"stamp {seconds(stamp_ns)} is {back:.3f} s older than the newest, {seconds(self.newest)}: {wanted}"
        )


def seconds(stamp_ns: int) -> str:
    """A stamp for a person: seconds with all nine decimals."""
    sign, stamp_ns = ("-" if stamp_ns < 0 else ""), abs(stamp_ns)
    return f"{sign}{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}"
