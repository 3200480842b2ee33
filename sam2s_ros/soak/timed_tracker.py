"""The tracker node without a model, to measure what the node itself costs: a step sleeps and gives a constant mask.

Everything else is the real node. It says so wherever a tracker is named: `model` of ~/status and ~/masks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import State, Tracks
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.processes.callbacks import LenientMultiThreadedExecutor
from sam2s_ros.processes.log import Logger
from sam2s_ros.processes.process import run
from sam2s_ros.tracker.contract import BuiltTracker
from sam2s_ros.tracker.node import THREADS, TrackerNode


class TimedAnswer(NamedTuple):
    """As `PromptResult`, which would bring torch with it."""

    stamp: int
    object_ids: tuple[int, ...]
    tracks: Tracks
    prompts: tuple[Prompt, ...] = ()
    by_person: tuple[int, ...] = ()


class TimedTracker:
    """What the worker needs of a tracker. An object's mask is the middle of the image; there is one object at most.

    seconds: that a step sleeps
    """

    memory_bytes = staticmethod(lambda: 0)

    def __init__(self, seconds: float, first_id: int = 1):
        self.name = f"no model, sleeps {seconds * 1e3:g} ms"
        self.newest: Tracks | None = None
        self.revision, self.next_id = 0, first_id
        self.object_ids: tuple[int, ...] = ()
        self._seconds = seconds

    def device_description(self) -> str:
        return "none"

    def step(self, stamp: int, image: np.ndarray, following: np.ndarray | None = None) -> Tracks:
        time.sleep(self._seconds)
        size = image.shape[:2]
        if self.newest is None or self.newest.size != size or self.newest.revision != self.revision:
            self.newest = self._tracks(stamp, *size)
        self.newest = replace(self.newest, stamp=stamp)
        return self.newest

    def prompt(self, stamp: int, prompts: Sequence[Prompt], *, learn: bool = True) -> TimedAnswer:
        """Begin the one object anew, whatever the prompts are."""
        self.object_ids, self.next_id = (self.next_id,), self.next_id + 1
        self.revision += 1
        if self.newest is None:
            raise RequestError(ErrorCode.NO_IMAGE, "there is no image yet to prompt")
        newest = self.newest = self._tracks(self.newest.stamp, *self.newest.size)
        return TimedAnswer(newest.stamp, self.object_ids * len(prompts), newest)

    def remove(self, object_ids: Sequence[int]) -> Tracks | None:
        """Forget the one object, whatever the ids are."""
        self.reset()
        if self.newest is not None:
            self.newest = self._tracks(self.newest.stamp, *self.newest.size)
        return self.newest

    def reset(self) -> None:
        self.object_ids, self.revision = (), self.revision + 1

    def set_policy(self, policy: str) -> None:
        """Take any policy: there is no memory."""

    def prepare(self) -> None:
        """Nothing is to be prepared."""

    def _tracks(self, stamp: int, height: int, width: int) -> Tracks:
        if not self.object_ids:
            return Tracks.empty(stamp, height, width, self.revision)
        x0, y0, x1, y1 = box = width // 4, height // 4, 3 * width // 4, 3 * height // 4
        label_map = np.zeros((height, width), np.uint8)
        label_map[y0:y1, x0:x1] = 1
        one = np.ones(1, np.float32)
        return Tracks(
            stamp=stamp, label_map=label_map, object_ids=np.array(self.object_ids), labels=np.ones(1, np.uint8),
            class_ids=np.ones(1, np.uint8), class_names=("object",), states=np.array([State.TRACKED], np.uint8),
            scores=one, predicted_ious=one, boxes=np.array([box], np.int32), areas=np.array([(x1 - x0) * (y1 - y0)]),
            centroids=np.array([[(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2]], np.float32), revision=self.revision,
        )  # fmt: skip


class TimedTrackerNode(TrackerNode):
    """The tracker node with a `TimedTracker`, of the parameter model_time, s."""

    def __init__(self):
        super().__init__()
        self._seconds = self.declare_parameter("model_time", 0.005).value

    def build_tracker(
        self, config: NodeConfig, tracking: TrackerConfig, labels: LabelSet, *, first_id: int = 1, log: Logger
    ) -> BuiltTracker:
        return BuiltTracker(TimedTracker(self._seconds, first_id))


def main(args: list[str] | None = None) -> int:
    """Entry point, as that of `tracker_node`."""
    return run(TimedTrackerNode, args, make_executor=partial(LenientMultiThreadedExecutor, THREADS))


if __name__ == "__main__":
    sys.exit(main())
