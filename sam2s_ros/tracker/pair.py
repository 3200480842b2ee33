"""The masks of a left and a right tracker as pairs: left/tracker/masks and right/tracker/masks to ~/masks.

The two images of a stereo camera have one stamp, and masks have the stamp of their image (P1), so a pair is two messages
with equal stamps. message_filters.TimeSynchronizer would do that as well, but it is not on PyPI, and the matcher here is
shorter than a choice between the two would be; besides it counts what finds no partner, and forgets it at once.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from sam2s_model.config import check_options, option
from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.messages import to_ns
from sam2s_ros.interfaces.parameters import Parameters
from sam2s_ros.msg import TrackedMasks, TrackedMasksPair
from sam2s_ros.processes.process import Runnable, run

SIDES = ("left", "right")
REPORT_EVERY = 1.0  # s
Item = TypeVar("Item")


@dataclass(frozen=True)
class PairConfig:
    """The node's parameters."""

    pending: int = option(5, "masks of one side that wait for those of the other", low=1, high=1000)

    def __post_init__(self):
        check_options(self)


PARAMETERS = Parameters((PairConfig,))


class ExactPairs(Generic[Item]):
    """Matches items of two sides by stamp. Each side's come in the order of their frames, and some do not come at all.

    pending: items of a side that wait at most
    paired: pairs so far; unpaired: items of each side that were given up
    """

    def __init__(self, pending: int):
        self._pending = pending
        self._waiting: tuple[OrderedDict[int, Item], ...] = (OrderedDict(), OrderedDict())
        self.paired, self.unpaired = 0, [0, 0]

    def add(self, side: int, stamp: int, item: Item) -> tuple[Item, Item] | None:
        """Return the pair that this item of side 0 or 1 completes, with that of side 0 first.

        What came before either of the two is given up: its partner was lost, since the sides are in order.
        """
        mine, others = self._waiting[side], self._waiting[1 - side]
        if stamp not in others:
            mine[stamp] = item
            while len(mine) > self._pending:
                self._give_up(side)
            return None
        while next(iter(others)) != stamp:
            self._give_up(1 - side)
        while mine:
            self._give_up(side)
        self.paired += 1
        other = others.pop(stamp)
        return (item, other) if side == 0 else (other, item)

    def _give_up(self, side: int) -> None:
        self._waiting[side].popitem(last=False)
        self.unpaired[side] += 1


class PairNode(Runnable, Node):
    """Node "pair". Raises ConfigError for a bad parameter."""

    def __init__(self):
        super().__init__("pair")
        (config,) = PARAMETERS.declare(self)
        self._pairs: ExactPairs[TrackedMasks] = ExactPairs(config.pending)
        options = dict(qos_overriding_options=qos.overridable())
        self._publisher = self.create_publisher(TrackedMasksPair, "~/masks", qos.own(qos.OUTPUT), **options)
        for number, side in enumerate(SIDES):
            callback = partial(self._on_masks, number)
            self.create_subscription(TrackedMasks, f"{side}/tracker/masks", callback, qos.own(qos.OUTPUT), **options)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(REPORT_EVERY, self._report)

    def _on_masks(self, side: int, msg: TrackedMasks) -> None:
        pair = self._pairs.add(side, to_ns(msg.header.stamp), msg)
        if pair is not None:
            self._publisher.publish(TrackedMasksPair(left=pair[0], right=pair[1]))

    def _report(self) -> None:
        counts = dict(paired=self._pairs.paired, **{f"unpaired_{s}": n for s, n in zip(SIDES, self._pairs.unpaired)})
        values = [KeyValue(key=key, value=str(value)) for key, value in counts.items()]
        status = DiagnosticStatus(name=f"{self.get_fully_qualified_name()}: masks", message="pairing", values=values)
        report = DiagnosticArray(status=[status])
        report.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(report)


def main(args: list[str] | None = None) -> int:
    """Entry point: 0 after SIGINT or SIGTERM, 2 for a bad parameter."""
    return run(PairNode, args)


if __name__ == "__main__":
    sys.exit(main())
