"""The tracker process from start to end: bad parameters and checkpoints, hung steps, signals, other inputs."""

from __future__ import annotations

import signal
import time
from functools import partial

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState as GetLifecycleState
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from sam2s_ros.interfaces import image_codec, messages, qos
from sam2s_ros.msg import ErrorCode, Prompt, TrackedMasks, TrackerStatus
from sam2s_ros.processes.log import NodeLogger
from sam2s_ros.srv import AddPrompts, GetState
from sam2s_ros.tracker.health import Health
from sam2s_ros.tracker.outputs import TrackerPublishers

P10 = dict(deadline=200_000_000, liveliness_lease_duration=1_000_000_000)  # ns
BOX = Prompt(box=[10.0, 12.0, 34.0, 36.0])


@pytest.fixture
def camera(own_camera):
    return own_camera


def active(graph, process, name):
    """Wait until the node is active; return what its heartbeat has said."""
    statuses = graph.collect(TrackerStatus, f"{name}/status")
    known = (TrackerStatus.STATE_UNKNOWN, TrackerStatus.STATE_INACTIVE)
    graph.wait_until(
        lambda: not process.running() or (statuses and statuses[-1].state not in known), 60, lambda: process.output
    )
    assert process.running(), process.output
    return statuses


def lifecycle(graph, name):
    return graph.call(GetLifecycleState, f"{name}/get_state").current_state.id


BAD = [
    (
        dict(checkpoint="/no/such.pt"),
        "checkpoint '/no/such.pt' does not exist: give the path of a .pt or .safetensors file",
    ),
    (dict(checkpoint="sam2s_tinny"), "checkpoint 'sam2s_tinny' does not exist: did you mean 'sam2s_tiny'"),
    (dict(label_set="/no/such.yaml"), "/no/such.yaml is not a label set"),
    (dict(image_size=100), "image_size is 100: expected a multiple of 32"),
]


def test_what_cannot_be_configured_is_said_and_the_node_stays_up(graph, start_tracker, checkpoint):
    """The first from the start, the others set while the node is unconfigured, each followed by `configure`."""
    good, name = dict(checkpoint=checkpoint, label_set="", image_size=64), "/bad/tracker"
    process = start_tracker(remap=("__ns:=/bad",), **BAD[0][0])
    process.wait_for_output("configure failed", 60)
    for number, (given, said) in enumerate(BAD):
        if number:
            values = [Parameter(key, value=value).to_parameter_msg() for key, value in (good | given).items()]
            answer = graph.call(SetParameters, f"{name}/set_parameters", SetParameters.Request(parameters=values))
            assert all(result.successful for result in answer.results), answer
            configure = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
            assert not graph.call(ChangeState, f"{name}/change_state", configure, 60).success
            process.wait_for_output(said)
        assert said in process.output and "Traceback" not in process.output
        assert lifecycle(graph, name) == State.PRIMARY_STATE_UNCONFIGURED
        status = graph.call(GetState, f"{name}/get_tracker_state").status
        assert status.state == TrackerStatus.STATE_UNKNOWN and said in status.message
        answer = graph.call(AddPrompts, f"{name}/add_prompts", AddPrompts.Request(prompts=[BOX]))
        assert (answer.success, answer.error) == (False, ErrorCode.NOT_ACTIVE) and said in answer.message
    code, took = process.stop()
    assert (code, "Traceback" in process.output) == (0, False) and took < process.out_within, process.output
    gone = lambda: ("tracker", "/bad") not in graph.node.get_node_names_and_namespaces()  # noqa: E731
    graph.wait_until(gone, 15, lambda: "the graph to learn that the node has ended; without its word that takes 20 s")


def test_without_a_checkpoint_the_node_takes_the_packages_and_says_so(graph, start_tracker):
    process = start_tracker(remap=("__ns:=/bare",), checkpoint='""', model="auto", image_size=128)
    statuses = active(graph, process, "/bare/tracker")
    said = "using sam2s_nano, the package's default on a CPU"
    assert f"no checkpoint was given: {said}" in process.output
    assert statuses[-1].model.startswith("sam2s_nano/") and said in statuses[-1].message


