"""Two trackers in one process and the node that pairs their masks, in a real graph."""

from __future__ import annotations

import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from sam2s_model.checkpoint import load_model
from sam2s_model.prompts import Prompt as ModelPrompt
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.open import open_recording
from sam2s_model.tracking.tracker import Tracker
from sam2s_ros.commands.prompting import first_prompts
from sam2s_ros.interfaces import image_codec, messages
from sam2s_ros.msg import Prompt, TrackedMasks, TrackedMasksPair, TrackerStatus
from sam2s_ros.srv import AddPrompts, GetState
from sam2s_ros.tracker.stereo import StereoTracker

MODULES = {
    "pair_node": "sam2s_ros.tracker.pair",
    "recorder_node": "sam2s_ros.recorder.node",
    "replay_node": "sam2s_ros.replay.node",
    "stereo_node": "sam2s_ros.tracker.stereo",
    "tracker_node": "sam2s_ros.tracker.node",
}

SIDES = ("left", "right")
SCENES = {side: f"scene:?width=192&height=160&frames=8&seed={seed}" for seed, side in enumerate(SIDES)}


@pytest.fixture(scope="module")
def stereo(graph, start):
    """The processes, publishers of both cameras, and the pairs that came."""
    given = dict(
        checkpoint=resolve_checkpoint("sam2s_pico"), device="cpu", threads=1, step_timeout=20.0,
        service_timeout=10.0, max_output_age=0.0, hang_exit=0.0,
    )  # fmt: skip
    # Both images go to one process at once: as best effort one may be lost on a busy machine; this is not about that.
    given.update(
        {f"qos_overrides.{topic}.subscription.reliability": "reliable" for topic in ("/left/image", "/other/right")}
    )
    parameters = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    remaps = ["-r", "/right/image:=/other/right"]
    trackers = start(
        [sys.executable, "-m", "sam2s_ros.tracker.stereo", "--ros-args", *parameters, *remaps], forked=True
    )
    pairing = start([sys.executable, "-m", "sam2s_ros.tracker.pair"], forked=True)
    pairs = graph.collect(TrackedMasksPair, "/pair/masks")
    cameras = {"left": graph.publisher(Image, "/left/image"), "right": graph.publisher(Image, "/other/right")}
    statuses = {side: graph.collect(TrackerStatus, f"/{side}/tracker/status") for side in SIDES}

    def ready():
        assert trackers.running() and pairing.running(), trackers.output + pairing.output
        known = (TrackerStatus.STATE_UNKNOWN, TrackerStatus.STATE_INACTIVE)
        active = all(s and s[-1].state not in known for s in statuses.values())
        return active and all(camera.get_subscription_count() for camera in cameras.values())

    graph.wait_until(ready, 60, lambda: trackers.output)
    graph.wait_until(lambda: graph.node.count_subscribers("/left/tracker/masks"), 20)
    graph.wait_until(lambda: graph.node.count_publishers("/pair/masks"), 20)
    for camera in cameras.values():
        (image,) = graph.node.get_subscriptions_info_by_topic(camera.topic_name)
        assert image.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    return trackers, pairing, cameras, pairs


