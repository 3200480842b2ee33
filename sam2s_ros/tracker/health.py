"""What the node knows about itself: where every image went, how long it took, how old things are.

Ages and durations are of steady clocks: simulated time that stands still, is missing or goes back hides neither a
camera that has stopped nor a slow tracker.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from sam2s_model.acceleration.allocator import resident_bytes
from sam2s_model.recordings.pixels import EMPTY_CONTRAST
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces.messages import to_ns, to_time
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.tracker.gate import seconds

WINDOW = 1000  # frames over which percentiles are taken
QUIET = 1.0  # s without any image, also one that is refused, from which it is said why none comes


class ImageOutcome(Enum):
    """How an image ended. The value is the counter's name in TrackerStatus."""

    PUBLISHED = "published"
    OVERLOAD = "dropped_overload"
    STAMP = "dropped_stamp"
    IMAGE = "dropped_image"
    DISABLED = "dropped_disabled"
    ERROR = "dropped_error"
    LATE = "dropped_late"


@dataclass(frozen=True)
class ImageCounts:
    """One consistent reading of the counters."""

    received: int
    by_outcome: dict[ImageOutcome, int]

    @property
    def waiting(self) -> int:
        """Images received that have not ended yet."""
        return self.received - sum(self.by_outcome.values())

    @property
    def dropped(self) -> int:
        return sum(count for outcome, count in self.by_outcome.items() if outcome is not ImageOutcome.PUBLISHED)


@dataclass(frozen=True)
class Processed:
    """A frame that the tracker took.

    received, finished: ns, node clock; sequence: of its message, 0 without one
    boxes: id and x0, y0, x1, y1, px, of each object that had a mask
    """

    stamp: int
    header: Header
    received: int
    finished: int
    sequence: int = 0
    boxes: tuple[tuple[int, tuple[float, ...]], ...] = ()


@dataclass(frozen=True)
class TrackerSnapshot:
    """What may be known about the tracker without asking its thread: as of its last step or request."""

    model: str = ""
    device: str = ""
    objects: tuple[int, ...] = ()
    revision: int = 0
    memory_bytes: int = 0
    newest: Tracks | None = None
    next_id: int = 1  # of the next new object
    frames: tuple[Processed, ...] = ()  # that can be prompted, the newest last
    chosen: str = ""  # see `BuiltTracker`
    unsaved: str = ""  # see `SavingTracker`


@dataclass(frozen=True)
class NodeState:
    """What only the node and its worker know, at the time of a report.

    now: ns, node clock; at: s, of `steady`; view: None while the node is not configured; note: why it is not
    busy: s that the current step or request has taken so far, None when there is none
    seen: what a person should know of clocks and stamps, "" for nothing
    silent: what the publishers of the input say about why no image comes, see `publishers`
    """

    now: int
    at: float
    view: TrackerSnapshot | None
    busy: float | None
    active: bool
    enabled: bool
    note: str = ""
    seen: str = ""
    silent: str = ""


@dataclass
class _Window:
    values: deque = field(default_factory=lambda: deque(maxlen=WINDOW))

    def percentile(self, q: float) -> float:
        """Return a percentile in ms; -1 when there is none."""
        return float(np.percentile(self.values, q)) * 1e3 if self.values else -1.0


