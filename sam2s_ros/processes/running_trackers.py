"""The trackers of the graph that this shell is in, for commands that look at them or ask them."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import rclpy
from rclpy.node import Node

from sam2s_model.errors import ConfigError, ErrorCode, RequestError
from sam2s_model.similar import meant
from sam2s_ros.interfaces import qos
from sam2s_ros.msg import TrackedMasks, TrackerStatus
from sam2s_ros.processes.discovery import KnownTo
from sam2s_ros.processes.process import initialise
from sam2s_ros.processes.spinning import NodeThread

STATUS_TYPE = "sam2s_ros/msg/TrackerStatus"
SETTLE = 1.0  # s after the first tracker was found, in which others are
POLL = 0.05  # s
RATE_OVER = 3.0  # s over which the rate of masks is taken


def where() -> str:
    """Name the graph that this process is in."""
    return f"domain {os.environ.get('ROS_DOMAIN_ID') or 0}"


def full_name(name: str) -> str:
    """Return a node's name as the graph has it. name: as it was typed, with or without the slash before it"""
    return name if name.startswith("/") else f"/{name}"


def tracker_names(node: Node) -> list[str]:
    """List the trackers that publish a heartbeat: full names, sorted."""
    topics = node.get_topic_names_and_types()
    found = (topic for topic, types in topics if STATUS_TYPE in types and topic.endswith("/status"))
    return sorted(topic.removesuffix("/status") for topic in found if node.count_publishers(topic))


@dataclass
class FollowedTracker:
    """What one tracker has sent since it was found.

    name: full; status, masks: its newest; heard: steady clock, s, when the status came; statuses, count: how many of
    each; arrivals: steady clock, s, of the newest masks
    """

    name: str
    status: TrackerStatus | None = None
    masks: TrackedMasks | None = None
    heard: float | None = None
    statuses: int = 0
    count: int = 0
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def silence(self) -> float | None:
        """Return the s since the newest heartbeat; None when there was none."""
        return None if self.heard is None else time.monotonic() - self.heard

    def rate(self) -> float:
        """Return the rate at which masks come, Hz, over the last RATE_OVER s."""
        recent = [at for at in list(self.arrivals) if time.monotonic() - at <= RATE_OVER]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and recent[-1] > recent[0] else 0.0

    def on_status(self, message: TrackerStatus) -> None:
        self.status, self.heard = message, time.monotonic()
        self.statuses += 1

    def on_masks(self, message: TrackedMasks) -> None:
        self.masks = message
        self.count += 1
        self.arrivals.append(time.monotonic())


class RunningTrackers:
    """A node of this process that finds trackers and follows them. Use as a context.

    Callbacks run in a thread of its own; methods are called from one thread.

    node_name: its own; node: for further questions
    """

    def __init__(self, node_name: str):
        self._node_name = node_name
        self._followed: dict[str, FollowedTracker] = {}

    def __enter__(self) -> RunningTrackers:
        initialise()
        self.node = rclpy.create_node(self._node_name)
        self._thread = NodeThread(self.node)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.close(5.0)
        rclpy.try_shutdown()

    def names(self, patience: float, wanted: Sequence[str] = ()) -> list[str]:
        """Find trackers; wait for the first one, and for those that are wanted, `patience` s at most.

        wanted: full names
        """
        deadline = time.monotonic() + patience
        while not (found := tracker_names(self.node)) or not set(wanted) <= set(found):
            if time.monotonic() >= deadline:
                return found
            time.sleep(POLL)
        time.sleep(min(SETTLE, patience))
        return tracker_names(self.node)

    def the_one(self, name: str, patience: float) -> str:
        """Return the full name of the tracker that is meant: of this name, or the only one.

        Raises ConfigError where there is none, or several and no name.
        """
        wanted = full_name(name)
        found = self.names(patience, [wanted] if name else [])
        if not found:
            raise ConfigError(
                f"no tracker was found in {where()} within {patience:g} s: start one with `sam2s node`, "
                "or see `sam2s doctor --node`"
            )
        if name and wanted not in found:
            raise ConfigError(f"there is no tracker {wanted}{meant(wanted, found)}: expected one of {', '.join(found)}")
        if not name and len(found) > 1:
            raise ConfigError(f"there are {len(found)} trackers: choose one with --tracker, {' or '.join(found)}")
        return wanted if name else found[0]

    def follow(self, names: Sequence[str] = ()) -> list[FollowedTracker]:
        """Follow these trackers, or all that are there by now, and return all that are followed. Call it repeatedly."""
        for name in names or tracker_names(self.node):
            if name not in self._followed:
                self._followed[name] = made = FollowedTracker(name)
                self.node.create_subscription(TrackerStatus, f"{name}/status", made.on_status, qos.own(qos.NEWEST))
                self.node.create_subscription(TrackedMasks, f"{name}/masks", made.on_masks, qos.own(qos.NEWEST))
        return [self._followed[name] for name in sorted(self._followed)]

    def call(self, kind: type, tracker: str, service: str, request: Any, timeout: float) -> Any:
        """Ask a service of a tracker and return the answer. Raises RequestError (TIMEOUT) when none comes."""
        client = self.node.create_client(kind, f"{tracker}/{service}")
        known = KnownTo(self.node, tracker)  # after the client: who answers it knows the client, too
        _wait(lambda: client.service_is_ready() and known(), timeout, client.srv_name)
        known.destroy(self.node)
        future = client.call_async(request)
        _wait(future.done, timeout, client.srv_name)
        self.node.destroy_client(client)
        return future.result()


def _wait(condition: Callable[[], bool], timeout: float, name: str) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise RequestError(ErrorCode.TIMEOUT, f"{name} has not answered within {timeout:g} s")
        time.sleep(POLL)
