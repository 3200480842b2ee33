"""Two trackers in one process, /left/tracker and /right/tracker, for a stereo endoscope.

They are two nodes in one executor, each with its own parameters, worker thread, memory and objects. All that they share
is the weights of the model, which they only read (`shared_models`), and torch's settings of the process: threads and
deterministic.
"""

from __future__ import annotations

import sys
from functools import partial

from rclpy.executors import MultiThreadedExecutor

from sam2s_ros.processes.process import Runnable, run
from sam2s_ros.tracker.node import THREADS, TrackerNode

SIDES = ("left", "right")


class StereoTracker(Runnable):
    """A tracker node in each of the namespaces `SIDES`. Raises ConfigError as `TrackerNode` does."""

    def __init__(self):
        self._nodes = tuple(TrackerNode(namespace=side) for side in SIDES)

    @property
    def exit_code(self) -> int | None:
        """Of the first that has ended: the other ends with it."""
        return next((node.exit_code for node in self._nodes if node.exit_code is not None), None)

    def parts(self) -> tuple[TrackerNode, ...]:
        return self._nodes

    def close(self, timeout: float) -> bool:
        return all([node.close(timeout / len(self._nodes)) for node in self._nodes])

    def destroy_node(self) -> None:
        for node in self._nodes:
            node.destroy_node()


def main(args: list[str] | None = None) -> int:
    """Entry point: 0 after SIGINT or SIGTERM, 2 for a bad parameter or argument."""
    return run(StereoTracker, args, make_executor=partial(MultiThreadedExecutor, len(SIDES) * THREADS))


if __name__ == "__main__":
    sys.exit(main())