class Health:
    """All counters and times behind one lock. Any thread may call any method."""

    def __init__(self):
        self._lock = threading.Lock()
        self._clear()

    def _clear(self):
        self._received = 0
        self._ended = dict.fromkeys(ImageOutcome, 0)
        self._latency, self._step = _Window(), _Window()
        self._last_input: float | None = None  # s, of `steady`
        self._last_output: float | None = None
        self._input_stamp = self._output_stamp = 0
        self._heard: float | None = None  # steady clock, s, when the last image reached the node, usable or not
        # since when the pictures are next to empty (steady clock, s), and their contrast
        self._empty: tuple[float, int] | None = None
        self._failure = self._refusal = self._unusable = ""
        self._late = False  # whether the failure is only that masks came too late
        self._stale = False  # whether images have stopped, as of the last status
        self._switched_on = 0.0  # s, of `steady`
        self._reported = (0, 0)  # received and dropped at the last diagnostics

    def clear(self) -> None:
        """Begin again, at configure."""
        with self._lock:
            self._clear()

    def switched_on(self, at: float) -> None:
        """Note that images are accepted again, from now on. at: s, of `steady`"""
        with self._lock:
            self._switched_on = at

    def received(self) -> None:
        """Count an image that reached the node."""
        with self._lock:
            self._received += 1
            self._heard = time.monotonic()

    def seen(self, contrast: int) -> None:
        """Note the contrast of a picture that was decoded, see `pixels.contrast`."""
        with self._lock:
            since = self._empty[0] if self._empty is not None else time.monotonic()
            self._empty = (since, contrast) if contrast <= EMPTY_CONTRAST else None

    def empty_picture(self, config: NodeConfig) -> str:
        """Return a sentence when the pictures that come have been next to empty for `warn_empty`; "" otherwise."""
        with self._lock:
            if self._empty is None or self._quiet():
                return ""
            since, contrast = self._empty
        spent = time.monotonic() - since
        if not 0 < config.warn_empty <= spent:
            return ""
        return (
            f"the picture has been next to empty for {spent:.1f} s, its values differ by {contrast} of 255 "
            f"(warn_empty is {config.warn_empty:g} s): see to light, cap, exposure, the encoding, and significant_bits "
            "of 16-bit images"
        )

    def _quiet(self) -> bool:
        """Tell whether no image has come of late. Call it under the lock."""
        return self._heard is None or time.monotonic() - self._heard > QUIET

    def accepted(self, stamp: int, at: float) -> None:
        """Note the image that goes to the worker. stamp: ns, its header's; at: s, of `steady`, when it came"""
        with self._lock:
            self._input_stamp, self._last_input = stamp, at

    def ended(
        self, outcome: ImageOutcome, why: str = "", *, accepted: bool = False, latency: float = -1.0, step: float = -1.0
    ) -> None:
        """Count how an image ended; every received one does, exactly once.

        why: a sentence, for IMAGE, STAMP, ERROR and LATE
        latency, step: s, for LATE, so that percentiles are of all masks
        accepted: whether it went to the worker before it was refused, so that the input's age does not tell of it
        """
        with self._lock:
            self._ended[outcome] += 1
            if outcome in (ImageOutcome.ERROR, ImageOutcome.LATE):
                self._failure, self._late = why, outcome is ImageOutcome.LATE
            if outcome is ImageOutcome.LATE:
                self._latency.values.append(latency)
                self._step.values.append(step)
            elif outcome in (ImageOutcome.IMAGE, ImageOutcome.STAMP):
                self._refusal = why
                self._unusable = why if accepted else self._unusable

    def published(self, stamp: int, at: float, *, latency: float, step: float, late: str = "") -> None:
        """Count masks that went out.

        at: s, of `steady`; latency, step: s; late: a sentence when they were flagged as too old to be acted on
        """
        with self._lock:
            self._ended[ImageOutcome.PUBLISHED] += 1
            self._output_stamp, self._last_output = stamp, at
            self._latency.values.append(latency)
            self._step.values.append(step)
            self._failure, self._late, self._unusable = late, bool(late), ""

    def clear_failure(self) -> None:
        """Forget the last failure: what it was no longer holds."""
        with self._lock:
            self._failure = ""

    def counts(self) -> ImageCounts:
        with self._lock:
            return ImageCounts(self._received, dict(self._ended))

    def status(self, at: NodeState, config: NodeConfig) -> TrackerStatus:
        """Make the heartbeat message."""
        view = at.view or TrackerSnapshot()
        with self._lock:
            counts = ImageCounts(self._received, dict(self._ended))
            msg = TrackerStatus(
                header=Header(stamp=to_time(at.now)),
                last_received_stamp=to_time(self._input_stamp),
                last_published_stamp=to_time(self._output_stamp),
                input_age=_age(self._last_input, at.at),
                output_age=_age(self._last_output, at.at),
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

    def _state(self, at: NodeState, config: NodeConfig, msg: TrackerStatus) -> tuple[int, str]:
        refused = f"; last refused: {self._refusal}" if self._refusal else ""
        silent = f"; {at.silent}" if at.silent and self._quiet() else ""
        seen = f"; {at.seen}" if at.seen else ""
        # switched off, images that come are not accepted, and their age says nothing of the camera
        self._stale = at.enabled and is_stale(min(msg.input_age, at.at - self._switched_on), config)
        if at.view is None:
            return TrackerStatus.STATE_UNKNOWN, f"not configured{': ' + at.note if at.note else ''}"
        chosen = (f"; {at.view.chosen}" if at.view.chosen else "") + seen
        if not at.active:
            return TrackerStatus.STATE_INACTIVE, f"configured, not active{chosen}"
        if at.busy is not None and at.busy > config.step_timeout:
            return (
                TrackerStatus.STATE_ERROR,
                f"a step has taken {at.busy:.1f} s so far: step_timeout is {config.step_timeout:g} s",
            )
        stale = ""
        if self._stale:
            stale = f"no usable image for {msg.input_age:.2f} s: input_timeout is {config.input_timeout:g} s"
        over = stale or not at.enabled  # masks that were late are no trouble of a tracker that gets no images
        if self._failure and not (self._late and over):
            return TrackerStatus.STATE_ERROR, self._failure + f"; {stale}" * bool(stale)
        if not at.enabled:
            return TrackerStatus.STATE_DISABLED, "switched off by ~/enable"
        if self._unusable and not stale:
            since = "so far" if self._last_output is None else f"since stamp {seconds(self._output_stamp)}"
            return TrackerStatus.STATE_ERROR, f"no image could be used {since}: {self._unusable}"
        if self._last_input is None:
            return TrackerStatus.STATE_WAITING, f"no image so far{refused}{silent}{chosen}"
        if stale:
            late = f"; {self._failure}" if self._failure else ""
            return TrackerStatus.STATE_STALE_INPUT, f"{stale}{refused}{silent}{late}{seen}"
        return TrackerStatus.STATE_RUNNING, f"{msg.objects} object{'s' if msg.objects != 1 else ''}{chosen}"

    def diagnostics(
        self,
        status: TrackerStatus,
        config: NodeConfig,
        name: str,
        warning: str = "",
        *,
        source: str = "",
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> DiagnosticArray:
        """Make the message on /diagnostics: one entry about the input and one about the tracking.

        status: what `status` just returned; name: the node's full name
        warning: what else a person should know of the tracking; source: the same of the input
        more: values for the entry about the tracking
        """
        with self._lock:
            dropped = sum(count for outcome, count in self._ended.items() if outcome is not ImageOutcome.PUBLISHED)
            new, new_dropped = self._received - self._reported[0], dropped - self._reported[1]
            self._reported = (self._received, dropped)
            refused, stale = {"last_refused": self._refusal}, self._stale
        share = new_dropped / new if new > 0 else 0.0
        entries = [
            _entry(
                f"{name}: input",
                status,
                _input_level(status, share, config, source, stale),
                _INPUT_FIELDS,
                refused | {"dropped_share": f"{share:.2f}", "stamp_age": _shown(_stamp_age(status))},
            ),
            _entry(f"{name}: tracking", status, _tracking_level(status, config, warning), _TRACKING_FIELDS, more),
        ]
        return DiagnosticArray(header=status.header, status=entries)


def is_stale(input_age: float, config: NodeConfig) -> bool:
    """Tell whether images came, and come no more. input_age: s, -1 when there was none"""
    return input_age > config.input_timeout


_OK, _WARN, _ERROR, _STALE = (getattr(DiagnosticStatus, level) for level in ("OK", "WARN", "ERROR", "STALE"))
_INPUT_FIELDS = (
    "received",
    "waiting",
    "input_age",
    *(outcome.value for outcome in ImageOutcome if outcome is not ImageOutcome.PUBLISHED),
)
_TRACKING_FIELDS = (
    "published", "output_age", "latency_p50", "latency_p99", "step_p50", "step_p99", "objects", "model", "device",
    "memory_bytes", "process_bytes",
)  # fmt: skip


def _input_level(
    status: TrackerStatus, share: float, config: NodeConfig, source: str, stale: bool
) -> tuple[bytes, str]:
    if status.state == TrackerStatus.STATE_STALE_INPUT:
        return _STALE, status.message
    working = (TrackerStatus.STATE_RUNNING, TrackerStatus.STATE_ERROR)
    if status.state in working and stale:  # an error of the tracking hides no dead camera
        return _STALE, f"no usable image for {status.input_age:.2f} s: input_timeout is {config.input_timeout:g} s"
    if status.state == TrackerStatus.STATE_WAITING:
        return _WARN, status.message
    dropped = ""
    if share >= config.warn_dropped and share > 0:
        dropped = f"{share:.0%} of the images were dropped: warn_dropped is {config.warn_dropped:.0%}"
    if dropped or source:
        return _WARN, "; ".join(filter(None, (dropped, source)))
    return _OK, "images arrive" if status.state == TrackerStatus.STATE_RUNNING else status.message


def _tracking_level(status: TrackerStatus, config: NodeConfig, warning: str) -> tuple[bytes, str]:
    if status.state in (TrackerStatus.STATE_ERROR, TrackerStatus.STATE_UNKNOWN):
        return _ERROR, status.message
    if warning:
        return _WARN, warning
    if status.latency_p99 > config.warn_latency * 1e3:
        return _WARN, f"latency p99 is {status.latency_p99:.0f} ms: warn_latency is {config.warn_latency * 1e3:.0f} ms"
    return _OK, status.message


def _entry(name, status, level, fields, more) -> DiagnosticStatus:
    values = {name: _shown(getattr(status, name)) for name in fields} | dict(more)
    return DiagnosticStatus(
        level=level[0],
        name=name,
        message=level[1],
        hardware_id=status.device,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _shown(value) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _stamp_age(status: TrackerStatus) -> float:
    """Return the s by the node's clock since the newest image was taken; -1 when there is none."""
    stamp = to_ns(status.last_received_stamp)
    return (to_ns(status.header.stamp) - stamp) / 1e9 if stamp else -1.0


def _age(then: float | None, now: float) -> float:
    """Return the s since then; -1 when it never happened."""
    return -1.0 if then is None else max(0.0, now - then)
