"""The soak's own node: the subscriber, and what it writes down."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rclpy.node import Node
from std_srvs.srv import SetBool

from sam2s_model.prompts import Prompt
from sam2s_ros.interfaces.messages import to_ns
from sam2s_ros.msg import TrackedMasks, TrackerStatus
from sam2s_ros.processes.counting import drops_of
from sam2s_ros.processes.graph import Graph
from sam2s_ros.processes.graph_client import MASKS_QOS, GraphClient
from sam2s_ros.processes.local_graph import GRAPH_TIMEOUT, SETTLE, STEP_TIMEOUT
from sam2s_ros.soak.camera import picture_at

TICKS = os.sysconf("SC_CLK_TCK")
MOST_WAITING = 3  # images: one being tracked, one waiting, one that has arrived and is about to take its place


@dataclass
class SoakLog:
    """What was seen of the run.

    stamps, received, published: times of masks in ns, by one clock: of the image's stamp, its arrival at the node, and
    the publication of its masks, each with an entry for every message; gaps: numbers that are missing in their sequence
    times, resident: of each status, s and bytes; unbalanced: statuses whose counters do not add up
    began, ended: s, when the camera was started and stopped; cpu: s of CPU time in between, by process
    """

    stamps: array = field(default_factory=lambda: array("q"))
    received: array = field(default_factory=lambda: array("q"))
    published: array = field(default_factory=lambda: array("q"))
    gaps: int = 0
    times: array = field(default_factory=lambda: array("d"))
    resident: array = field(default_factory=lambda: array("q"))
    unbalanced: int = 0
    began: float = 0.0
    ended: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    sent: int = 0
    status: TrackerStatus | None = None


class SoakClient(GraphClient):
    """As `GraphClient`. pids: of the processes whose CPU time is measured, by name"""

    node_name = "soak"

    def __init__(self, graph: Graph, pids: Mapping[str, int]):
        super().__init__(graph)
        self.log, self._pids, self._sequence = SoakLog(), pids, 0

    def _connect(self, node: Node) -> None:
        callback: Callable[..., None] = self._on_masks  # rclpy gives the second argument to those that take two
        node.create_subscription(TrackedMasks, "tracker/masks", callback, MASKS_QOS)
        self._camera = node.create_client(SetBool, "camera/run")

    def start_camera(self) -> None:
        """Start the camera, once it and the tracker have found one another."""
        self._wait_until_ready(GRAPH_TIMEOUT, self._camera, self._prompts, self._state)
        self._wait_until_known(GRAPH_TIMEOUT, "camera", "tracker")
        ready = SetBool.Request(data=False)
        subscribed = "the camera to have a subscriber"
        self._wait(lambda: self._call(self._camera, ready).success, GRAPH_TIMEOUT, subscribed)
        time.sleep(SETTLE)
        self.log.began, self._cpu_began = time.monotonic(), self._cpu()
        self._call(self._camera, SetBool.Request(data=True))

    def stop_camera(self) -> None:
        self.log.sent = int(self._call(self._camera, SetBool.Request(data=False)).message)
        self.log.ended = time.monotonic()
        self.log.cpu = {name: seconds - self._cpu_began[name] for name, seconds in self._cpu().items()}

    def wait_for_masks(self) -> None:
        self._wait(lambda: self.masks > 0, STEP_TIMEOUT, "the first masks")

    def prompt(self, rate: float, boxes: Sequence[tuple[int, int, int, int]]) -> None:
        """Prompt one object of the newest picture that was tracked, under its stamp. boxes: one of each picture"""
        stamp = self.log.stamps[-1]
        box = np.array(boxes[picture_at(stamp, rate, len(boxes))], np.float32)
        self.add_prompts([Prompt(box=box)], STEP_TIMEOUT, stamp=stamp)

    def wait(self, seconds: float) -> None:
        """Let the run go on for some seconds. Raises ChildDied when a process has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, 0.5))

    def progress(self) -> str:
        status = self._newest_status()
        dropped = sum(drops_of(status).values())
        return f"{status.received} images received, {status.published} published, {dropped} dropped"

    def finish(self) -> None:
        self.log.status = self.get_state().status

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def _on_masks(self, message: TrackedMasks, info: dict[str, int]) -> None:
        log = self.log
        log.stamps.append(to_ns(message.header.stamp))
        log.received.append(to_ns(message.received))
        log.published.append(info["source_timestamp"])  # of the middleware, when the message was given to it
        log.gaps += message.sequence - self._sequence - 1
        self._sequence = message.sequence
        self.masks += 1

    def _on_status(self, message: TrackerStatus) -> None:
        super()._on_status(message)
        self.log.times.append(time.monotonic())
        self.log.resident.append(message.process_bytes)
        ended = message.published + sum(drops_of(message).values())
        self.log.unbalanced += message.received != ended + message.waiting or message.waiting > MOST_WAITING


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has taken so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
