"""The demo's own node: asks the tracker and the replay, and follows their counters."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from std_srvs.srv import Trigger

from sam2s_ros.interfaces.messages import to_ns
from sam2s_ros.msg import TrackedMasks
from sam2s_ros.processes.awake import AwakeClock
from sam2s_ros.processes.graph import Graph
from sam2s_ros.processes.graph_client import MASKS_QOS, POLL
from sam2s_ros.processes.local_graph import GRAPH_TIMEOUT, STEP_TIMEOUT
from sam2s_ros.processes.replay_client import ReplayClient

PROGRESS_EVERY = 5.0  # s
RECORD_PATIENCE = 5.0  # s without a new mask at the recorder after which it is not waited for


class DemoClient(ReplayClient):
    """As `ReplayClient`, of a graph with a recorder."""

    node_name = "demo"

    def __init__(self, graph: Graph):
        super().__init__(graph)
        self._newest_masks: TrackedMasks | None = None

    def _connect(self, node: Node) -> None:
        super()._connect(node)
        node.create_subscription(TrackedMasks, "tracker/masks", self._on_masks, MASKS_QOS)
        self._step = node.create_client(Trigger, "replay/step")
        self._parameters = node.create_client(SetParameters, "replay/set_parameters")

    def wait_for_graph(self) -> None:
        """Wait until the replay's subscribers, and this node's services, have found one another."""
        clients = (self._prompts, self._state, self._step, self._pause, self._parameters)
        self._wait_until_ready(GRAPH_TIMEOUT, *clients)
        self._wait_until_paused(GRAPH_TIMEOUT, "the tracker and the recorder")
        subscribed = "the recorder to subscribe to the masks"
        self._wait(lambda: self._node.count_subscribers("tracker/masks") >= 2, GRAPH_TIMEOUT, subscribed)
        self._wait_until_known(GRAPH_TIMEOUT, "tracker", "replay")

    def step_frame(self) -> float:
        """Publish one frame and wait for its masks. Returns the tracker's time for it, s."""
        before, sent = self.masks, self.sent
        answer = self._call(self._step, Trigger.Request())
        if not answer.success:
            raise RuntimeError(f"the replay did not publish a frame: {answer.message}")
        self._wait(lambda: self.sent > sent, STEP_TIMEOUT, "the replay to report the frame")
        stepped = f"masks of the frame that the replay stepped ({answer.message})"
        self._wait(lambda: self.masks > before, STEP_TIMEOUT, stepped)
        newest: Any = self._newest_masks
        return (to_ns(newest.finished) - to_ns(newest.received)) * 1e-9

    def set_rate(self, rate: float) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=float(rate))
        request = SetParameters.Request(parameters=[Parameter(name="rate", value=value)])
        answer = self._call(self._parameters, request)
        if not answer.results[0].successful:
            raise RuntimeError(f"the replay refused rate {rate}: {answer.results[0].reason}")

    def wait_until_played(self, on_progress: Callable[[str], Any]) -> None:
        """Wait until the replay has published its last frame."""
        shown = time.monotonic()
        while not self.ended:
            self._check()
            time.sleep(POLL)
            if time.monotonic() - shown >= PROGRESS_EVERY:
                shown = time.monotonic()
                length = self.replay.get("length") or "?"
                on_progress(f"{self.sent} of {length} frames sent, {self.masks} masks received")

    def wait_until_recorded(self, published: int) -> None:
        """Wait until the recorder has all masks, or has received none for a while: what is lost does not come."""
        clock = AwakeClock()
        since, last = clock(), -1
        while (masks := int(self.recorder.get("masks", 0))) < published and clock() - since < RECORD_PATIENCE:
            if masks != last:
                since, last = clock(), masks
            self._check()
            time.sleep(POLL)

    def _on_masks(self, message: TrackedMasks) -> None:
        self._newest_masks = message
        self.masks += 1
