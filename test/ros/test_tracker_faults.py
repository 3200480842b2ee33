"""What a robot sees when the tracker itself fails: steps that hang, are slow, raise, lack memory or make no sense."""

from __future__ import annotations

import itertools
import time

import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.duration import Duration
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.parameter import Parameter
from rclpy.qos import LivelinessPolicy, QoSProfile
from sam2s_ros.msg import Prompt, TrackedMasks, TrackerStatus
from sam2s_ros.srv import AddPrompts, GetState

BOX = Prompt(box=[10.0, 12.0, 34.0, 36.0])
COUNTED = ("published", "dropped_overload", "dropped_stamp", "dropped_image", "dropped_disabled", "dropped_error",
           "dropped_late", "waiting")  # fmt: skip
_names = (f"/faulty_{number}" for number in itertools.count(1))


class Faulty:
    """An active tracker process in a namespace of its own, whose steps a test lets fail."""

    def __init__(self, graph, start_tracker, camera, folder, **parameters):
        self.graph, self.camera, self.fault = graph, camera, folder / "fault"
        self.name = f"{next(_names)}/tracker"
        given = dict(step_timeout=0.5, hang_exit=0.0, max_step_errors=3, warm_up=False, input_timeout=3600.0)
        namespace = self.name.removesuffix("/tracker")
        self.process = start_tracker(
            remap=(f"__ns:={namespace}", f"image:={camera.topic}"), fault=self.fault, **{**given, **parameters}
        )
        self.masks = graph.collect(TrackedMasks, f"{self.name}/masks")
        self.statuses = graph.collect(TrackerStatus, f"{self.name}/status")
        self.wait_for(TrackerStatus.STATE_WAITING, 60)
        camera.first(lambda: self.masks)

    def wait_for(self, state: int, timeout: float = 20.0) -> TrackerStatus:
        """The next heartbeat that says so."""
        seen = len(self.statuses)
        found = lambda: next((s for s in list(self.statuses)[seen:] if s.state == state), None)  # noqa: E731
        return self.graph.wait_until(found, timeout, lambda: f"state {state}:\n{self.process.output}")

    def send(self, fault: str | None = None) -> tuple[int, TrackerStatus]:
        """Send an image, whose step has a fault, to its end; return its stamp and the status then."""
        if fault is not None:
            self.fault.write_text(f"{fault} 1")
        before = self.status().received
        stamp = self.camera.send()
        ended = lambda: (s := self.status()).received == before + 1 and not s.waiting and s  # noqa: E731
        return stamp, self.graph.wait_until(ended, 20, lambda: f"the end of an image:\n{self.process.output}")

    def status(self) -> TrackerStatus:
        """As of now, with its counters checked."""
        status = self.graph.call(GetState, f"{self.name}/get_tracker_state").status
        assert status.received == sum(getattr(status, name) for name in COUNTED)
        return status

    def prompt(self, *prompts) -> AddPrompts.Response:
        return self.graph.call(AddPrompts, f"{self.name}/add_prompts", AddPrompts.Request(prompts=prompts))

    def put(self, **parameters) -> None:
        values = [Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        answer = self.graph.call(
            SetParameters, f"{self.name}/set_parameters", SetParameters.Request(parameters=values)
        )
        assert all(result.successful for result in answer.results), answer


@pytest.fixture(scope="module")
def faulty(graph, start_tracker, new_camera, tmp_path_factory):
    return Faulty(graph, start_tracker, new_camera(), tmp_path_factory.mktemp("faulty"))


def test_p07_late_masks_are_dropped_and_counted_or_flagged(faulty):
    before = faulty.status()
    faulty.put(max_output_age=0.2)
    stamp, status = faulty.send("sleep")
    assert faulty.masks.of(stamp) is None and status.dropped_late == before.dropped_late + 1
    assert status.published == before.published and status.state == TrackerStatus.STATE_ERROR
    assert "s after their image came (max_output_age is 0.2 s) and were not published" in status.message

    faulty.put(on_late="flag")
    stamp, status = faulty.send("sleep")
    late = faulty.graph.wait_until(lambda: faulty.masks.of(stamp), 20)
    assert late.late and late.sequence == before.published + 1 == status.published
    assert status.dropped_late == before.dropped_late + 1 and status.state == TrackerStatus.STATE_ERROR

    faulty.put(max_output_age=60.0)
    stamp, status = faulty.send("sleep")
    assert not faulty.graph.wait_until(lambda: faulty.masks.of(stamp), 20).late
    assert status.state == TrackerStatus.STATE_RUNNING
    faulty.put(max_output_age=0.0, on_late="drop")


def test_p10_a_subscriber_that_asks_learns_of_missing_masks_and_of_a_hung_worker(faulty):
    alive, missed = [], []
    asked = QoSProfile(
        depth=5,
        deadline=Duration(seconds=0.5),
        liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
        liveliness_lease_duration=Duration(seconds=1),
    )
    events = SubscriptionEventCallbacks(
        liveliness=lambda event: alive.append(event.alive_count), deadline=lambda event: missed.append(event)
    )
    subscription = faulty.graph.node.create_subscription(
        TrackedMasks, f"{faulty.name}/masks", lambda message: None, asked, event_callbacks=events
    )
    wait = faulty.graph.wait_until
    wait(lambda: alive and alive[-1] == 1, 20, lambda: "a live worker")
    faulty.send()
    wait(lambda: missed, 20, lambda: "a deadline that is missed: there was one image only")
    time.sleep(2)
    wait(lambda: alive[-1] == 1, 20, lambda: "a worker that is alive without images for longer than the lease")
    faulty.fault.touch()
    faulty.camera.send()
    wait(lambda: alive[-1] == 0, 20, lambda: "word of the hung worker")
    assert faulty.wait_for(TrackerStatus.STATE_ERROR), "while the heartbeat goes on"
    faulty.fault.unlink()
    wait(lambda: alive[-1] == 1, 20, lambda: "the worker to be alive again")
    faulty.graph.node.destroy_subscription(subscription)
