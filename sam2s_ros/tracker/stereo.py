"""Two trackers in one process, left/tracker and right/tracker, for a stereo endoscope.

They are two nodes in one executor, each with its own parameters, worker thread, memory and objects. All that they share
is the weights of the model, which they only read (`shared_models`), and torch's settings of the process: threads and
deterministic.

A namespace (-r __ns:=/rig, launch's PushRosNamespace) is that of the rig: /rig/left/tracker and /rig/right/tracker.
Remappings whose names begin with a side are relative to it, too: -r left/image:=stereo/left/image_raw.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from sam2s_ros.processes.arguments import Remapping, join_arguments, split_arguments
from sam2s_ros.processes.callbacks import LenientMultiThreadedExecutor
from sam2s_ros.processes.process import run
from sam2s_ros.processes.runnable import Runnable
from sam2s_ros.tracker.node import THREADS, TrackerNode

SIDES = ("left", "right")


def rig_arguments(args: Sequence[str]) -> tuple[str, list[str]]:
    """Read the rig's namespace, "" at the root, and the arguments of ROS for both of its nodes.

    args: as sys.argv
    A rule for the namespace is taken out, since it would give both nodes the same. Names that begin with a side become
    absolute, since to a node they would begin with its own namespace.
    """
    ros = split_arguments(args)[1]
    rules = [Remapping.parse(value or "") if flag == "--remap" else None for flag, value in ros]
    spaces = [rule.target for rule in rules if rule is not None and not rule.node and rule.source == "__ns"]
    space = f"/{spaces[0].strip('/')}".rstrip("/") if spaces else ""
    kept: list[tuple[str, str | None]] = []
    for (flag, value), rule in zip(ros, rules, strict=True):
        if rule is not None and rule.source.split("/")[0] in SIDES:
            target = rule.target if rule.target[0] in "/~" else f"{space}/{rule.target}"
            value = str(replace(rule, source=f"{space}/{rule.source}", target=target))
        if rule is None or rule.node or rule.source != "__ns":
            kept.append((flag, value))
    return space, join_arguments(kept)


class StereoTracker(Runnable):
    """A tracker node in each of the namespaces `SIDES` of the rig's. Raises ConfigError as `TrackerNode` does.

    args: as sys.argv, which is the default
    """

    def __init__(self, args: Sequence[str] | None = None):
        space, given = rig_arguments(sys.argv if args is None else args)
        how = dict(cli_args=given, use_global_arguments=False)
        self._nodes = tuple(TrackerNode(namespace=f"{space}/{side}", **how) for side in SIDES)
        left, right = (node.own_files for node in self._nodes)
        left.beside, right.beside = [right], [left]
        left.check("prompts_file")  # which is written unasked; of the others the services say it, before they write

    @property
    def exit_code(self) -> int | None:
        """Of the first that has ended: the other ends with it."""
        return next((node.exit_code for node in self._nodes if node.exit_code is not None), None)

    def parts(self) -> tuple[TrackerNode, ...]:
        return self._nodes

    def arguments(self, args: list[str]) -> list[str]:
        return rig_arguments(args)[1]

    def late_topics(self) -> tuple[str, ...]:
        return tuple(topic for node in self._nodes for topic in node.late_topics())

    def close(self, timeout: float | None) -> bool:
        each = None if timeout is None else timeout / len(self._nodes)
        return all([node.close(each) for node in self._nodes])


def main(args: list[str] | None = None) -> int:
    """Entry point: 0 after SIGINT, SIGTERM or a hang-up, 2 for a bad parameter or argument."""
    make_executor = partial(LenientMultiThreadedExecutor, len(SIDES) * THREADS)
    return run(partial(StereoTracker, args), args, make_executor=make_executor)


if __name__ == "__main__":
    sys.exit(main())
