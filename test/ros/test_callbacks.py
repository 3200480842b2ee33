"""What raises in a callback, the package's or rclpy's, costs one message or request, and is said and counted."""

from __future__ import annotations

import json
import sys
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PointStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState as GetLifecycleState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import ColorRGBA, Header
from std_srvs.srv import SetBool, Trigger

from sam2s_ros.interfaces import messages
from sam2s_ros.msg import ClassLabels, PromptResult, TrackedMasks, TrackedObject, TrackerStatus
from sam2s_ros.processes.callbacks import _refusal
from sam2s_ros.srv import AddPrompts, GetState

MODULES = {
    "console_node": "sam2s_ros.console.node",
    "pair_node": "sam2s_ros.tracker.pair",
    "recorder_node": "sam2s_ros.recorder.node",
    "replay_node": "sam2s_ros.replay.node",
    "stereo_node": "sam2s_ros.tracker.stereo",
    "tracker_node": "sam2s_ros.tracker.node",
}

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
ANOTHER_TYPE = ParameterValue(type=77)  # one that no version of ROS has
NAMED_ONCE = "its like are counted on /diagnostics (callbacks_failed) and not named again"


def ros_args(**parameters) -> list[str]:
    """Command line arguments that set parameters."""
    return ["--ros-args", *(part for name, value in parameters.items() for part in ("-p", f"{name}:={value}"))]


class Reports:
    """What a node says of itself on /diagnostics."""

    def __init__(self, graph, name: str):
        self._graph, self._name = graph, name
        self._all = graph.collect(DiagnosticArray, "/diagnostics")

    def entries(self) -> list[DiagnosticStatus]:
        return [s for report in list(self._all) for s in report.status if s.name.startswith(self._name)]

    def failed(self) -> int:
        """Callbacks that raised so far, as of the newest report."""
        counts = [int(v.value) for s in self.entries() for v in s.values if v.key == "callbacks_failed"]
        return counts[-1] if counts else 0

    def wait_for(self, count: int) -> None:
        self._graph.wait_until(lambda: self.failed() >= count, 20, lambda: f"{count} failures, of {self.failed()}")

    def warns_of(self, text: str) -> bool:
        return any(s.level == DiagnosticStatus.WARN and text in s.message for s in self.entries())


@pytest.fixture(scope="module")
def images(new_camera):
    return new_camera()


@pytest.fixture(scope="module")
def tracker(graph, start_tracker, images):
    process = start_tracker(remap=("__ns:=/calls", f"image:={images.topic}"), warm_up=False)
    statuses = graph.collect(TrackerStatus, "/calls/tracker/status")
    graph.wait_until(lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING, 60, lambda: process.output)
    return process


def change(graph, name: str, transition: Transition) -> bool:
    return graph.call(ChangeState, f"{name}/change_state", ChangeState.Request(transition=transition), 60).success


@pytest.mark.parametrize(
    "transition",
    [
        Transition.TRANSITION_ACTIVATE,
        *(
            pytest.param(t, marks=pytest.mark.full)
            for t in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP)
        ),
        99,
    ],
)
def test_p36_a_transition_that_does_not_fit_is_refused_and_the_node_tracks_on(graph, tracker, transition):
    """As of a lifecycle manager, where `autostart` did it already."""
    reports = Reports(graph, "/calls/tracker")
    graph.wait_until(reports.entries)
    before = reports.failed()
    assert not change(graph, "/calls/tracker", Transition(id=transition))
    reports.wait_for(before + 1)
    assert tracker.running() and "a request on /calls/tracker/change_state failed: RCLError" in tracker.output
    assert graph.call(GetLifecycleState, "/calls/tracker/get_state").current_state.id == State.PRIMARY_STATE_ACTIVE
    assert graph.call(GetState, "/calls/tracker/get_tracker_state").status.state == TrackerStatus.STATE_WAITING


def test_p36_a_parameter_of_a_type_that_is_none_is_refused_alone(graph, tracker):
    odd, good = Parameter(name="overlay_alpha", value=ANOTHER_TYPE), Parameter(name="overlay_alpha")
    good.value = ParameterValue(type=3, double_value=0.25)
    reports = Reports(graph, "/calls/tracker")
    graph.wait_until(reports.entries)
    before = reports.failed()
    request = SetParameters.Request(parameters=[odd, good, odd])
    first, second, third = graph.call(SetParameters, "/calls/tracker/set_parameters", request).results
    assert (first.successful, second.successful, third.successful) == (False, True, False)
    assert "77 is not a valid" in first.reason
    request = SetParametersAtomically.Request(parameters=[odd])
    result = graph.call(SetParametersAtomically, "/calls/tracker/set_parameters_atomically", request).result
    assert not result.successful and "77 is not a valid" in result.reason
    reports.wait_for(before + 3)
    graph.wait_until(lambda: reports.warns_of("77 is not a valid"))
    named = [line for line in tracker.output.splitlines() if "set_parameters failed" in line and NAMED_ONCE in line]
    assert tracker.running() and len(named) == 1, tracker.output