@pytest.mark.parametrize(
    "given, said",
    [
        (dict(heartbeat_rate=0.0), "parameter heartbeat_rate: expected float from 0.1 to 100.0"),
        (dict(policy="best"), "policy is 'best': expected auto, fifo, efp"),
        (dict(input_timeout=1), "parameter input_timeout: expected float"),
    ],
)
def test_p30_a_bad_parameter_at_start_is_one_sentence_and_exit_code_2(start_tracker, given, said):
    process = start_tracker(**given)
    assert process.wait(20) == 2
    assert said in process.output and "Traceback" not in process.output


@pytest.mark.parametrize(
    "after",
    ["the executor spins", *(pytest.param(t, marks=pytest.mark.full) for t in ("the node is made", "torch is loaded"))],
)
def test_p29_a_signal_while_starting(graph, start_tracker, after):
    process = start_tracker(remap=("__ns:=/early",))
    if after == "the node is made":
        graph.wait_until(lambda: graph.node.count_publishers("/early/tracker/masks"), 20)
    elif after == "the executor spins":
        statuses = graph.collect(TrackerStatus, "/early/tracker/status")
        graph.wait_until(lambda: statuses, 20)
    else:
        process.wait_for_output("sha256", 60)
    code, took = process.stop(signal.SIGTERM if after == "the node is made" else signal.SIGINT)
    assert took < process.out_within and code == 0 and "Traceback" not in process.output, (code, took, process.output)


@pytest.fixture
def hold(tmp_path):
    """The file by which a step of `start_tracker(fault=...)` does not end; it is there until a test unlinks it."""
    path = tmp_path / "hold"
    path.touch()
    return path


def test_p11_p29_a_step_that_takes_long(graph, start_tracker, camera, hold):
    """A step that does not end: the status says so, services answer at once, a signal ends the process."""
    process = start_tracker(
        remap=("__ns:=/slow", f"image:={camera.topic}"), fault=hold, step_timeout=0.3, warm_up=False
    )
    statuses = active(graph, process, "/slow/tracker")
    camera.first(lambda: statuses[-1].received)
    hung = graph.wait_until(lambda: next((s for s in list(statuses) if s.state == TrackerStatus.STATE_ERROR), None), 20)
    assert "step_timeout is 0.3 s" in hung.message and hung.waiting == 1
    began = time.monotonic()
    answer = graph.call(AddPrompts, "/slow/tracker/add_prompts", AddPrompts.Request(prompts=[BOX]))
    assert (answer.success, answer.error) == (False, ErrorCode.TIMEOUT) and time.monotonic() - began < 4
    assert statuses[-1].published == 0
    code, took = process.stop()
    assert code == 0 and took < process.out_within and "Traceback" not in process.output, (code, took, process.output)


def test_a_cleanup_that_timed_out_cannot_be_undone_by_activate(graph, start_tracker, camera, hold):
    process = start_tracker(
        remap=("__ns:=/stuck", f"image:={camera.topic}"), fault=hold, service_timeout=0.01, warm_up=False
    )
    statuses = active(graph, process, "/stuck/tracker")

    def change(number):
        request = ChangeState.Request(transition=Transition(id=number))
        return graph.call(ChangeState, "/stuck/tracker/change_state", request).success

    camera.first(lambda: statuses[-1].received)
    assert change(Transition.TRANSITION_DEACTIVATE)
    assert not change(Transition.TRANSITION_CLEANUP)
    assert not change(Transition.TRANSITION_ACTIVATE)
    process.wait_for_output("activate failed: the tracker was stopped by a cleanup", 5)
    assert lifecycle(graph, "/stuck/tracker") == State.PRIMARY_STATE_INACTIVE
    hold.unlink()
    graph.wait_until(lambda: change(Transition.TRANSITION_CLEANUP), 30)
    assert process.stop()[0] == 0 and "Traceback" not in process.output


def test_reset_is_the_way_back_from_a_refused_jump(graph, start_tracker, camera):
    process = start_tracker(remap=("__ns:=/firm", f"image:={camera.topic}"), on_time_jump="refuse")
    active(graph, process, "/firm/tracker")
    masks = graph.collect(TrackedMasks, "/firm/tracker/masks")
    camera.first(lambda: masks)
    camera.publisher.publish(camera.message(5 * 10**9, camera.picture(0)))
    process.wait_for_output("on_time_jump is refuse; call ~/reset", 20)
    assert graph.call(Trigger, "/firm/tracker/reset").success
    camera.publisher.publish(camera.message(6 * 10**9, camera.picture(0)))
    graph.wait_until(lambda: masks.of(6 * 10**9), 20)
    assert masks.of(5 * 10**9) is None and process.stop()[0] == 0


