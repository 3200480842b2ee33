"""A node of this process that follows the tracker of a graph and asks it: under demo, soak and `eval live`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import rclpy
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from sam2s_model.errors import CheckpointError, ErrorCode, RequestError
from sam2s_model.prompts import Prompt
from sam2s_ros.interfaces.messages import prompt_message, to_time
from sam2s_ros.interfaces.qos import OUTPUT
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.processes.awake import AwakeClock
from sam2s_ros.processes.discovery import KnownTo
from sam2s_ros.processes.graph import Graph, tail
from sam2s_ros.processes.local_graph import DRAIN_TIMEOUT, LOAD_TIMEOUT, QUIET
from sam2s_ros.processes.process import initialise
from sam2s_ros.processes.spinning import NodeThread
from sam2s_ros.srv import AddPrompts, GetState

# Deeper than the tracker's own: what this process does besides must not cost masks.
MASKS_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE)
POLL = 0.01  # s between two looks at the graph
ACTIVE = (TrackerStatus.STATE_WAITING, TrackerStatus.STATE_RUNNING, TrackerStatus.STATE_STALE_INPUT)
CALL_TIMEOUT = 15.0  # s
NOT_CONFIGURED = "not configured: "

Client = TypeVar("Client", bound="GraphClient")


class GraphClient:
    """Use as a context. Callbacks run in a thread of its own; methods block and are called from one thread.

    Whatever waits raises ChildDied when a process of the graph has ended, until `stop_watching`.

    node_name: of the node; status: the tracker's newest; masks: messages with masks that have come
    """

    node_name = "graph_client"

    def __init__(self, graph: Graph):
        self._graph = graph
        self._watching = True
        self.status: TrackerStatus | None = None
        self.masks = 0

    def __enter__(self: Client) -> Client:
        initialise()
        self._node = node = rclpy.create_node(self.node_name)
        node.create_subscription(TrackerStatus, "tracker/status", self._on_status, OUTPUT)
        self._prompts = node.create_client(AddPrompts, "tracker/add_prompts")
        self._state = node.create_client(GetState, "tracker/get_tracker_state")
        self._connect(node)
        self._thread = NodeThread(node)
        return self

    def _connect(self, node: Node) -> None:
        """Make further subscriptions, of the masks among them, and clients."""

    def __exit__(self, *_: object) -> None:
        self._thread.close(CALL_TIMEOUT)
        rclpy.try_shutdown()

    def stop_watching(self) -> None:
        """Let processes end from here on."""
        self._watching = False

    def activated(self, say: Callable[[str], Any]) -> TrackerStatus:
        """Wait until the tracker is active, and say which it is. Returns its status.

        Raises CheckpointError with the tracker's own sentence when it cannot be configured, TimeoutError with the end
        of its log when it takes too long.
        """
        try:
            self._wait(self._is_active, LOAD_TIMEOUT, "the tracker to become active")
        except TimeoutError as error:
            log = self._graph.folder / "tracker.log"
            raise TimeoutError(f"{error}; the last lines of {log}:\n{tail(log)}") from error
        status = self._newest_status()
        say(f"tracker is active: {status.model} on {status.device}")
        return status

    def _is_active(self) -> bool:
        status = self.status
        if status is not None and status.message.startswith(NOT_CONFIGURED):
            raise CheckpointError(status.message.removeprefix(NOT_CONFIGURED))
        return status is not None and status.state in ACTIVE

    def add_prompts(self, prompts: Sequence[Prompt], timeout: float, *, stamp: int = 0) -> AddPrompts.Response:
        """Prompt objects of an image. stamp: its, ns; 0: the newest processed one. Raises RequestError."""
        request = AddPrompts.Request(stamp=to_time(stamp), prompts=[prompt_message(prompt) for prompt in prompts])
        answer = self._call(self._prompts, request, timeout)
        if not answer.success:
            raise RequestError(ErrorCode(answer.error), f"the tracker refused the prompts: {answer.message}")
        return answer

    def get_state(self) -> GetState.Response:
        return self._call(self._state, GetState.Request())

    def wait_until_quiet(self) -> None:
        """Wait until nothing waits in the tracker and its counters have stood still."""
        clock = AwakeClock()
        since, last = clock(), None

        def still() -> bool:
            nonlocal since, last
            status, at = self._newest_status(), clock()
            now = (status.received, status.published, self.masks)
            if now != last or status.waiting:
                since, last = at, now
            return at - since >= QUIET

        self._wait(still, DRAIN_TIMEOUT, "the tracker to finish the frames that it has")

    def _newest_status(self) -> TrackerStatus:
        if self.status is None:
            raise RuntimeError("the tracker has sent no status yet")
        return self.status

    def _wait_until_ready(self, timeout: float, *clients: Any) -> None:
        """Wait until there are servers for these clients."""
        for client in clients:
            self._wait(client.service_is_ready, timeout, f"service {client.srv_name}")

    def _wait_until_known(self, timeout: float, *names: str) -> None:
        """Wait until these nodes have discovered this one's clients.

        Before, the answer of a service that is ready may be lost.
        """
        for name in names:
            known = KnownTo(self._node, name)
            self._wait(known, timeout, f"node {name} to know this one")
            known.destroy(self._node)

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        spent = AwakeClock()  # a whole graph that is stopped and continued, as by Ctrl-Z and fg, is late for nothing
        while not condition():
            self._check()
            if spent() > timeout:
                raise TimeoutError(f"waited {timeout:g} s for {what}")
            time.sleep(POLL)

    def _check(self) -> None:
        if self._watching:
            self._graph.check()

    def _call(self, client: Any, request: Any, timeout: float = CALL_TIMEOUT) -> Any:
        future = client.call_async(request)
        self._wait(future.done, timeout, f"an answer of {client.srv_name}")
        return future.result()

    def _on_status(self, message: TrackerStatus) -> None:
        self.status = message
