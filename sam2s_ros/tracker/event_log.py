"""What the tracker node says in its log of its own accord: states, drops, prompts. Never once an image."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

from sam2s_model.errors import RequestError
from sam2s_ros.interfaces.status_text import DROP_CAUSES, FINE, dropped, state_name
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.processes.log import Logger
from sam2s_ros.tracker.contract import PromptAnswer
from sam2s_ros.tracker.gate import seconds

PERIOD = 60.0  # s
NOT_CONFIGURED = "not configured"  # and no more: nothing went wrong so far
STATES_A_PERIOD = 6  # lines about states in a PERIOD; those that are held back are counted
REQUESTS_A_PERIOD = 30  # the same about answers, and about refusals: a detector may ask for every image


class EventLog:
    """Turns what happens to a tracker into lines of a log. Any thread may call.

    log: told each line; it should leave none out
    clock: s, monotonic
    """

    def __init__(self, log: Logger, clock: Callable[[], float] = time.monotonic):
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._lines: dict[str, deque[float]] = defaultdict(deque)  # when lines were said, by what they are about
        self._held: dict[str, int] = defaultdict(int)
        self._state, self._seen = -1, -1  # the last one that was said, and the last one
        self._changes = 0  # of the state since one was said
        self._drops: dict[str, int] = {}  # of each cause, when they were last said
        self._drops_at: dict[str, float] = {}

    def status(self, status: TrackerStatus) -> None:
        """Say that the state is another, and which images are dropped. Called with each heartbeat."""
        with self._lock:
            self._state_changed(status)
            for name, count in dropped(status).items():
                self._count(name, count)

    def _state_changed(self, status: TrackerStatus) -> None:
        self._changes += status.state != self._seen
        self._seen = status.state
        if status.state == self._state or not self._may("state", STATES_A_PERIOD):
            return
        unsaid = self._changes - 1
        between = f" (after {unsaid} changes that were not said)" if unsaid else ""
        self._state, self._changes = status.state, 0
        expected = status.state in FINE or status.message == NOT_CONFIGURED
        say = self._log.info if expected else self._log.warning
        say(f"{state_name(status.state)}: {status.message}{between}")

    def _count(self, name: str, count: int) -> None:
        said, now = self._drops.get(name, 0), self._clock()
        if count < said:  # it counts anew, since a configure
            said = self._drops[name] = 0
        if count == said or (said and now - self._drops_at[name] < PERIOD):
            return
        cause = DROP_CAUSES[name]
        say = self._log.info if cause.expected else self._log.warning
        if not said:
            say(f"first image dropped ({name}): {cause.why}; {cause.advice}")
        else:
            passed = now - self._drops_at[name]
            say(f"{count - said} more images dropped in {passed:.0f} s ({name}, {count} in all): {cause.advice}")
        self._drops[name], self._drops_at[name] = count, now

    def prompted(self, answer: PromptAnswer, by: str) -> None:
        """Say which objects a prompt was for. by: the service or topic that asked"""
        found = ", ".join(f"{i} ({answer.tracks.class_names[answer.tracks.index(i)]})" for i in answer.object_ids)
        objects = "object" if len(answer.object_ids) == 1 else "objects"
        self._request(
            "prompt", self._log.info, f"{by}: {objects} {found} prompted on the image {seconds(answer.stamp)}"
        )

    def refused(self, error: RequestError, by: str) -> None:
        """Say that a request was refused, and why."""
        self._request("refusal", self._log.warning, f"{by} refused, {error.code.name}: {error}")

    def doubt(self, what: str, by: str) -> None:
        """Say what was not done, since a person has to decide it."""
        self._request("doubt", self._log.warning, f"{by}: {what}")

    def done(self, what: str, by: str) -> None:
        """Say what another request did."""
        self._request("request", self._log.info, f"{by}: {what}")

    def _request(self, kind: str, say: Callable[[str], None], line: str) -> None:
        with self._lock:
            if not self._may(kind, REQUESTS_A_PERIOD):
                self._held[kind] += 1
                return
            held, self._held[kind] = self._held[kind], 0
            say(line + (f" ({held} more such lines were left out before)" if held else ""))

    def _may(self, kind: str, most: int) -> bool:
        """Tell whether another line may be said about this, and count it if so."""
        lines, now = self._lines[kind], self._clock()
        while lines and now - lines[0] >= PERIOD:
            lines.popleft()
        if len(lines) >= most:
            return False
        lines.append(now)
        return True
