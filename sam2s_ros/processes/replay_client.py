"""A client of a graph whose camera is the replay node."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from std_srvs.srv import SetBool

from sam2s_ros.processes.graph import Graph
from sam2s_ros.processes.graph_client import GraphClient


class ReplayClient(GraphClient):
    """As `GraphClient`. replay, recorder: what these nodes have last reported, as of /diagnostics"""

    def __init__(self, graph: Graph):
        super().__init__(graph)
        self.replay: dict[str, str] = {}
        self.recorder: dict[str, str] = {}

    def _connect(self, node: Node) -> None:
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._pause = node.create_client(SetBool, "replay/set_paused")

    @property
    def sent(self) -> int:
        """Frames that the replay has published, by its last report."""
        return int(self.replay.get("published", 0))

    @property
    def ended(self) -> bool:
        """Whether the replay has published its last frame."""
        return self.replay.get("state") in ("finished", "failed")

    def _wait_until_paused(self, timeout: float, seen: str) -> None:
        """Wait until the replay is paused before its first frame. seen: the nodes that it waits for"""
        self._wait(lambda: self.replay.get("state") == "paused", timeout, f"the replay to see {seen}")

    def resume(self) -> None:
        self._call(self._pause, SetBool.Request(data=False))

    def pause(self) -> None:
        self._call(self._pause, SetBool.Request(data=True))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            if status.name == "replay: source":
                self.replay = values
            elif status.name == "recorder: messages":
                self.recorder = values