def test_a_qos_override_is_of_one_topic():
    depth = "qos_overrides./own/tracker/{}.publisher.depth".format
    node = Node("tracker", namespace="/own", parameter_overrides=[Parameter(depth("masks"), value=2)])
    try:
        TrackerPublishers(node, Health(), time.time_ns, NodeLogger(node.get_logger()))
        depths = [node.get_parameter(depth(name)).value for name in ("masks", "label_image", "overlay", "labels")]
        assert depths == [2, 5, 5, 1] and qos.OUTPUT.depth == 5
        policies = {
            name: node.get_parameter(f"qos_overrides./own/tracker/masks.publisher.{name}").value for name in P10
        }
        assert policies == P10
    finally:
        node.destroy_node()


def test_p06_overload_counts_agree(graph, start_tracker, camera, hold):
    process = start_tracker(remap=("__ns:=/busy", f"image:={camera.topic}"), fault=hold, warm_up=False)
    active(graph, process, "/busy/tracker")
    masks = graph.collect(TrackedMasks, "/busy/tracker/masks")
    camera.wait_for_subscriber()
    graph.known_to("/busy/tracker")
    sent = {camera.send() for _ in range(30) if time.sleep(0.02) is None}
    hold.unlink()
    sent |= {camera.send() for _ in range(30) if time.sleep(0.02) is None}

    def settled():
        status = graph.call(GetState, "/busy/tracker/get_tracker_state").status
        return status if status.waiting == 0 and len(masks) == status.published else None

    status = graph.wait_until(settled, 20)
    assert status.received == status.published + status.dropped_overload <= 60
    assert status.dropped_overload > 0 and status.published >= 2
    stamps = [messages.to_ns(m.header.stamp) for m in masks]
    assert stamps == sorted(set(stamps)) and set(stamps) <= sent
    assert [m.sequence for m in masks] == list(range(1, len(masks) + 1))
    assert process.stop()[0] == 0


def test_p37_a_stop_longer_than_hang_exit_is_no_hang(graph, start_tracker, camera, hold):
    """Stopped in the middle of a step, which goes on afterwards as if nothing had been."""
    limits = dict(hang_exit=2.0, step_timeout=1.5, warm_up=False)
    process = start_tracker(remap=("__ns:=/paused", f"image:={camera.topic}"), fault=hold, **limits)
    statuses = active(graph, process, "/paused/tracker")
    masks = graph.collect(TrackedMasks, "/paused/tracker/masks")
    camera.wait_for_subscriber()
    graph.wait_until(lambda: camera.send() and time.sleep(0.1) or statuses[-1].waiting, 20)
    process.popen.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    process.popen.send_signal(signal.SIGCONT)
    beats = len(statuses)
    graph.wait_until(lambda: len(statuses) > beats + 1 or not process.running(), 20)
    hold.unlink()
    graph.wait_until(lambda: masks or not process.running(), 20)
    assert process.running() and not any(s.state == TrackerStatus.STATE_ERROR for s in statuses), process.output
    assert process.stop()[0] == 0


def test_p16_p17_compressed_images(graph, start_tracker, camera):
    process = start_tracker(remap=("__ns:=/jpeg",), compressed=True)
    active(graph, process, "/jpeg/tracker")
    masks = graph.collect(TrackedMasks, "/jpeg/tracker/masks")
    publisher = graph.publisher(CompressedImage, "/jpeg/image")
    graph.wait_until(publisher.get_subscription_count, 20)
    graph.known_to("/jpeg/tracker")
    _, jpeg = cv2.imencode(".jpg", camera.picture(0))
    _, png = cv2.imencode(".png", camera.picture(0))
    sent = [jpeg.tobytes(), b"", png.tobytes(), jpeg.tobytes()[:30], b"BM", png.tobytes()]

    def status():
        return graph.call(GetState, "/jpeg/tracker/get_tracker_state").status

    def ended(number):
        now = status()
        return now.received == number and now.waiting == 0

    for number, data in enumerate(sent, start=1):
        message = CompressedImage(header=Header(stamp=messages.to_time(number)), format="jpeg")
        message.data = image_codec.to_bytes(np.frombuffer(data, np.uint8)) if data else message.data
        publisher.publish(message)
        graph.wait_until(partial(ended, number), 20)
    assert [messages.to_ns(m.header.stamp) for m in masks] == [1, 3, 6]
    assert (status().published, status().dropped_image) == (3, 3)
    assert process.stop()[0] == 0


