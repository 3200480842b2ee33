"""What a robot sees when the tracker itself fails: steps that hang, are slow, raise, lack memory or make no sense."""

from __future__ import annotations

import itertools
import signal
import sys
import time

import numpy as np
import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState as GetLifecycleState
from rcl_interfaces.srv import SetParameters
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.qos import LivelinessPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from sam2s_ros.msg import ErrorCode, Prompt, TrackedMasks, TrackerStatus
from sam2s_ros.srv import AddPrompts, GetState, RemoveObjects

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from sam2s_model import metrics
from sam2s_model.checkpoint import load_model
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.tracker import Tracker
from sam2s_ros.interfaces import image_codec, messages, qos
from sam2s_ros.overlay import WARNING_COLOUR
from sam2s_ros.tracker import watchdog

BOX = Prompt(box=[10.0, 12.0, 34.0, 36.0])
COUNTED = ("published", "dropped_overload", "dropped_stamp", "dropped_image", "dropped_disabled", "dropped_error",
           "dropped_late", "waiting")  # fmt: skip
_names = (f"/faulty_{number}" for number in itertools.count(1))


class Faulty:
    """An active tracker process in a namespace of its own, whose steps a test lets fail."""

    def __init__(self, graph, start_tracker, camera, folder, **parameters):
        self.graph, self.camera, self.fault = graph, camera, folder / "fault"
        self.name = f"{next(_names)}/tracker"
        given = dict(step_timeout=0.5, max_step_errors=3, warm_up=False, input_timeout=3600.0)
        given |= dict(checkpoint="sam2s_pico", image_size=128)
        given |= dict(prompts_file=folder / "prompts.json", restore=True)
        namespace = self.name.removesuffix("/tracker")
        self.process = start_tracker(
            remap=(f"__ns:={namespace}", f"image:={camera.topic}"), fault=self.fault, **{**given, **parameters}
        )
        self.masks = graph.collect(TrackedMasks, f"{self.name}/masks")
        self.label_images = graph.collect(Image, f"{self.name}/label_image")
        self.statuses = graph.collect(TrackerStatus, f"{self.name}/status")
        self.wait_for(TrackerStatus.STATE_WAITING, 60)
        camera.first(lambda: self.masks)

    def wait_for(self, state: int, timeout: float = 20.0) -> TrackerStatus:
        """The next heartbeat that says so."""
        seen = len(self.statuses)
        found = lambda: next((s for s in list(self.statuses)[seen:] if s.state == state), None)  # noqa: E731
        return self.graph.wait_until(found, timeout, lambda: f"state {state}:\n{self.process.output}")

    def send(self, fault: str | None = None, picture: np.ndarray | None = None) -> tuple[int, TrackerStatus]:
        """Send an image, whose step has a fault, to its end; return its stamp and the status then."""
        if fault is not None:
            self.fault.write_text(f"{fault} 1")
        before = self.status().received
        stamp = self.camera.send(picture)
        ended = lambda: (s := self.status()).received == before + 1 and not s.waiting and s  # noqa: E731
        return stamp, self.graph.wait_until(ended, 20, lambda: f"the end of an image:\n{self.process.output}")

    def masks_of(self, stamp: int) -> TrackedMasks:
        return self.graph.wait_until(
            lambda: self.masks.of(stamp), 20, lambda: f"masks of {stamp}:\n{self.status()}\n{self.process.output}"
        )

    def status(self) -> TrackerStatus:
        """As of now, with its counters checked."""
        status = self.graph.call(GetState, f"{self.name}/get_tracker_state").status
        assert status.received == sum(getattr(status, name) for name in COUNTED)
        return status

    def prompt(self, *prompts) -> AddPrompts.Response:
        return self.graph.call(AddPrompts, f"{self.name}/add_prompts", AddPrompts.Request(prompts=prompts))

    def change(self, number: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=number))
        return self.graph.call(ChangeState, f"{self.name}/change_state", request, 60).success

    def lifecycle(self) -> int:
        return self.graph.call(GetLifecycleState, f"{self.name}/get_state").current_state.id

    def put(self, **parameters) -> None:
        values = [Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        answer = self.graph.call(SetParameters, f"{self.name}/set_parameters", SetParameters.Request(parameters=values))
        assert all(result.successful for result in answer.results), answer


@pytest.fixture(scope="module")
def faulty(graph, start_tracker, new_camera, tmp_path_factory):
    return Faulty(graph, start_tracker, new_camera(), tmp_path_factory.mktemp("faulty"))


def test_p07_late_masks_are_dropped_and_counted_or_flagged(faulty):
    overlays = faulty.graph.collect(Image, f"{faulty.name}/overlay")

    def says_late(stamp: int) -> bool:
        drawn = image_codec.decode(faulty.graph.wait_until(lambda: overlays.of(stamp), 20))
        return bool((drawn == WARNING_COLOUR).all(2).any())

    before = faulty.status()
    faulty.put(max_output_age=0.2)
    stamp, status = faulty.send("slower")
    assert faulty.masks.of(stamp) is None and status.dropped_late == before.dropped_late + 1
    assert status.published == before.published and status.state == TrackerStatus.STATE_ERROR
    assert "s after their image came (max_output_age is 0.2 s) and were not published" in status.message

    faulty.put(on_late="flag")
    stamp, status = faulty.send("slower")
    late = faulty.masks_of(stamp)
    assert faulty.label_images.of(stamp) is None, "which could not say that it is late"
    assert says_late(stamp)
    assert late.late and late.sequence == before.published + 1 == status.published
    assert status.dropped_late == before.dropped_late + 1 and status.state == TrackerStatus.STATE_ERROR

    faulty.put(max_output_age=60.0)
    stamp, status = faulty.send("slower")
    assert not faulty.masks_of(stamp).late and not says_late(stamp)
    assert faulty.graph.wait_until(lambda: faulty.label_images.of(stamp), 20)
    assert status.state == TrackerStatus.STATE_RUNNING
    faulty.put(max_output_age=0.0, on_late="drop")


def test_p09_after_late_masks_a_camera_that_stops_is_stale(faulty):
    before = faulty.status()
    faulty.put(max_output_age=0.2, input_timeout=1.0)
    _, status = faulty.send("slower")
    assert status.dropped_late == before.dropped_late + 1
    stale = faulty.wait_for(TrackerStatus.STATE_STALE_INPUT)
    assert "s after their image came (max_output_age is 0.2 s)" in stale.message and stale.latency_p99 > 200
    faulty.put(max_output_age=0.0, input_timeout=3600.0)
    _, status = faulty.send()
    assert status.state == TrackerStatus.STATE_RUNNING


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


LISTENER = """
import rclpy
from sam2s_ros.msg import TrackedMasks
rclpy.init()
node = rclpy.create_node("listener", namespace={namespace!r})
node.create_subscription(TrackedMasks, "tracker/masks", print, 1)  # reliable
rclpy.spin(node)
"""


def test_p06_a_subscriber_that_stands_still_holds_up_nobody(faulty, start):
    listener = start([sys.executable, "-c", LISTENER.format(namespace=faulty.name.removesuffix("/tracker"))])
    faulty.graph.wait_until(lambda: faulty.send() and "TrackedMasks" in listener.output, 30, lambda: listener.output)
    listener.popen.send_signal(signal.SIGSTOP)
    try:
        before = faulty.status()
        for _ in range(20):
            stamp, status = faulty.send()
            faulty.masks_of(stamp)
        assert status.published == before.published + 20
    finally:
        listener.popen.kill()


@pytest.mark.parametrize(
    "fault, said", [("raise", "RuntimeError: the test's"), ("nan", "not finite"), ("size", "size (24, 32) instead of")]
)
def test_p03_p27_a_step_that_fails_is_counted_and_named_and_the_next_one_is_tried(faulty, fault, said):
    faulty.send()
    assert faulty.prompt(BOX).success
    before = faulty.status()
    stamp, status = faulty.send(fault)
    assert (status.dropped_error, status.published) == (before.dropped_error + 1, before.published)
    assert status.state == TrackerStatus.STATE_ERROR and said in status.message
    following, status = faulty.send()
    assert status.state == TrackerStatus.STATE_RUNNING, status.message
    masks = faulty.masks_of(following)
    assert faulty.masks.of(stamp) is None and len(masks.objects) == before.objects
    assert (masks.label_image.height, masks.label_image.width) == (48, 64)


def test_p27_after_max_step_errors_in_a_row_the_tracker_is_quarantined_until_reset(faulty):
    for _ in range(3):
        faulty.send("raise")
    _, status = faulty.send()
    assert status.state == TrackerStatus.STATE_ERROR
    assert "3 steps in a row failed (max_step_errors is 3), the last with RuntimeError: the test's" in status.message
    before = faulty.status()
    _, status = faulty.send()
    assert (status.dropped_error, status.published) == (before.dropped_error + 1, before.published)
    answer = faulty.prompt(BOX)
    assert (answer.success, answer.error) == (False, ErrorCode.INTERNAL) and "until ~/reset" in answer.message
    assert faulty.graph.call(Trigger, f"{faulty.name}/reset").success
    assert faulty.status().state == TrackerStatus.STATE_RUNNING
    stamp, _ = faulty.send()
    assert faulty.masks_of(stamp)
    assert faulty.prompt(BOX).success


def test_p31_p32_and_then_the_masks_are_those_of_a_tracker_offline_to_which_nothing_happened(faulty):
    faulty.send("raise")
    assert faulty.graph.call(Trigger, f"{faulty.name}/reset").success
    offline = Tracker(load_model(resolve_checkpoint("sam2s_pico"), image_size=128, device="cpu", precision="fp32"))
    visible = 0
    for frame in Scene(SceneConfig(width=160, height=128, frames=6, seed=2)):
        picture = np.ascontiguousarray(frame.image)
        stamp, _ = faulty.send(picture=picture)
        tracks = offline.step(stamp, picture)
        online = faulty.masks_of(stamp)
        assert [o.state for o in online.objects] == tracks.states.tolist()
        assert metrics.iou(image_codec.to_gray(online.label_image) != 0, tracks.label_map != 0) >= 0.999
        visible += tracks.label_map.any()
        if frame.index == 0:
            prompt = Prompt(box=[float(v) for v in frame.objects[0].box])
            assert faulty.prompt(prompt).success
            offline.prompt(stamp, [messages.prompt_from_message(prompt)])
    assert visible > 2, "the model draws nothing: this says nothing"


def test_p21_200_calls_while_overloaded_are_all_answered(faulty):
    assert faulty.graph.call(Trigger, f"{faulty.name}/reset").success
    before, graph = faulty.send()[1], faulty.graph
    faulty.fault.write_text("slow")
    requests = (
        (AddPrompts, "add_prompts", AddPrompts.Request(prompts=[BOX])),
        (RemoveObjects, "remove_objects", RemoveObjects.Request(object_ids=[10**6])),
        (GetState, "get_tracker_state", GetState.Request()),
    )
    clients = [
        (graph.node.create_client(kind, f"{faulty.name}/{name}", qos_profile=qos.SERVICE), request)
        for kind, name, request in requests
    ]
    for client, _ in clients:
        assert client.wait_for_service(20)
    graph.known_to(faulty.name)
    answers, calls = [], itertools.cycle(clients)
    for _ in range(200):
        client, request = next(calls)
        answers.append(client.call_async(request))
        faulty.camera.send()
        time.sleep(0.005)
    graph.wait_until(
        lambda: all(a.done() for a in answers), 60, lambda: f"{sum(not a.done() for a in answers)} answers"
    )
    faulty.fault.unlink()
    prompted, removed, states = (answers[i::3] for i in range(3))
    assert {a.result().error for a in prompted} == {ErrorCode.NONE, ErrorCode.TOO_MANY_OBJECTS}
    assert {a.result().error for a in removed} == {ErrorCode.UNKNOWN_OBJECT}
    assert all(a.result().status.objects <= 16 for a in states)
    status = graph.wait_until(lambda: (s := faulty.status()) and not s.waiting and s, 20)
    assert status.dropped_overload > before.dropped_overload and status.objects == 16
    for client, _ in clients:
        graph.node.destroy_client(client)


@pytest.mark.parametrize(
    "state",
    [pytest.param("inactive", marks=pytest.mark.full), pytest.param("disabled", marks=pytest.mark.full), "quarantined"],
)
def test_p29_p31_a_signal_ends_it_in_every_state_and_its_neighbour_notices_nothing(
    faulty, graph, start_tracker, new_camera, tmp_path, state
):
    stamp, _ = faulty.send()
    before = faulty.status()
    other = Faulty(graph, start_tracker, new_camera(), tmp_path)
    assert other.prompt(BOX).object_ids[0] == 1, "ids of its own"
    if state == "inactive":
        assert other.change(Transition.TRANSITION_DEACTIVATE)
    elif state == "disabled":
        assert graph.call(SetBool, f"{other.name}/enable", SetBool.Request(data=False)).success
    else:
        for _ in range(3):
            other.send("raise")
    wanted = dict(inactive="INACTIVE", disabled="DISABLED", quarantined="ERROR")[state]
    assert other.status().state == getattr(TrackerStatus, f"STATE_{wanted}")
    code, took = other.process.stop(signal.SIGTERM)
    assert code == 0 and took < other.process.out_within and "Traceback" not in other.process.output
    after = faulty.status()
    assert (after.received, after.objects, after.state) == (before.received, before.objects, before.state)
    assert messages.to_ns(after.last_published_stamp) == stamp


def test_two_nodes_of_one_name_are_told_apart_by_nobody_so_they_say_it(start_tracker):
    twins = [start_tracker(remap=("__ns:=/twins",), autostart=False, diagnostics_rate=10.0) for _ in range(2)]
    for twin in twins:
        twin.wait_for_output("2 nodes are called /twins/tracker: give each a name or a namespace of its own")


def test_p24_p26_out_of_memory_costs_a_frame_and_twice_the_configuration_but_never_the_process(faulty):
    assert faulty.graph.call(Trigger, f"{faulty.name}/reset").success
    faulty.send()
    assert faulty.prompt(BOX).success
    before = faulty.status()
    _, status = faulty.send("oom")
    assert status.dropped_error == before.dropped_error + 1 and "CUDA out of memory" in status.message
    stamp, status = faulty.send()
    assert faulty.masks_of(stamp) and status.state == TrackerStatus.STATE_RUNNING

    faulty.send("oom")
    faulty.fault.write_text("oom")
    faulty.camera.send()
    status = faulty.wait_for(TrackerStatus.STATE_UNKNOWN)
    assert "two images in a row lacked memory" in status.message and "lower max_objects" in status.message
    assert faulty.lifecycle() == State.PRIMARY_STATE_UNCONFIGURED and faulty.process.running()
    faulty.fault.unlink()
    assert faulty.change(Transition.TRANSITION_CONFIGURE) and faulty.change(Transition.TRANSITION_ACTIVATE)
    stamp, status = faulty.send()
    masks = faulty.masks_of(stamp)
    assert status.published == masks.sequence == 1
    assert len(masks.objects) == 1 and "1 objects were restored from" in faulty.process.output


def test_p27_a_gpu_that_is_lost_to_the_process_ends_it_where_that_is_wanted(graph, start_tracker, new_camera, tmp_path):
    other = Faulty(graph, start_tracker, new_camera(), tmp_path)
    _, status = other.send("lost")
    said = "cannot use the GPU any more (RuntimeError: CUDA error: an illegal memory access was encountered), another"
    assert status.state == TrackerStatus.STATE_ERROR and said in status.message and "\n" not in status.message
    answer = graph.call(Trigger, f"{other.name}/reset")
    assert not answer.success and said in answer.message
    _, status = other.send()
    assert status.state == TrackerStatus.STATE_ERROR and other.process.running(), "hang_exit is 0"
    other.put(hang_exit=60.0)
    assert other.process.wait(30) == watchdog.BROKEN
    assert said in other.process.output and "Traceback" not in other.process.output


def test_p11_a_step_that_never_ends_ends_the_process_so_that_it_can_be_started_again(faulty):
    faulty.fault.touch()
    faulty.camera.send()
    status = faulty.wait_for(TrackerStatus.STATE_ERROR)
    assert "step_timeout is 0.5 s" in status.message
    answer = faulty.prompt(BOX)
    assert (answer.success, answer.error) == (False, ErrorCode.TIMEOUT)
    faulty.put(hang_exit=0.6)
    assert faulty.process.wait(30) == watchdog.HUNG
    assert "hang_exit is 0.6 s" in faulty.process.output and "Traceback" not in faulty.process.output