def test_p01_p31_two_trackers_share_nothing_and_their_masks_are_paired(graph, stereo, camera):
    trackers, pairing, cameras, pairs = stereo
    torch.set_num_threads(1)  # as the trackers do: another number rounds in another way
    alone = {side: Tracker(load_model(resolve_checkpoint("sam2s_pico"), device="cpu")) for side in SIDES}
    frames = {side: list(open_recording(scene)) for side, scene in SCENES.items()}
    boxes = {side: first_prompts(open_recording(SCENES[side]), frames[side][0])[0][0].box for side in SIDES}

    def picture(side: str, number: int) -> np.ndarray:
        return frames[side][number % len(frames[side])].image

    def send(number: int, *sides: str) -> None:
        for side in sides:
            cameras[side].publish(camera.message(number * 10**9, picture(side, number), frame_id=side))

    def pair_of(number: int):
        return next((p for p in list(pairs) if p.left.header.stamp.sec == number), None)

    def status(side: str) -> TrackerStatus:
        return graph.call(GetState, f"/{side}/tracker/get_tracker_state").status

    def wait_for_pair(number: int):
        return graph.wait_until(
            lambda: pair_of(number), 20, lambda: f"pair {number}: {[status(s) for s in SIDES]}\n{trackers.output}"
        )

    for first in range(1, 11):  # until all have found one another
        send(first, *SIDES)
        try:
            graph.wait_until(partial(pair_of, first), 3)
            break
        except pytest.fail.Exception:
            continue
    assert pairs, trackers.output + pairing.output
    for side in SIDES:
        assert graph.call(Trigger, f"/{side}/tracker/reset").success
    pairs.clear()

    numbers = range(24, 29)
    for number in numbers:
        expected = {side: alone[side].step(number * 10**9, picture(side, number)) for side in SIDES}
        send(number, *SIDES)
        pair = wait_for_pair(number)
        assert pair.left.header.stamp == pair.right.header.stamp
        for side in SIDES:
            masks = getattr(pair, side)
            assert masks.header.frame_id == side and len(masks.objects) == len(expected[side])
            np.testing.assert_array_equal(image_codec.to_gray(masks.label_image), expected[side].label_map)
        if number == numbers[0]:
            for side in SIDES:
                asked = AddPrompts.Request(prompts=[Prompt(box=boxes[side].tolist())])
                answer = graph.call(AddPrompts, f"/{side}/tracker/add_prompts", asked)
                assert answer.success and list(answer.object_ids) == [1], answer.message
                alone[side].prompt(0, [ModelPrompt(box=boxes[side])])
    assert all(masks.objects[0].area > 0 for masks in (pair.left, pair.right)), "there is nothing to compare"
    assert not np.array_equal(*(image_codec.to_gray(masks.label_image) for masks in (pair.left, pair.right)))

    published = status("left").published
    send(30, "left")
    graph.wait_until(lambda: status("left").published == published + 1, 20)
    send(31, *SIDES)
    wait_for_pair(31)
    assert pair_of(30) is None
    assert graph.call(Trigger, "/left/tracker/reset").success
    assert {side: status(side).objects for side in SIDES} == {"left": 0, "right": 1}
    stamps = [messages.to_ns(p.left.header.stamp) for p in pairs]
    assert stamps == sorted(set(stamps))


def test_p29_a_signal_ends_both_and_the_graph_learns_of_it(graph, stereo):
    for process in stereo[:2]:
        code, took = process.stop()
        assert code == 0 and took < process.out_within and "Traceback" not in process.output, (
            code,
            took,
            process.output,
        )
    names = {("tracker", "/left"), ("tracker", "/right"), ("pair", "/")}
    left = lambda: names & set(graph.node.get_node_names_and_namespaces())  # noqa: E731
    graph.wait_until(lambda: not left(), 10, lambda: f"{left()} to be gone; 20 s would be the end of their leases")


def test_p45_nothing_that_pairs_is_a_warning_that_says_why(graph, start):
    """Nobody publishes; then stamps that are too far apart; then those of two drivers, which are paired."""
    rules = ["-r", "__ns:=/apart", "-p", "warn_unpaired:=0.5"]
    pairing = start([sys.executable, "-m", "sam2s_ros.tracker.pair", "--ros-args", *rules], forked=True)
    pairs, reports = (
        graph.collect(TrackedMasksPair, "/apart/pair/masks"),
        graph.collect(DiagnosticArray, "/diagnostics"),
    )

    def entry():
        found = [entry for report in list(reports) for entry in report.status if entry.name == "/apart/pair: masks"]
        return found[-1] if found else DiagnosticStatus(level=DiagnosticStatus.STALE)

    def warned(*parts: str) -> bool:
        return entry().level == DiagnosticStatus.WARN and all(part in entry().message for part in parts)

    nobody = [f"no masks of {side}: nobody publishes /apart/{side}/tracker/masks" for side in SIDES]
    graph.wait_until(lambda: warned(*nobody), 30, lambda: f"{entry()}\n{pairing.output}")
    assert nobody[0] in pairing.output

    publishers = [graph.publisher(TrackedMasks, f"/apart/{side}/tracker/masks") for side in SIDES]

    def send(away: float, done) -> bool:
        now = time.time_ns()
        for publisher, stamp in zip(publishers, (now, now + round(away * 1e9)), strict=True):
            publisher.publish(TrackedMasks(header=Header(stamp=messages.to_time(stamp))))
        time.sleep(0.1)
        return done()

    apart = "the nearest two stamps of both sides differ by 20 ms, and tolerance is 5 ms"
    graph.wait_until(
        lambda: send(0.02, lambda: warned("no pair for", apart)), 30, lambda: f"{entry()}\n{pairing.output}"
    )
    assert not pairs

    graph.wait_until(
        lambda: send(0.0003, lambda: pairs and entry().level == DiagnosticStatus.OK), 30, lambda: f"{entry()}"
    )
    stamps = [tuple(messages.to_ns(masks.header.stamp) for masks in (pair.left, pair.right)) for pair in list(pairs)]
    assert all(right - left == 300_000 for left, right in stamps) and len({left for left, _ in stamps}) == len(stamps)


