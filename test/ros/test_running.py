"""What people without ros2cli have, in a real graph: `sam2s node`, prompted, seen and examined by `sam2s`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from sensor_msgs.msg import Image

from sam2s_ros.msg import TrackedMasks

SAM2S = [sys.executable, "-m", "sam2s_ros.commands.cli"]
NAME = "/spoken/tracker"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"}


def sam2s(*words: str, **env: str) -> subprocess.CompletedProcess:
    environment = {**ENVIRONMENT, **env}
    return subprocess.run([*SAM2S, *words], capture_output=True, text=True, timeout=240, env=environment)


@pytest.fixture(scope="module")
def node(graph, start, checkpoint):
    """`sam2s node` on a topic that nobody publishes yet."""
    settings = dict(
        model="sam2s_pico", image_size=64, threads=1, step_timeout=20.0, service_timeout=10.0, max_output_age=0.0,
        hang_exit=0.0,
    )  # fmt: skip
    settings["qos_overrides./spoken_camera.subscription.reliability"] = "reliable"
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    begin = [*SAM2S, "node", "--image", "/spoken_camera", "--namespace", "spoken", "--device", "cpu"]
    process = start([*begin, "--checkpoint", checkpoint, *words])
    process.wait_for_output("WAITING: no image so far", 240)
    return process


@pytest.fixture(scope="module")
def masks(graph, node):
    return graph.collect(TrackedMasks, f"{NAME}/masks")


def test_the_doctor_says_that_nobody_publishes_the_images(node):
    assert "ask it from another shell: sam2s prompt, sam2s status" in node.output
    found = sam2s("doctor", "--node", "--seconds", "1")
    assert found.returncode == 1, found.stdout + found.stderr
    assert f"{NAME}: images" in found.stdout and "nobody publishes /spoken_camera" in found.stdout, found.stdout


def test_the_doctor_says_that_the_quality_of_service_does_not_fit(graph, node):
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = graph.publisher(Image, "/spoken_camera", best_effort)
    found = sam2s("doctor", "--node", "--seconds", "1")
    graph.node.destroy_publisher(publisher)
    said = "qos_overrides./spoken_camera.subscription.reliability to best_effort"
    assert found.returncode == 1 and said in found.stdout, found.stdout + found.stderr


def test_it_is_prompted_seen_and_says_so(node, masks, new_camera):
    camera = new_camera("/spoken_camera")
    camera.first(lambda: masks)
    prompted = sam2s("prompt", "--box", "10,12,34,36", "--negative", "40,40", "--tracker", "spoken/tracker")
    assert prompted.returncode == 0, prompted.stdout + prompted.stderr
    assert prompted.stdout.startswith("object 1 (instrument), ")
    refused = sam2s("prompt", "--object", "1", "--class", "spoon")
    assert refused.returncode == 1 and f"{NAME} refused, UNKNOWN_CLASS: " in refused.stdout, refused.stderr
    assert "~/add_prompts: object 1 (instrument) prompted on the image" in node.output
    assert "~/add_prompts refused, UNKNOWN_CLASS" in node.output and "RUNNING: 0 objects" in node.output

    looking = subprocess.Popen([*SAM2S, "status", "--once"], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    while looking.poll() is None:
        camera.send()
        time.sleep(0.1)
    [line] = looking.communicate()[0].splitlines()
    assert looking.returncode == 0 and line.startswith(f"{NAME}: RUNNING, 1 instrument "), line
    assert "received " in line and " 0.0 masks/s" not in line


def test_without_a_terminal_a_line_comes_again_and_again(node):
    following = subprocess.Popen([*SAM2S, "status"], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    lines = [following.stdout.readline() for _ in range(2)]
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=30)
    assert all(line.startswith(f"{NAME}: ") for line in lines), lines


def test_an_unknown_tracker_is_named_with_those_there_are(node):
    found = sam2s("prompt", "--box", "1,1,9,9", "--tracker", "spoken/traker")
    assert found.returncode == 2 and f"did you mean {NAME}?" in found.stderr, found.stdout + found.stderr


def test_without_a_tracker_each_says_so_and_where_to_look(node):
    from sam2s_ros.processes.dds import free_domain

    elsewhere = dict(ROS_DOMAIN_ID=str(free_domain()))
    found = sam2s("status", "--once", "--timeout", "1", **elsewhere)
    assert found.returncode == 1 and f"not found in domain {elsewhere['ROS_DOMAIN_ID']}" in found.stdout
    examined = sam2s("doctor", "--node", "--seconds", "1", **elsewhere)
    assert examined.returncode == 1 and "trackers: none" in examined.stdout
    assert "processes of this machine are in domain" in examined.stdout, examined.stdout


def test_a_recording_is_a_camera_until_its_end(graph, start):
    images = graph.collect(Image, "/spoken_replay")
    words = ["--image", "/spoken_replay", "--rate", "10", "--frames", "4", "--set", "wait_for_subscribers=1"]
    process = start([*SAM2S, "replay", "scene:?width=96&height=80&frames=4&seed=0", *words])
    assert process.wait(60) == 0, process.output
    assert len(images) == 4 and (images[0].width, images[0].height) == (96, 80), process.output
    refused = sam2s("replay", "nowhere.mp4")
    assert refused.returncode == 2 and "nowhere.mp4 does not exist" in refused.stderr, refused.stdout + refused.stderr


def test_it_ends_as_the_node_does(node):
    code, _ = node.stop()
    assert code == 0, node.output