@pytest.mark.parametrize("kind", [PointStamped, Image])
def test_p36_bytes_that_are_no_message_cost_themselves_alone(graph, tracker, images, kind):
    """As of a program whose definition of the type is another. What follows on the same topic is taken."""
    topic = images.topic if kind is Image else "/calls/tracker/point"
    publisher, results = graph.publisher(kind, topic), graph.collect(TrackedMasks, "/calls/tracker/masks")
    graph.wait_until(publisher.get_subscription_count, 20)
    for _ in range(5):
        publisher.publish(b"\x00\x01\x00\x00\xff\xff\xff")
        time.sleep(0.05)
    known = (TrackerStatus.STATE_WAITING, TrackerStatus.STATE_RUNNING)
    assert graph.call(GetState, "/calls/tracker/get_tracker_state").status.state in known
    if kind is Image:
        images.first(lambda: results)
    else:
        answers = graph.collect(PromptResult, "/calls/tracker/prompt_result")
        graph.wait_until(lambda: publisher.publish(PointStamped()) or time.sleep(0.1) or answers, 20)
    assert tracker.running(), tracker.output


@pytest.mark.parametrize("node", ["tracker_node", "pair_node", "recorder_node", "replay_node", "console_node"])
def test_p36_a_clock_before_zero_ends_no_program(graph, start, start_tracker, tmp_path, node):
    """rclpy's own subscription raises there."""
    space = f"__ns:=/before_zero_{node}"
    if node == "console_node":
        pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
    if node == "tracker_node":
        process = start_tracker(remap=(space,), autostart=False, use_sim_time=True)
    else:
        given = dict(
            recorder_node=dict(output=tmp_path),
            replay_node=dict(source="scene:?width=96&height=64", loop="true"),
            console_node=dict(port=0),
        )
        arguments = ros_args(use_sim_time="true", **given.get(node, {}))
        process = start([sys.executable, "-m", MODULES[node], *arguments, "-r", space])
    clock = graph.publisher(Clock, "/clock", BEST_EFFORT)
    name = node.removesuffix("_node")

    def named() -> bool:
        clock.publish(Clock(clock=messages.to_time(-5 * 10**9)))
        return "a message on /clock failed" in process.output or not process.running()

    graph.wait_until(named, 30, lambda: process.output)
    assert process.running() and process.output.count("a message on /clock failed") == 1, process.output
    service = f"/before_zero_{node}/{name}/set_parameters"
    request = SetParameters.Request(parameters=[Parameter(name="use_sim_time", value=ParameterValue(type=1))])
    assert graph.call(SetParameters, service, request).results[0].successful, "it answers still"


@pytest.mark.parametrize("node", ["pair_node", "replay_node"])
def test_p38_programs_report_without_a_clock(graph, start, node):
    given = dict(replay_node=dict(source="scene:?width=96&height=64", loop="true"))
    arguments = [
        *ros_args(use_sim_time="true", **given.get(node, {})),
        "-r",
        "/clock:=/no/clock",
        "-r",
        f"__node:=timeless_{node}",
    ]
    process = start([sys.executable, "-m", MODULES[node], *arguments])
    reports = Reports(graph, "/" * (node == "pair_node") + f"timeless_{node}")
    graph.wait_until(lambda: reports.warns_of("nothing is on /clock"), 30, lambda: process.output)
    assert "use_sim_time is true, and the clock has stood at 0.000 s for" in process.output


