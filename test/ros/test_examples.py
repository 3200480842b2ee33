"""The example controllers: both decide alike, the C++ one compiles, the Python one stops a robot in a real graph."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.parameter import Parameter
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.open import open_recording
from sam2s_ros.commands.prompting import first_prompts
from sam2s_ros.interfaces import messages
from sam2s_ros.msg import Prompt, TrackedMasks, TrackedObject, TrackerStatus
from sam2s_ros.processes.dds import share_directory
from sam2s_ros.srv import AddPrompts

EXAMPLES = Path(__file__).parents[2] / "examples"
TRACKED = TrackedObject.STATE_TRACKED
OTHERS = [getattr(TrackedObject, f"STATE_{name}") for name in ("UNKNOWN", "OCCLUDED", "LOST", "SUSPECT")]

# object_id, state of object 7, late, stamp (-1: no masks), now, max_age, silence, whether it may move, or what it says
CASES = [
    (7, TRACKED, 0, 100.0, 100.25, 0.5, 0.25, True, ""),
    (7, TRACKED, 1, 100.0, 100.25, 0.5, 0.25, False, "came too late"),
    (7, TRACKED, 0, 100.0, 100.75, 0.5, 0.25, False, "masks are of 0.75"),
    (7, TRACKED, 0, 101.0, 100.25, 0.5, 0.25, False, "masks are of -0.75"),
    (7, TRACKED, 0, -1.0, 100.25, 0.5, 0.25, False, "no masks so far"),
    (7, TRACKED, 0, 100.0, 100.25, 0.5, 0.75, False, "masks came 0.75"),
    (8, TRACKED, 0, 100.0, 100.25, 0.5, 0.25, False, "is not tracked"),
    *((7, state, 0, 100.0, 100.25, 0.5, 0.25, False, f"in state {state}, not TRACKED") for state in (*OTHERS, 99)),
]


@pytest.fixture(scope="module")
def controller():
    """The module examples/controller.py."""
    spec = importlib.util.spec_from_file_location("controller", EXAMPLES / "controller.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAN = (7, TRACKED, 0, 100.0, 100.25, float("nan"), 0.25, False, "limit nan s")  # which C++ does not read


@pytest.mark.parametrize("object_id, state, late, stamp, now, max_age, silence, moves, said", [*CASES, NAN])
def test_what_the_robot_may_do(controller, object_id, state, late, stamp, now, max_age, silence, moves, said):
    header = Header(stamp=messages.to_time(max(0, int(stamp * 1e9))))
    masks = TrackedMasks(header=header, late=bool(late), objects=[TrackedObject(object_id=7, state=state)])
    found, why = controller.target(
        masks if stamp >= 0 else None, object_id, Time(nanoseconds=int(now * 1e9)), max_age, silence
    )
    assert (found is not None) == moves and said in why and bool(why) != moves


def test_it_says_that_it_moves_when_masks_came_before_its_first_command(controller, capfd):
    node = controller.Controller()
    try:
        header, found = Header(stamp=node.get_clock().now().to_msg()), TrackedObject(object_id=1, state=TRACKED)
        node.on_masks(TrackedMasks(header=header, objects=[found], label_image=Image(width=64, height=48)))
        for _ in range(2):
            node.steer()
    finally:
        node.destroy_node()
    assert capfd.readouterr().err.count("moving") == 1


def test_it_says_each_reason_to_stand_still_once(controller, capfd):
    node = controller.Controller()
    try:
        for stamp, state in ((1, TRACKED), (2, TRACKED), (0, OTHERS[1]), (0, OTHERS[1]), (0, OTHERS[2])):
            header = Header(stamp=node.get_clock().now().to_msg())
            header.stamp.sec -= 10 * stamp  # older and older, then new ones
            found = TrackedObject(object_id=1, state=state)
            node.on_masks(TrackedMasks(header=header, objects=[found], label_image=Image(width=64, height=48)))
            node.steer()
    finally:
        node.destroy_node()
    said = [line.split("standing still: ")[1] for line in capfd.readouterr().err.splitlines() if "standing" in line]
    assert [line.split(":")[0].split(" of ")[0] for line in said] == [
        "the newest masks are", "object 1 is in state 2, not TRACKED", "object 1 is in state 3, not TRACKED",
    ]  # fmt: skip


def test_it_stands_still_when_its_clock_does(controller):
    """With use_sim_time and without /clock masks do not age, and a timer of that clock sends nothing."""
    node, sent = controller.Controller(), []
    node.command, node.max_age = SimpleNamespace(publish=lambda one: sent.append(one.twist.linear.x)), 0.5
    node.set_parameters([Parameter("use_sim_time", value=True)])
    try:
        found = TrackedObject(object_id=1, state=TRACKED, centroid_x=50.0)
        header = Header(stamp=node.get_clock().now().to_msg())
        node.on_masks(TrackedMasks(header=header, objects=[found], label_image=Image(width=64, height=48)))
        end = time.monotonic() + 10.0
        while (not sent or sent[-1]) and time.monotonic() < end:
            rclpy.spin_once(node, timeout_sec=0.1)
    finally:
        node.destroy_node()
    assert sent[0] > 0 and sent[-1] == 0


@pytest.fixture(scope="module")
def include() -> list[str]:
    """Compiler options for the headers of all packages that are installed where this one is, and of ROS."""
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    prefixes = [
        share_directory().parents[1],
        *map(Path, filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":"))),
    ]
    folders = dict.fromkeys(folder for prefix in prefixes for folder in prefix.glob("include/*") if folder.is_dir())
    found = [f"-isystem{folder}" for folder in folders]  # so that only the examples' own warnings count
    if not any((folder / "sam2s_ros" / "msg" / "tracked_masks.hpp").is_file() for folder in folders):
        pytest.skip("the C++ headers of the messages are not installed")
    return [*found, f"-I{EXAMPLES}", "-std=c++17", "-Wall", "-Wextra", "-Werror"]


def test_the_cpp_example_decides_alike(include, tmp_path):
    source, program = Path(__file__).with_name("target_cases.cpp"), tmp_path / "target_cases"
    built = subprocess.run(["c++", *include, str(source), "-o", str(program)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    given = "".join(
        f"{object_id} {state} {late} {stamp} {now} {age} {silence}\n"
        for object_id, state, late, stamp, now, age, silence, *_ in CASES
    )
    answers = subprocess.run([program], input=given, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(answers) == len(CASES)
    for answer, (*_, moves, said) in zip(answers, CASES, strict=True):
        object_id, _, why = answer.partition(" ")
        assert (int(object_id) == 7) == moves and said in why and bool(why) != moves


def test_the_cpp_node_compiles(include):
    if not any(Path(option.removeprefix("-isystem"), "rclcpp", "rclcpp.hpp").is_file() for option in include):
        pytest.skip("rclcpp is not installed: it comes with a ROS distribution, PyPI has none")
    command = ["c++", *include, "-fsyntax-only", str(EXAMPLES / "controller.cpp")]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr


def test_the_controller_moves_only_while_the_mask_can_be_relied_on(graph, start, start_tracker, own_camera):
    camera, source = own_camera, open_recording("scene:?width=192&height=160&frames=4&seed=1")
    frames = list(source)
    [prompt, *_], _ = first_prompts(source, frames[0])
    tracker = start_tracker(
        remap=("__ns:=/steered", f"image:={camera.topic}"),
        checkpoint=resolve_checkpoint("sam2s_pico"),
        model="auto",
        image_size=0,
    )
    remaps = ("masks:=/steered/tracker/masks", "command:=/robot/servo")
    arguments = ["--ros-args", "-p", "max_age:=60.0", *(part for rule in remaps for part in ("-r", rule))]
    robot = start([sys.executable, str(EXAMPLES / "controller.py"), *arguments])
    statuses = graph.collect(TrackerStatus, "/steered/tracker/status")
    masks = graph.collect(TrackedMasks, "/steered/tracker/masks")
    commands = graph.collect(TwistStamped, "/robot/servo")
    graph.wait_until(lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING, 60, lambda: tracker.output)
    camera.first(lambda: masks)
    graph.wait_until(lambda: graph.node.count_subscribers("/steered/tracker/masks") == 2, 30, lambda: robot.output)

    def stands_still() -> bool:
        return (commands[-1].twist.linear.x, commands[-1].twist.linear.y) == (0.0, 0.0)

    def send(pixels, stamp: int = 0) -> TrackedMasks:
        if stamp:
            camera.publisher.publish(camera.message(stamp, pixels))
        else:
            stamp = camera.send(pixels)
        return graph.wait_until(lambda: masks.of(stamp), 20, lambda: tracker.output)

    def becomes(moving: bool) -> bool:
        return graph.wait_until(lambda: commands and stands_still() != moving, 20, lambda: robot.output) is not None

    hour = 3600 * 10**9
    assert graph.call(
        Trigger, "/steered/tracker/reset"
    ).success  # otherwise one image of an hour ago is taken for a stray
    send(frames[0].image, camera.stamp - hour)
    asked = AddPrompts.Request(prompts=[Prompt(box=prompt.box.tolist())])
    answer = graph.call(AddPrompts, "/steered/tracker/add_prompts", asked)
    assert list(answer.object_ids) == [1], answer.message
    old = send(frames[1].image, camera.stamp - hour + 10**9)
    assert [o.state for o in old.objects] == [TRACKED]
    count = len(commands)
    graph.wait_until(lambda: len(commands) > count + 20, 20, lambda: robot.output)
    assert stands_still(), "the mask is TRACKED, but of an hour ago"
    shown = []

    def moves() -> bool:  # again and again: the tracker may not know the robot yet, which this graph cannot ask it
        shown[:] = send(frames[2].image).objects
        assert [o.state for o in shown] == [TRACKED]
        time.sleep(0.3)
        return not stands_still()

    graph.wait_until(moves, 30, lambda: robot.output)
    goal = pytest.approx(2 * (shown[0].centroid_x + 0.5) / 192 - 1, abs=1e-5)
    graph.wait_until(lambda: commands[-1].twist.linear.x == goal, 10, lambda: f"{goal}, not {commands[-1]}")
    gone = send(0 * frames[3].image)
    assert [o.state for o in gone.objects] != [TRACKED] and becomes(moving=False), "nothing is seen of the object"
    assert robot.output.count("moving") == 1 and robot.stop()[0] == 0
