"""When another node knows what this one has."""

from __future__ import annotations

import time

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

ASK_AGAIN = 0.5  # s after which a question that may have been lost is asked again
PATIENCE = 5.0  # s
UNKNOWN = "_UNKNOWN_"  # of the names that the middleware gives to ends whose node it has not heard of yet


class KnownTo:
    """Tells when another node's process has discovered every publisher, subscription and client that `node` had before.

    That this side has matched the other side does not say so: what is sent then may be lost, as may be the answer of a
    service that looks ready. But DDS announces the ends of a process in the order in which they were made: a process
    that answers the client that was made last knows the others. The question is for no parameter at all, so that it can
    be asked again and again; what is asked only once comes after it.

    name: of the other node, with its namespace. Needs an executor that spins `node` in another thread.
    """

    def __init__(self, node: Node, name: str):
        self._client = node.create_client(GetParameters, f"{name}/get_parameters")
        self._asked: list = []
        self._next = 0.0

    def __call__(self) -> bool:
        """Tell whether it has answered; ask when it is time to. Call it until it is True."""
        if any(answer.done() for answer in self._asked):
            return True
        now = time.monotonic()
        if now >= self._next and self._client.service_is_ready():
            self._asked.append(self._client.call_async(GetParameters.Request()))
            self._next = now + ASK_AGAIN
        return False

    def forget(self) -> None:
        """Count only new answers from now on: the other process may be another one since."""
        for answer in self._asked:
            self._client.remove_pending_request(answer)
        self._asked, self._next = [], 0.0

    def destroy(self, node: Node) -> None:
        self.forget()
        node.destroy_client(self._client)


class KnownToSubscribers:
    """As `KnownTo`, for all nodes that subscribe to a topic now. Call it until it is True.

    patience: s to wait for a node that does not answer, perhaps as it has no parameter services
    silent: names of the nodes that did not answer in that time
    """

    def __init__(self, node: Node, topic: str, patience: float = PATIENCE):
        self._node, self._deadline = node, time.monotonic() + patience
        self.silent: tuple[str, ...] = ()
        ends = node.get_subscriptions_info_by_topic(topic)
        names = {
            f"{end.node_namespace.rstrip('/')}/{end.node_name}" for end in ends if end.node_name != node.get_name()
        }
        self._others = {name: KnownTo(node, name) for name in sorted(names) if UNKNOWN not in name}

    def __call__(self) -> bool:
        waited_for = {name: known for name, known in self._others.items() if not known()}
        if waited_for and time.monotonic() < self._deadline:
            return False
        self.silent = tuple(waited_for)
        for known in self._others.values():
            known.destroy(self._node)
        self._others = {}
        return True
