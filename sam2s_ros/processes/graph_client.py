"""The demo's own node: asks the tracker and the replay, and follows their counters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from sam2s_model.errors import CheckpointError
from sam2s_model.prompts import Prompt
from sam2s_ros.interfaces.messages import prompt_message, to_ns, to_time
from sam2s_ros.interfaces.qos import OUTPUT
from sam2s_ros.msg import TrackedMasks, TrackerStatus
from sam2s_ros.processes.awake import AwakeClock
from sam2s_ros.processes.discovery import KnownTo
from sam2s_ros.processes.process import initialise
from sam2s_ros.srv import AddPrompts, GetState

POLL = 0.01  # s between two looks at the graph
ACTIVE = (TrackerStatus.STATE_WAITING, TrackerStatus.STATE_RUNNING, TrackerStatus.STATE_STALE_INPUT)
PROGRESS_EVERY = 5.0  # s
CALL_TIMEOUT = 15.0  # s
SPIN = 0.1  # s that the thread of callbacks waits before it looks whether it is to end


class DemoClient:
    """Use as a context. Callbacks run in a thread of its own; methods block and are called from one thread.

    check: called while waiting; raises when a process of the graph has died
    """

    def __init__(self, check: Callable[[], None]):
        self._check = check
        self._watching = True
        self.status: TrackerStatus | None = None
        self.replay: dict[str, str] = {}
        self.recorder: dict[str, str] = {}
        self.masks = 0
        self._newest_masks: TrackedMasks | None = None

    def __enter__(self) -> DemoClient:
        initialise()
        self._node = node = rclpy.create_node("demo")
        node.create_subscription(TrackerStatus, "tracker/status", self._on_status, OUTPUT)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._subscribe(node)
        self._prompts = node.create_client(AddPrompts, "tracker/add_prompts")
        self._state = node.create_client(GetState, "tracker/get_tracker_state")
        self._step = node.create_client(Trigger, "replay/step")
        self._pause = node.create_client(SetBool, "replay/set_paused")
        self._parameters = node.create_client(SetParameters, "replay/set_parameters")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="demo client", daemon=True)
        self._thread.start()
        return self

    def _subscribe(self, node: Node) -> None:
        node.create_subscription(TrackedMasks, "tracker/masks", self._on_masks, OUTPUT)

    def _spin(self) -> None:
        while not self._closing.is_set():
            self._executor.spin_once(timeout_sec=SPIN)

    def __exit__(self, *_: object) -> None:
        self._closing.set()  # an executor must not be shut down while another thread waits in it
        self._thread.join(CALL_TIMEOUT)
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        rclpy.try_shutdown()

    @property
    def sent(self) -> int:
        """Frames that the replay has published, by its last report."""
        return int(self.replay.get("published", 0))

    @property
    def ended(self) -> bool:
        return self.replay.get("state") in ("finished", "failed")

    def stop_watching(self) -> None:
        """From here on a process may end."""
        self._watching = False

    def wait_until_active(self, timeout: float) -> TrackerStatus:
        """Raises CheckpointError with the tracker's own sentence when it cannot be configured."""

        def active() -> bool:
            status = self.status
            if status is not None and status.message.startswith("not configured: "):
                raise CheckpointError(status.message.removeprefix("not configured: "))
            return status is not None and status.state in ACTIVE

        self._wait(active, timeout, "the tracker to become active")
        return self.status

    def wait_for_graph(self, timeout: float) -> None:
        """Until the replay's subscribers, and this node's services, have found one another."""
        for client in (self._prompts, self._state, self._step, self._pause, self._parameters):
            self._wait(client.service_is_ready, timeout, f"service {client.srv_name}")
        self._wait(
            lambda: self.replay.get("state") == "paused", timeout, "the replay to see the tracker and the recorder"
        )
        self._wait(
            lambda: self._node.count_subscribers("tracker/masks") >= 2,
            timeout,
            "the recorder to subscribe to the masks",
        )
        self._wait_until_known(timeout, "tracker", "replay")

    def step_frame(self, timeout: float) -> float:
        """Publish one frame and wait for its masks. Returns the tracker's time for it, s."""
        before, sent = self.masks, self.sent
        answer = self._call(self._step, Trigger.Request(), CALL_TIMEOUT)
        if not answer.success:
            raise RuntimeError(f"the replay did not publish a frame: {answer.message}")
        self._wait(lambda: self.sent > sent, timeout, "the replay to report the frame")
        self._wait(
            lambda: self.masks > before, timeout, f"masks of the frame that the replay stepped ({answer.message})"
        )
        newest = self._newest_masks
        return (to_ns(newest.finished) - to_ns(newest.received)) * 1e-9

    def add_prompts(self, prompts: list[Prompt], timeout: float, *, stamp: int = 0) -> AddPrompts.Response:
        """stamp: ns, of the image that they are for; 0: the newest processed one"""
        request = AddPrompts.Request(stamp=to_time(stamp), prompts=[prompt_message(prompt) for prompt in prompts])
        return self._call(self._prompts, request, timeout)

    def get_state(self) -> GetState.Response:
        return self._call(self._state, GetState.Request(), CALL_TIMEOUT)

    def set_rate(self, rate: float) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=float(rate))
        answer = self._call(
            self._parameters, SetParameters.Request(parameters=[Parameter(name="rate", value=value)]), CALL_TIMEOUT
        )
        if not answer.results[0].successful:
            raise RuntimeError(f"the replay refused rate {rate}: {answer.results[0].reason}")

    def resume(self) -> None:
        self._call(self._pause, SetBool.Request(data=False), CALL_TIMEOUT)

    def pause(self) -> None:
        self._call(self._pause, SetBool.Request(data=True), CALL_TIMEOUT)

    def wait_until_played(self, on_progress: Callable[[str], Any]) -> None:
        """Until the replay has published its last frame."""
        shown = time.monotonic()
        while not self.ended:
            self._check_all()
            time.sleep(POLL)
            if time.monotonic() - shown >= PROGRESS_EVERY:
                shown = time.monotonic()
                on_progress(
                    f"{self.sent} of {self.replay.get('length') or '?'} frames sent, {self.masks} masks received"
                )

    def wait_until_quiet(self, quiet: float, timeout: float) -> None:
        """Until nothing waits in the tracker and its counters have stood still for `quiet` s."""
        clock = AwakeClock()
        since, last = clock(), None

        def still() -> bool:
            nonlocal since, last
            status, at = self.status, clock()
            now = (status.received, status.published, self.masks)
            if now != last or status.waiting:
                since, last = at, now
            return at - since >= quiet

        self._wait(still, timeout, "the tracker to finish the frames that it has")

    def wait_until_recorded(self, published: int, patience: float) -> None:
        """Until the recorder has all masks, or has received none for `patience` s: what is lost does not come."""
        clock = AwakeClock()
        since, last = clock(), -1
        while (masks := int(self.recorder.get("masks", 0))) < published and clock() - since < patience:
            if masks != last:
                since, last = clock(), masks
            self._check_all()
            time.sleep(POLL)

    def _wait_until_known(self, timeout: float, *names: str) -> None:
        """Until these nodes have discovered this one's clients: before, the answer of a service that is ready may be lost."""
        for name in names:
            known = KnownTo(self._node, name)
            self._wait(known, timeout, f"node {name} to know this one")
            known.destroy(self._node)

    def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        spent = AwakeClock()  # a whole graph that is stopped and continued, as by Ctrl-Z and fg, is late for nothing
        while not condition():
            self._check_all()
            if spent() > timeout:
                raise TimeoutError(f"waited {timeout:g} s for {what}")
            time.sleep(POLL)

    def _check_all(self) -> None:
        if self._watching:
            self._check()

    def _call(self, client, request, timeout: float):
        future = client.call_async(request)
        self._wait(future.done, timeout, f"an answer of {client.srv_name}")
        return future.result()

    def _on_status(self, message: TrackerStatus) -> None:
        self.status = message

    def _on_masks(self, message: TrackedMasks) -> None:
        self._newest_masks = message
        self.masks += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            if status.name == "replay: source":
                self.replay = values
            elif status.name == "recorder: messages":
                self.recorder = values
