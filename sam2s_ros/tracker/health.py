"""What the node knows about itself: where every image went, how long it took, how old things are.

Ages are of the node's clock (simulated time included). Durations are of a steady clock, so that a paused
simulation does not hide a slow tracker.
"""

from __future__ import annotations

import resource
import threading
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces.messages import to_time
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.tracker.gate import seconds

WINDOW = 1000  # frames over which percentiles are taken


class Outcome(Enum):
    """How an image ended. The value is the counter's name in TrackerStatus."""

    PUBLISHED = "published"
    OVERLOAD = "dropped_overload"
    STAMP = "dropped_stamp"
    IMAGE = "dropped_image"
    DISABLED = "dropped_disabled"
    ERROR = "dropped_error"
    LATE = "dropped_late"


@dataclass(frozen=True)
class Counts:
    """One consistent reading of the counters."""

    received: int
    by_outcome: dict[Outcome, int]

    @property
    def waiting(self) -> int:
        """Images received that have not ended yet."""
        return self.received - sum(self.by_outcome.values())

    @property
    def dropped(self) -> int:
        return sum(count for outcome, count in self.by_outcome.items() if outcome is not Outcome.PUBLISHED)


@dataclass(frozen=True)
class Processed:
    """A frame that the tracker took. received, finished: ns, node clock; sequence: of its message, 0 without one."""

    stamp: int
    header: Header
    received: int
    finished: int
    sequence: int = 0


@dataclass(frozen=True)
class View:
    """What may be known about the tracker without asking its thread: as of its last step or request."""

    model: str = ""
    device: str = ""
    objects: tuple[int, ...] = ()
    revision: int = 0
    memory_bytes: int = 0
    newest: Tracks | None = None
    next_id: int = 1  # of the next new object
    frames: tuple[Processed, ...] = ()  # that can be prompted, the newest last
    chosen: str = ""  # see `SavingTracker`


@dataclass(frozen=True)
class Situation:
    """What only the node and its worker know, at the time of a report.

    now: ns, node clock; view: None while the node is not configured; note: why it is not
    busy: s that the current step or request has taken so far, None when there is none
    """

    now: int
    view: View | None
    busy: float | None
    active: bool
    enabled: bool
    note: str = ""


@dataclass
class _Window:
    values: deque = field(default_factory=lambda: deque(maxlen=WINDOW))

    def percentile(self, q: float) -> float:
        """In ms; -1 when there is none."""
        return float(np.percentile(self.values, q)) * 1e3 if self.values else -1.0