def test_p45_rigs_in_namespaces_share_nothing(graph, start):
    """Two rigs: names, topics and pairs of each are in its namespace, and nothing that was given is without effect."""
    given = dict(checkpoint=resolve_checkpoint("sam2s_pico"), device="cpu", threads=1, warm_up=False)
    parameters = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    spaces = ("/one", "/two")
    rigs = [
        start([sys.executable, "-m", MODULES[node], "--ros-args", "-r", f"__ns:={space}", *more])
        for space in spaces
        for node, more in (("stereo_node", [*parameters, "-r", "left/image:=cam/left"]), ("pair_node", []))
    ]
    wanted = {
        (name, f"{space}{side}")
        for space in spaces
        for name, side in (("tracker", "/left"), ("tracker", "/right"), ("pair", ""))
    }
    topics = {f"{space}/{topic}" for space in spaces for topic in ("cam/left", "right/image")}

    def ready() -> bool:
        assert all(process.running() for process in rigs), [process.output for process in rigs]
        return wanted <= set(graph.node.get_node_names_and_namespaces()) and all(
            map(graph.node.count_subscribers, topics)
        )

    graph.wait_until(ready, 60, lambda: [process.output for process in rigs])
    names = [name for name in graph.node.get_node_names_and_namespaces() if name[1].startswith(spaces)]
    assert sorted(names) == sorted(wanted), "each once"
    ends = {
        f"{space}/{topic}": ends
        for space in spaces
        for topic, ends in (("left/tracker/masks", (1, 1)), ("right/tracker/masks", (1, 1)), ("pair/masks", (1, 0)))
    }

    def found() -> dict[str, tuple[int, int]]:
        """Publishers and subscribers of what is paired, and of pairs."""
        return {t: (graph.node.count_publishers(t), graph.node.count_subscribers(t)) for t in ends}

    graph.wait_until(lambda: found() == ends, 20, found)  # by then both rigs' pairs are known with all their ends
    assert found() == ends
    assert not any("has no effect" in process.output or "nodes are called" in process.output for process in rigs)


def test_p44_two_trackers_do_not_share_a_file_of_prompts(start, tmp_path):
    process = start(
        [sys.executable, "-m", "sam2s_ros.tracker.stereo", "--ros-args", "-p", f"prompts_file:={tmp_path / 'a.json'}"]
    )
    assert process.wait(30) == 2
    assert f"prompts_file is {tmp_path / 'a.json'} for /left/tracker and /right/tracker" in process.output, (
        process.output
    )


@pytest.fixture
def rig():
    """Makes both trackers, with parameters for both: rig(NAME=VALUE) -> (left, right)."""
    made = []

    def make(**given: object):
        words = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        made.append(StereoTracker(["stereo", "--ros-args", "-p", "autostart:=false", *words]))
        return made[-1].parts()

    yield make
    for one in made:
        one.close(5.0)
        for node in one.parts():
            node.destroy_node()


def test_p44_two_trackers_do_not_share_a_file_of_prompts_after_the_start(rig, tmp_path):
    left, right = rig()
    left.set_parameters([Parameter("prompts_file", value=f"{tmp_path}/a.json")])
    right.set_parameters([Parameter("prompts_file", value=f"{tmp_path}/./a.json")])
    assert right.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "for /right/tracker and /left/tracker" in right.status().message


def test_p44_a_file_that_both_read_is_not_written(rig, tmp_path):
    for node in rig(objects_file=tmp_path / "a"):
        answer = node._kept_objects._save(Trigger.Request(), Trigger.Response())
        assert not answer.success and "each would overwrite what the other keeps" in answer.message
    for node in rig(prototypes=tmp_path / "a"):
        answer = node._discovery._save(Trigger.Request(), Trigger.Response())
        assert not answer.success and "each would overwrite what the other keeps" in answer.message