@pytest.fixture(scope="module")
def recorder(graph, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording")
    arguments = ros_args(output=folder, image="/odd/image", masks="/odd/masks", labels="/odd/labels", truth='""')
    process = start([sys.executable, "-m", "sam2s_ros.recorder.node", *arguments, "-r", "__node:=odd_recorder"])
    process.wait_for_output("recording into")
    process.folder = folder
    return process


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_p36_colours_that_are_none_are_left_out_and_said(graph, recorder, value):
    labels = graph.publisher(ClassLabels, "/odd/labels", LATCHED)
    table = ClassLabels(label_set=f"x{value}", class_ids=[1], class_names=["a"], colors=[ColorRGBA(r=value, a=1.0)])
    labels.publish(table)  # latched: it comes, whenever they find each other
    recorder.wait_for_output(f"labels on /odd/labels are left out: label set 'x{value}': the colour of 'a' is ({value}")
    assert recorder.running(), recorder.output


def test_p36_the_console_leaves_colours_that_are_none_out_too(graph, start):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'sam2s_ros[console]'")
    console = start([sys.executable, "-m", MODULES["console_node"], *ros_args(port=0, trackers="/odd")])
    table = ClassLabels(label_set="x", class_ids=[1], class_names=["a"], colors=[ColorRGBA(r=float("nan"), a=1.0)])
    graph.publisher(ClassLabels, "/odd/labels", LATCHED).publish(table)
    console.wait_for_output("labels of /odd are left out: label set 'x': the colour of 'a' is (nan")
    assert console.running() and "Traceback" not in console.output, console.output


def test_p36_masks_that_no_tracker_of_ours_sends_are_left_out_alone(graph, recorder, images):
    """Boxes beyond all numbers, objects that contradict each other, no label image: the recording goes on."""
    publisher = graph.publisher(TrackedMasks, "/odd/masks")
    graph.wait_until(publisher.get_subscription_count, 20)
    huge = RegionOfInterest(x_offset=2**32 - 1, y_offset=2**32 - 1, width=2**32 - 1, height=2**32 - 1)
    nan = float("nan")
    cases = [
        [TrackedObject(object_id=1, label=1, bounding_box=huge, area=2**32 - 1)],
        [TrackedObject(object_id=1, label=1), TrackedObject(object_id=1, label=1)],
        [TrackedObject(object_id=2**32 - 1, label=255, score=nan, centroid_x=nan, class_score=float("inf"), state=99)],
        None,
        [],
    ]
    stamp = time.time_ns()
    for number, objects in enumerate(cases):
        header = Header(stamp=messages.to_time(stamp + number), frame_id="x")
        message = TrackedMasks(header=header, sequence=number + 1, objects=objects or [])
        if objects is not None:
            message.label_image = images.message(stamp + number, images.picture(0)[..., 0], "mono8")
        publisher.publish(message)
        time.sleep(0.1)
    reports = Reports(graph, "recorder: messages")
    written = lambda: [dict((v.key, v.value) for v in s.values) for s in reports.entries()]  # noqa: E731
    graph.wait_until(lambda: any(w["masks_without_image"] == str(len(cases)) for w in written()), 20, written)
    assert recorder.stop(timeout=20)[0] == 0, recorder.output
    report = json.loads((recorder.folder / "recorder.json").read_text())
    assert report["messages_in_bag"] == len(cases) and report["malformed"] >= 2 and not report["error"], report


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("qos_overrides./image.subscription.reliability", "relaible", "relaible"),
        pytest.param(
            "qos_overrides./image.subscription.depth",
            "deep",
            "qos_overrides./image.subscription.depth",
            marks=pytest.mark.full,
        ),
        ("qos_overrides./image.subscription.depth", -1, "depth is -1: expected a whole number"),
    ],
)
def test_p36_a_transition_that_raises_is_said_in_log_and_status(graph, start_tracker, name, value, said):
    process = start_tracker(remap=("__node:=unsound",), **{name: value})
    process.wait_for_output("configure failed: parameter qos_overrides./image.subscription.", 60)
    status = graph.call(GetState, "/unsound/get_tracker_state").status
    assert said in process.output and said in status.message and "Traceback" not in process.output
    assert status.state == TrackerStatus.STATE_UNKNOWN and "qos_overrides" in status.message
    answer = graph.call(AddPrompts, "/unsound/add_prompts")
    assert not answer.success and said in answer.message
    assert process.stop()[0] == 0


@pytest.mark.parametrize(
    "node, name, value",
    [
        ("tracker_node", "qos_overrides./tracker/masks.publisher.deadline", 0.5),
        ("tracker_node", "qos_overrides./tracker/status.publisher.reliability", "relaible"),
        ("tracker_node", "qos_overrides./tracker/point.subscription.history", "keep_none"),
        ("pair_node", "qos_overrides./pair/masks.publisher.depth", "deep"),
        ("pair_node", "qos_overrides./left/tracker/masks.subscription.reliability", "relaible"),
        ("stereo_node", "qos_overrides./right/tracker/masks.publisher.depth", 0.5),
    ],
)
def test_p36_a_wrong_quality_of_service_at_start_is_one_sentence_and_exit_code_2(start, node, name, value):
    process = start([sys.executable, "-m", MODULES[node], *ros_args(**{name: value})])
    assert process.wait(30) == 2, process.output
    assert "parameter qos_overrides" in process.output and str(value) in process.output, process.output
    assert "Traceback" not in process.output


def test_p36_every_service_answers_when_its_callback_raises():
    """Without a graph: what a response can say, it says."""
    answer = _refusal(AddPrompts.Response(), "why")
    assert (answer.success, answer.message, answer.error) == (False, "why", 10)
    for kind in (Trigger, SetBool):
        assert (lambda r: (r.success, r.message))(_refusal(kind.Response(), "why")) == (False, "why")
    assert _refusal(SetParameters.Response(), "why").results[0].reason == "why"
    assert _refusal(ChangeState.Response(), "why").success is False
    assert isinstance(_refusal(GetState.Response(), "why"), GetState.Response)