class Health:
    """All counters and times behind one lock. Any thread may call any method."""

    def __init__(self):
        self._lock = threading.Lock()
        self._clear()

    def _clear(self):
        self._received = 0
        self._ended = dict.fromkeys(Outcome, 0)
        self._latency, self._step = _Window(), _Window()
        self._last_input: int | None = None  # node clock, ns
        self._last_output: int | None = None
        self._input_stamp = self._output_stamp = 0
        self._failure = self._refusal = self._unusable = ""
        self._reported = (0, 0)  # received and dropped at the last diagnostics

    def clear(self) -> None:
        """Begin again, at configure."""
        with self._lock:
            self._clear()

    def received(self) -> None:
        """An image reached the node."""
        with self._lock:
            self._received += 1

    def accepted(self, stamp: int, now: int) -> None:
        """The image with this header stamp goes to the worker."""
        with self._lock:
            self._input_stamp, self._last_input = stamp, now

    def ended(self, outcome: Outcome, why: str = "", *, accepted: bool = False) -> None:
        """An image ended; every received one does, exactly once.

        why: a sentence, for IMAGE, STAMP, ERROR and LATE
        accepted: whether it went to the worker before it was refused, so that the input's age does not tell of it
        """
        with self._lock:
            self._ended[outcome] += 1
            if outcome in (Outcome.ERROR, Outcome.LATE):
                self._failure = why
            elif outcome in (Outcome.IMAGE, Outcome.STAMP):
                self._refusal = why
                self._unusable = why if accepted else self._unusable

    def published(self, stamp: int, now: int, *, latency: float, step: float, late: str = "") -> None:
        """Masks went out. latency, step: s; late: a sentence when they were flagged as too old to be acted on."""
        with self._lock:
            self._ended[Outcome.PUBLISHED] += 1
            self._output_stamp, self._last_output = stamp, now
            self._latency.values.append(latency)
            self._step.values.append(step)
            self._failure, self._unusable = late, ""

    def mended(self) -> None:
        """What the last failure was no longer holds."""
        with self._lock:
            self._failure = ""

    def counts(self) -> Counts:
        with self._lock:
            return Counts(self._received, dict(self._ended))

    def status(self, at: Situation, config: NodeConfig) -> TrackerStatus:
        """The heartbeat message."""
        view = at.view or View()
        with self._lock:
            # a clock that jumped back, as that of a bag which loops, does: ages are counted from there
            self._last_input, self._last_output = _up_to(at.now, self._last_input), _up_to(at.now, self._last_output)
            counts = Counts(self._received, dict(self._ended))
            msg = TrackerStatus(
                header=Header(stamp=to_time(at.now)),
                last_received_stamp=to_time(self._input_stamp),
                last_published_stamp=to_time(self._output_stamp),
                input_age=_age(self._last_input, at.now),
                output_age=_age(self._last_output, at.now),
                latency_p50=self._latency.percentile(50),
                latency_p99=self._latency.percentile(99),
                step_p50=self._step.percentile(50),
                step_p99=self._step.percentile(99),
                received=counts.received,
                waiting=counts.waiting,
                prompt_revision=view.revision,
                objects=len(view.objects),
                model=view.model,
                device=view.device,
                memory_bytes=view.memory_bytes,
                process_bytes=resident_bytes(),
                **{outcome.value: count for outcome, count in counts.by_outcome.items()},
            )
            msg.state, msg.message = self._state(at, config, msg)
        return msg

    def _state(self, at: Situation, config: NodeConfig, msg: TrackerStatus) -> tuple[int, str]:
        refused = f"; last refused: {self._refusal}" if self._refusal else ""
        if at.view is None:
            return TrackerStatus.STATE_UNKNOWN, f"not configured{': ' + at.note if at.note else ''}"
        chosen = f"; {at.view.chosen}" if at.view.chosen else ""
        if not at.active:
            return TrackerStatus.STATE_INACTIVE, f"configured, not active{chosen}"
        if at.busy is not None and at.busy > config.step_timeout:
            return (
                TrackerStatus.STATE_ERROR,
                f"a step has taken {at.busy:.1f} s so far: step_timeout is {config.step_timeout:g} s",
            )
        if self._failure:
            return TrackerStatus.STATE_ERROR, self._failure
        if not at.enabled:
            return TrackerStatus.STATE_DISABLED, "switched off by ~/enable"
        if self._unusable:
            since = "so far" if self._last_output is None else f"since stamp {seconds(self._output_stamp)}"
            return TrackerStatus.STATE_ERROR, f"no image could be used {since}: {self._unusable}"
        if self._last_input is None:
            return TrackerStatus.STATE_WAITING, f"no image so far{refused}{chosen}"
        if msg.input_age > config.input_timeout:
            return (
                TrackerStatus.STATE_STALE_INPUT,
                f"no usable image for {msg.input_age:.2f} s: input_timeout is {config.input_timeout:g} s{refused}",
            )
        return TrackerStatus.STATE_RUNNING, f"{msg.objects} object{'s' if msg.objects != 1 else ''}{chosen}"

    def diagnostics(self, status: TrackerStatus, config: NodeConfig, name: str, doubt: str = "") -> DiagnosticArray:
        """/diagnostics: one entry about the input and one about the tracking.

        status: what `status` just returned; name: the node's full name; doubt: what else a person should know
        """
        with self._lock:
            dropped = sum(count for outcome, count in self._ended.items() if outcome is not Outcome.PUBLISHED)
            new, new_dropped = self._received - self._reported[0], dropped - self._reported[1]
            self._reported = (self._received, dropped)
            more = {"last_refused": self._refusal}
        share = new_dropped / new if new > 0 else 0.0
        entries = [
            _entry(
                f"{name}: input",
                status,
                _input_level(status, share, config),
                _INPUT_FIELDS,
                more | {"dropped_share": f"{share:.2f}"},
            ),
            _entry(f"{name}: tracking", status, _tracking_level(status, config, doubt), _TRACKING_FIELDS, {}),
        ]
        return DiagnosticArray(header=status.header, status=entries)


_OK, _WARN, _ERROR, _STALE = (getattr(DiagnosticStatus, level) for level in ("OK", "WARN", "ERROR", "STALE"))
_INPUT_FIELDS = (
    "received",
    "waiting",
    "input_age",
    *(outcome.value for outcome in Outcome if outcome is not Outcome.PUBLISHED),
)
_TRACKING_FIELDS = (
    "published", "output_age", "latency_p50", "latency_p99", "step_p50", "step_p99", "objects", "model", "device",
    "memory_bytes", "process_bytes",
)  # fmt: skip


def _input_level(status: TrackerStatus, share: float, config: NodeConfig) -> tuple[bytes, str]:
    if status.state == TrackerStatus.STATE_STALE_INPUT:
        return _STALE, status.message
    if status.state == TrackerStatus.STATE_WAITING:
        return _WARN, status.message
    if share >= config.warn_dropped and share > 0:
        return _WARN, f"{share:.0%} of the images were dropped: warn_dropped is {config.warn_dropped:.0%}"
    return _OK, "images arrive" if status.state == TrackerStatus.STATE_RUNNING else status.message


def _tracking_level(status: TrackerStatus, config: NodeConfig, doubt: str) -> tuple[bytes, str]:
    if status.state in (TrackerStatus.STATE_ERROR, TrackerStatus.STATE_UNKNOWN):
        return _ERROR, status.message
    if doubt:
        return _WARN, doubt
    if status.latency_p99 > config.warn_latency * 1e3:
        return _WARN, f"latency p99 is {status.latency_p99:.0f} ms: warn_latency is {config.warn_latency * 1e3:.0f} ms"
    return _OK, status.message


def _entry(name, status, level, fields, more) -> DiagnosticStatus:
    values = {name: _shown(getattr(status, name)) for name in fields} | more
    return DiagnosticStatus(
        level=level[0],
        name=name,
        message=level[1],
        hardware_id=status.device,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _shown(value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _up_to(now: int, then: int | None) -> int | None:
    return None if then is None else min(then, now)


def _age(then: int | None, now: int) -> float:
    """s; -1 when it never happened."""
    return -1.0 if then is None else (now - then) / 1e9


def resident_bytes() -> int:
    """Host memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
