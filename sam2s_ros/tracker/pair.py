"""The masks of a left and a right tracker as pairs: left/tracker/masks and right/tracker/masks to ~/masks.

Masks have the stamp of their image (P1), and the two images of a stereo camera have one stamp, or, where each side has
a driver of its own, two that differ by less than a period: a pair is two messages whose stamps differ by `tolerance` at
most.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from sam2s_model.config import check_options, option
from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.messages import to_ns
from sam2s_ros.interfaces.parameters import Parameters
from sam2s_ros.interfaces.publishers import PublisherWatch
from sam2s_ros.msg import TrackedMasks, TrackedMasksPair
from sam2s_ros.processes.log import NodeLogger
from sam2s_ros.processes.process import run
from sam2s_ros.processes.runnable import RunnableNode
from sam2s_ros.tracker.stamp_pairs import StampPairs

SIDES = ("left", "right")
REPORT_EVERY = 1.0  # s


@dataclass(frozen=True)
class PairConfig:
    """The node's parameters."""

    tolerance: float = option(
        0.005,
        "greatest difference of the stamps of a pair, of which each is of an image of its own; 0: they are equal",
        low=0.0,
        high=1.0,
    )
    pending: int = option(5, "masks of one side that wait for those of the other", low=1, high=1000)
    warn_unpaired: float = option(2.0, "time without a pair from which /diagnostics says WARN", low=0.1, high=3600.0)

    def __post_init__(self):
        check_options(self)


PARAMETERS = Parameters((PairConfig,))


class PairNode(RunnableNode):
    """Node "pair". Raises ConfigError for a bad parameter."""

    def __init__(self):
        super().__init__("pair")
        (self._config,) = PARAMETERS.declare(self)
        self._pairs: StampPairs[TrackedMasks] = StampPairs(self._config.pending, round(self._config.tolerance * 1e9))
        self._publisher = self.create_publisher(
            TrackedMasksPair, "~/masks", qos.own(qos.OUTPUT), qos_overriding_options=qos.overridable()
        )
        self._log = NodeLogger(self.get_logger())
        self._inputs, self._watches = [], []
        for number, side in enumerate(SIDES):
            topic, callback = f"{side}/tracker/masks", partial(self._on_masks, number)
            subscription = self.create_subscription(
                TrackedMasks, topic, callback, qos.own(qos.OUTPUT), qos_overriding_options=qos.overridable()
            )
            self._inputs.append(subscription)
            self._watches.append(PublisherWatch(self, topic))
        # when the last masks of each side came, or it began to wait for them
        self._came = [time.monotonic()] * len(SIDES)
        self._last_pair = time.monotonic()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.steady_timer(REPORT_EVERY, self._report)

    def _on_masks(self, side: int, msg: TrackedMasks) -> None:
        self._came[side] = time.monotonic()
        for left, right in self._pairs.add(side, to_ns(msg.header.stamp), msg):
            self._last_pair = time.monotonic()
            self._publisher.publish(TrackedMasksPair(left=left, right=right))

    def _report(self) -> None:
        unpaired = {f"unpaired_{side}": n for side, n in zip(SIDES, self._pairs.unpaired, strict=True)}
        counts = dict(paired=self._pairs.paired, **unpaired)
        for watch, subscription in zip(self._watches, self._inputs, strict=True):
            watch.look(subscription)
        why = self._why_unpaired()
        if why:
            self._log.warning(why)
        values = [KeyValue(key=key, value=str(value)) for key, value in (counts | self.failures.values()).items()]
        warning = "; ".join(filter(None, (why, self.clock_warning(), self.failures.news())))
        level = DiagnosticStatus.WARN if warning else DiagnosticStatus.OK
        name = f"{self.get_fully_qualified_name()}: masks"
        status = DiagnosticStatus(level=level, name=name, message=warning or "pairing", values=values)
        report = DiagnosticArray(status=[status])
        report.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(report)
        self._pairs.forget_nearest()

    def _why_unpaired(self) -> str:
        """Return a sentence when there has been no pair for `warn_unpaired`; "" otherwise."""
        now, limit = time.monotonic(), self._config.warn_unpaired
        spent = now - self._last_pair
        if spent < limit:
            return ""
        missing = [number for number in range(len(SIDES)) if now - self._came[number] >= limit]
        if missing:
            return "; ".join(f"no masks of {SIDES[number]}: {self._watches[number].found.silent}" for number in missing)
        nearest = self._pairs.nearest
        apart = ""
        if nearest is not None:
            apart = f"the nearest two stamps of both sides differ by {nearest * 1e-6:.6g} ms, and "
        return f"no pair for {spent:.1f} s: {apart}tolerance is {self._config.tolerance * 1e3:g} ms"


def main(args: list[str] | None = None) -> int:
    """Entry point: 0 after SIGINT, SIGTERM or a hang-up, 2 for a bad parameter."""
    return run(PairNode, args)


if __name__ == "__main__":
    sys.exit(main())
