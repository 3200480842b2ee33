"""Call the callbacks of nodes in a thread, whatever is destroyed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from sam2s_ros.processes.callbacks import one_line

POLL = 0.1  # s; how late it is seen at most that it is to end
MAX_TRIES = 20  # of the executor, in a row, until what it raises ends the thread


def spin(executor: Executor, leaving: threading.Event, tell: Callable[[str, Exception], object]) -> None:
    """Spin as executor.spin() does, but end between two callbacks: an executor that is shut down while it waits raises.

    What the executor raises itself, as when something it waits for is destroyed in another thread, does not come again
    when it waits anew. Where the executor lets out what a callback raises, that costs this one call. What is raised
    MAX_TRIES times in a row, with nothing that went well between, is raised here as well.

    tell: what failed, and with which error
    """
    tries = 0
    while not leaving.is_set():
        error = _spin_once(executor)
        tries = 0 if error is None else tries + 1
        if error is not None and tries == MAX_TRIES:
            raise error
        if error is not None:
            tell("the executor's wait", error)


def _spin_once(executor: Executor) -> Exception | None:
    """Wait POLL s at most, since executor.wake() would not end the wait. Return what was raised."""
    try:
        executor.spin_once(POLL)
    except ExternalShutdownException:
        raise
    except Exception as error:
        return error
    return None


class NodeThread:
    """A thread that calls a node's callbacks, one at a time, until `close`; what raises is logged as a warning."""

    def __init__(self, node: Node):
        self._node, self._closing = node, threading.Event()
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        told = self._executor, self._closing, self._tell
        self._thread = threading.Thread(target=spin, args=told, name=node.get_name(), daemon=True)
        self._thread.start()

    def _tell(self, _: str, error: Exception) -> None:
        self._node.get_logger().warning(f"a callback, or the wait for one, failed: {one_line(error)}")

    def close(self, timeout: float) -> None:
        """End the thread, which is waited for `timeout` s at most, and destroy the node."""
        self._closing.set()  # an executor must not be shut down while another thread waits in it
        self._thread.join(timeout)
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