def test_p19_ages_are_of_a_steady_clock_and_times_of_the_nodes(graph, start_tracker, camera):
    process = start_tracker(remap=("__ns:=/sim", f"image:={camera.topic}"), use_sim_time=True)
    statuses = active(graph, process, "/sim/tracker")
    clock = graph.publisher(Clock, "/clock")
    graph.wait_until(clock.get_subscription_count, 20)

    def at(seconds):
        def told():  # again and again, as a clock does: one that was just discovered may miss the first
            clock.publish(Clock(clock=messages.to_time(seconds * 10**9)))
            time.sleep(0.05)
            return statuses[-1].header.stamp.sec == seconds

        graph.wait_until(told, 20, lambda: f"{seconds} s in the status")

    def stale():
        graph.wait_until(lambda: statuses[-1].state == TrackerStatus.STATE_STALE_INPUT, 20)
        assert 0.5 < statuses[-1].input_age < 60.0

    def send(seconds):
        """Images of simulated time, until there are masks of one."""
        stamps = iter(range(seconds * 10**9, (seconds + 1) * 10**9, 10**7))

        def seen():
            camera.publisher.publish(camera.message(next(stamps), camera.picture(1)))
            time.sleep(0.1)
            return next((m for m in list(masks) if m.header.stamp.sec == seconds), None)

        return graph.wait_until(seen, 8, lambda: process.output)

    at(100)
    masks = graph.collect(TrackedMasks, "/sim/tracker/masks")
    camera.wait_for_subscriber()
    assert send(100).received.sec == 100
    stale()  # though the clock stands still
    graph.wait_until(lambda: "the clock has stood at 100.000 s for" in statuses[-1].message, 20)
    assert "is /clock paused, or has its publisher ended?" in process.output
    at(5)  # a bag that loops
    send(5)
    assert "stamps jumped back to 5." in process.output
    stale()


def test_p38_without_a_clock_a_dead_camera_is_stale_and_late_masks_are_late(graph, start_tracker, camera, hold):
    """use_sim_time was left on, and nothing publishes /clock."""
    hold.write_text("slower 1000000")
    remap = ("__ns:=/timeless", f"image:={camera.topic}", "/clock:=/timeless/clock")
    process = start_tracker(
        remap=remap, fault=hold, use_sim_time=True, max_output_age=0.2, input_timeout=1.0, warm_up=False
    )
    statuses = active(graph, process, "/timeless/tracker")
    camera.wait_for_subscriber()
    late = lambda: any(s.dropped_late for s in list(statuses))  # noqa: E731
    graph.wait_until(lambda: camera.send() and time.sleep(0.3) or late(), 20, lambda: process.output)
    hold.unlink()
    masks = graph.collect(TrackedMasks, "/timeless/tracker/masks")
    camera.first(lambda: masks)
    graph.wait_until(lambda: statuses[-1].state == TrackerStatus.STATE_STALE_INPUT, 20, lambda: statuses[-1])
    graph.wait_until(lambda: "the clock has stood at 0.000 s for" in statuses[-1].message, 20, lambda: statuses[-1])
    assert "nothing is on /clock: set it to false without a simulator" in process.output
    assert statuses[-1].input_age > 1.0


def test_without_autostart_the_life_cycle_is_driven_from_outside(graph, start_tracker):
    process = start_tracker(remap=("__ns:=/manual",), autostart=False)
    name = "/manual/tracker"
    assert lifecycle(graph, name) == State.PRIMARY_STATE_UNCONFIGURED
    for number, state in (
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        (Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
        (Transition.TRANSITION_ACTIVE_SHUTDOWN, State.PRIMARY_STATE_FINALIZED),
    ):
        assert graph.call(
            ChangeState, f"{name}/change_state", ChangeState.Request(transition=Transition(id=number)), 60
        ).success
        assert lifecycle(graph, name) == state
    assert process.stop()[0] == 0
