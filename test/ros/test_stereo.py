"""Two trackers in one process and the node that pairs their masks, in a real graph."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from sam2s_model.checkpoint import load_model
from sam2s_model.prompts import Prompt as ModelPrompt
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.tracking.tracker import Tracker
from sam2s_ros.commands.prompting import first_prompts
from sam2s_ros.interfaces import image_codec, messages
from sam2s_ros.msg import Prompt, TrackedMasksPair, TrackerStatus
from sam2s_ros.replay.sources import open_source
from sam2s_ros.srv import AddPrompts, GetState

SIDES = ("left", "right")
SCENES = {side: f"scene:?width=192&height=160&frames=8&seed={seed}" for seed, side in enumerate(SIDES)}


@pytest.fixture(scope="module")
def stereo(graph, start):
    """The processes, publishers of both cameras, and the pairs that came."""
    given = dict(
        checkpoint=resolve_checkpoint("sam2s_pico"), device="cpu", threads=1, step_timeout=20.0,
        service_timeout=10.0, max_output_age=0.0, hang_exit=0.0,
    )  # fmt: skip
    # Both images go to one process at once: as best effort one of them may be lost on a busy machine, and this is not about that.
    given.update(
        {f"qos_overrides.{topic}.subscription.reliability": "reliable" for topic in ("/left/image", "/other/right")}
    )
    parameters = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    remaps = ["-r", "/right/image:=/other/right"]
    trackers = start([sys.executable, "-m", "sam2s_ros.tracker.stereo", "--ros-args", *parameters, *remaps])
    pairing = start([sys.executable, "-m", "sam2s_ros.tracker.pair"])
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
    frames = {side: list(open_source(scene)) for side, scene in SCENES.items()}
    boxes = {side: first_prompts(open_source(SCENES[side]), frames[side][0])[0][0].box for side in SIDES}

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
            graph.wait_until(lambda: pair_of(first), 3)
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
        assert code == 0 and took < process.OUT_WITHIN and "Traceback" not in process.output, (
            code,
            took,
            process.output,
        )
    names = {("tracker", "/left"), ("tracker", "/right"), ("pair", "/")}
    left = lambda: names & set(graph.node.get_node_names_and_namespaces())  # noqa: E731
    graph.wait_until(lambda: not left(), 10, lambda: f"{left()} to be gone; 20 s would be the end of their leases")
