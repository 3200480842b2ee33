"""Two trackers in one process, /left/tracker and /right/tracker, for a stereo endoscope.

They are two nodes in one executor, each with its own parameters, worker thread, memory and objects. All that they share
is the weights of the model, which they only read (`shared_models`), and torch's settings of the process: threads and
deterministic.
"""

from __future__ import annotations

import sys
from functools import partial

from rclpy.executors import MultiThreadedExecutor

from sam2s_model.errors import ConfigError
from sam2s_ros.process import Runnable, run
from sam2s_ros.tracker_node import THREADS, TrackerNode

SIDES = ("left", "right")


class StereoTracker(Runnable):
    """A tracker node in each of the namespaces `SIDES`. Raises ConfigError as `TrackerNode` does."""

    def __init__(self):
        self._nodes = tuple(TrackerNode(namespace=side) for side in SIDES)
        left, right = (node.get_parameter("prompts_file").value for node in self._nodes)
        if left and left == right:
            names = " and ".join(node.get_fully_qualified_name() for node in self._nodes)
            raise ConfigError(f"prompts_file is {left} for {names}: each would overwrite what the other keeps; give each its own")

    @property
    def exit_code(self) -> int | None:
        """Of the first that has ended: the other ends with it."""
        return next((node.exit_code for node in self._nodes if node.exit_code is not None), None)

    def parts(self) -> tuple[TrackerNode, ...]:
        return self._nodes

    def late_topics(self) -> tuple[str, ...]:
        return tuple(topic for node in self._nodes for topic in node.late_topics())

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
