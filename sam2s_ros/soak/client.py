"""The soak's own node: the subscriber, and what it writes down."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_srvs.srv import SetBool

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.prompts import Prompt
from sam2s_ros.interfaces.messages import to_ns
from sam2s_ros.msg import TrackedMasks, TrackerStatus
from sam2s_ros.processes.graph_client import CALL_TIMEOUT, DemoClient
from sam2s_ros.soak.camera import picture_at

# Deeper than the tracker's own: what this process does besides must not cost masks.
MASKS_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE)
TICKS = os.sysconf("SC_CLK_TCK")
MOST_WAITING = 3  # images: one being tracked, one waiting, one that has arrived and is about to take its place
DROPS = tuple(name for name in TrackerStatus.get_fields_and_field_types() if name.startswith("dropped_"))


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


class SoakClient(DemoClient):
    """As `DemoClient`. pids: of the processes whose CPU time is measured, by name"""

    def __init__(self, check: Callable[[], None], pids: Mapping[str, int]):
        super().__init__(check)
        self.log, self._pids, self._sequence = SoakLog(), pids, 0

    def _subscribe(self, node: Node) -> None:
        node.create_subscription(TrackedMasks, "tracker/masks", self._on_masks, MASKS_QOS)
        self._camera = node.create_client(SetBool, "camera/run")

    def start_camera(self, timeout: float, *, settle: float) -> None:
        """Once it and the tracker have found one another; settle: s until both know it."""
        for client in (self._camera, self._prompts, self._state):
            self._wait(client.service_is_ready, timeout, f"service {client.srv_name}")
        self._wait_until_known(timeout, "camera", "tracker")
        ready = SetBool.Request(data=False)
        self._wait(
            lambda: self._call(self._camera, ready, CALL_TIMEOUT).success, timeout, "the camera to have a subscriber"
        )
        time.sleep(settle)
        self.log.began, self._cpu_began = time.monotonic(), self._cpu()
        self._call(self._camera, SetBool.Request(data=True), CALL_TIMEOUT)

    def stop_camera(self) -> None:
        self.log.sent = int(self._call(self._camera, SetBool.Request(data=False), CALL_TIMEOUT).message)
        self.log.ended = time.monotonic()
        self.log.cpu = {name: seconds - self._cpu_began[name] for name, seconds in self._cpu().items()}

    def wait_for_masks(self, timeout: float) -> None:
        self._wait(lambda: self.masks > 0, timeout, "the first masks")

    def prompt(self, rate: float, boxes: list[tuple[int, int, int, int]], timeout: float) -> None:
        """Prompt one object of the newest picture that was tracked, under its stamp. boxes: one of each picture"""
        stamp = self.log.stamps[-1]
        box = boxes[picture_at(stamp, rate, len(boxes))]
        answer = self.add_prompts([Prompt(box=box)], timeout, stamp=stamp)
        if not answer.success:
            raise RequestError(ErrorCode(answer.error), f"the tracker refused the prompt: {answer.message}")

    def wait(self, seconds: float) -> None:
        """Let the run go on for some seconds. Raises ChildDied when a process has ended."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._check_all()
            time.sleep(min(left, 0.5))

    def progress(self) -> str:
        status = self.status
        dropped = sum(getattr(status, name) for name in DROPS)
        return f"{status.received} images received, {status.published} published, {dropped} dropped"

    def finish(self) -> None:
        self.log.status = self.get_state().status

    def _cpu(self) -> dict[str, float]:
        return {name: _cpu_seconds(pid) for name, pid in self._pids.items()}

    def _on_masks(self, message: TrackedMasks, info: dict) -> None:
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
        ended = message.published + sum(getattr(message, name) for name in DROPS)
        self.log.unbalanced += message.received != ended + message.waiting or message.waiting > MOST_WAITING


def _cpu_seconds(pid: int) -> float:
    """CPU time that a process has taken so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
