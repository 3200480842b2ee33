"""Stamps that are wrong, as a robot sees it: what they cost, and where they are named."""

from __future__ import annotations

import itertools
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from sam2s_ros.interfaces import messages
from sam2s_ros.msg import Prompt, TrackedMasks, TrackerStatus
from sam2s_ros.srv import AddPrompts, GetState

BOX = Prompt(box=[10.0, 12.0, 34.0, 36.0])


class Tracker:
    """A tracker process, what it says, and its camera."""

    def __init__(self, graph, start_tracker, camera):
        self.graph, self.name = graph, "/stamped/tracker"
        self.process = start_tracker(remap=("__ns:=/stamped", f"image:={camera.topic}"))
        self.masks = graph.collect(TrackedMasks, f"{self.name}/masks")
        self.reports = graph.collect(DiagnosticArray, "/diagnostics")
        camera.first(lambda: self.masks)

    def masks_of(self, stamp: int) -> TrackedMasks:
        return self.graph.wait_until(
            lambda: self.masks.of(stamp), 20, lambda: f"{self.process.output}\n{self.status()}"
        )

    def status(self) -> TrackerStatus:
        return self.graph.call(GetState, f"{self.name}/get_tracker_state").status

    def settled(self) -> TrackerStatus:
        """The status once no image is on its way."""
        return self.graph.wait_until(lambda: (s := self.status()).waiting == 0 and s, 20)

    def wait_for_refusal(self, said: str) -> None:
        """Wait until /diagnostics name it; the log says one refusal in 5 s."""

        def refusals():
            values = (v for report in list(self.reports) for status in report.status for v in status.values)
            return [value.value for value in values if value.key == "last_refused"]

        self.graph.wait_until(
            lambda: any(said in refusal for refusal in refusals()), 20, lambda: f"{said} in {refusals()}"
        )

    def prompt(self, *prompts, stamp: int = 0) -> AddPrompts.Response:
        request = AddPrompts.Request(stamp=messages.to_time(stamp), prompts=prompts)
        return self.graph.call(AddPrompts, f"{self.name}/add_prompts", request)

    def put(self, **parameters) -> None:
        values = [Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        request = SetParameters.Request(parameters=values)
        answer = self.graph.call(SetParameters, f"{self.name}/set_parameters", request)
        assert all(result.successful for result in answer.results), answer


@pytest.fixture(scope="module")
def stream(new_camera):
    return new_camera()


@pytest.fixture(scope="module")
def tracker(graph, start_tracker, stream):
    return Tracker(graph, start_tracker, stream)


@pytest.fixture
def camera(stream):
    return stream


@pytest.fixture
def fresh(tracker):
    """The tracker without objects or frames."""
    assert tracker.graph.call(Trigger, f"{tracker.name}/reset").success
    return tracker


@pytest.mark.parametrize("policy", ["reset", "refuse"])
@pytest.mark.parametrize("offset", [48 * 3600, -48 * 3600])
def test_p39_one_image_with_a_stray_stamp_costs_no_object(fresh, camera, policy, offset):
    fresh.put(on_time_jump=policy)
    fresh.masks_of(camera.send())
    assert fresh.prompt(BOX).success
    before = fresh.settled()
    camera.publisher.publish(camera.message(time.time_ns() + offset * 10**9, camera.picture(1)))
    fresh.graph.wait_until(lambda: fresh.status().received == before.received + 1, 20)
    for _ in range(3):
        assert len(fresh.masks_of(camera.send()).objects) == 1
    after = fresh.settled()
    assert (after.dropped_stamp, after.published) == (before.dropped_stamp + 1, before.published + 3)
    fresh.wait_for_refusal(f"s {'ahead of' if offset > 0 else 'older than'} the newest")


def test_p39_a_stamp_that_is_no_time_is_refused(fresh, camera):
    """It could not be given back in a message: the status would raise from then on."""
    fresh.masks_of(camera.send())
    before = fresh.settled()
    image = camera.message(camera.stamp + 1, camera.picture(0))
    image.header.stamp.sec, image.header.stamp.nanosec = 2**31 - 1, 2**32 - 1
    camera.publisher.publish(image)
    fresh.graph.wait_until(lambda: fresh.status().received == before.received + 1, 20)
    after = fresh.settled()
    assert after.dropped_stamp == before.dropped_stamp + 1
    fresh.wait_for_refusal("stamp has 4294967295 nanoseconds beside its seconds")
    fresh.masks_of(camera.send())


def test_p39_stamps_of_another_clock_are_said_in_status_diagnostics_and_log(fresh, camera):
    said = "s behind the node's clock when images come: is it a recording, or are they times since boot?"
    stamps = itertools.count(300 * 10**9, 10**8)

    def named():
        camera.publisher.publish(camera.message(next(stamps), camera.picture(0)))
        time.sleep(0.1)
        return said in fresh.status().message

    fresh.graph.wait_until(named, 20, lambda: fresh.status().message)
    assert fresh.status().state == TrackerStatus.STATE_RUNNING and said in fresh.process.output
    entries = lambda: [s for r in list(fresh.reports) for s in r.status]  # noqa: E731
    fresh.graph.wait_until(lambda: any(s.level == DiagnosticStatus.WARN and said in s.message for s in entries()), 20)
