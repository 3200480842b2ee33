"""tracker.launch.py, launched; skipped where launch is not installed. What the node then does is tested without it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from rcl_interfaces.srv import GetParameters

from sam2s_ros.msg import TrackedMasks, TrackerStatus
from sam2s_ros.processes.dds import MALLOC_VARIABLES, PROFILE_VARIABLES, share_directory

pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with a ROS distribution, PyPI has none")

LAUNCH = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

path, *arguments = sys.argv[1:]
service = LaunchService()
source = PythonLaunchDescriptionSource(path)
given = [argument.split(":=", 1) for argument in arguments]
service.include_launch_description(IncludeLaunchDescription(source, launch_arguments=given))
sys.exit(service.run())
"""


def node_of(launch: int) -> int | None:
    """The process id of the tracker node that a process has started."""
    children = Path(f"/proc/{launch}/task/{launch}/children").read_text().split()
    return next((int(pid) for pid in children if b"tracker_node" in Path(f"/proc/{pid}/cmdline").read_bytes()), None)


def test_the_launch_file_starts_the_node_prepares_it_and_starts_it_again(graph, start, checkpoint, own_camera):
    statuses = graph.collect(TrackerStatus, "/launched/tracker/status")
    masks = graph.collect(TrackedMasks, "/launched/tracker/masks")
    given = dict(namespace="launched", image=own_camera.topic, checkpoint=checkpoint, device="cpu", respawn="true")
    path = share_directory() / "launch" / "tracker.launch.py"
    launched = start([sys.executable, "-c", LAUNCH, str(path), *(f"{name}:={value}" for name, value in given.items())])

    def waits_for_images() -> bool:
        return bool(statuses) and statuses[-1].state == TrackerStatus.STATE_WAITING

    graph.wait_until(waits_for_images, 60, lambda: launched.output)
    first = node_of(launched.popen.pid)
    environment = dict(v.split("=", 1) for v in Path(f"/proc/{first}/environ").read_text().split("\0") if v)
    assert set(PROFILE_VARIABLES) | set(MALLOC_VARIABLES) <= set(environment)
    own_camera.first(lambda: masks)

    os.kill(first, signal.SIGKILL)
    graph.wait_until(lambda: node_of(launched.popen.pid) not in (None, first), 60, lambda: launched.output)
    statuses.clear()
    graph.wait_until(waits_for_images, 60, lambda: launched.output)
    code, _ = launched.stop(signal.SIGINT, 30)
    assert code == 0, launched.output
    assert "process has finished cleanly" in launched.output, launched.output


def test_a_launch_that_names_no_checkpoint_takes_the_packages(graph, start):
    statuses = graph.collect(TrackerStatus, "/bare/tracker/status")
    path = share_directory() / "launch" / "tracker.launch.py"
    launched = start([sys.executable, "-c", LAUNCH, str(path), "namespace:=bare", "device:=cpu"])
    graph.wait_until(
        lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING, 90, lambda: launched.output
    )
    said = "using sam2s_nano, the package's default on a CPU"
    assert f"no checkpoint was given: {said}" in launched.output and said in statuses[-1].message
    code, _ = launched.stop(signal.SIGINT, 30)
    assert code == 0, launched.output


def test_the_page_starts_with_the_tracker(graph, start):
    statuses = graph.collect(TrackerStatus, "/paged/tracker/status")
    path = share_directory() / "launch" / "tracker.launch.py"
    given = ("namespace:=paged", "device:=cpu", "console:=true", "console_port:=0")
    launched = start([sys.executable, "-c", LAUNCH, str(path), *given])
    launched.wait_for_output("console: http://127.0.0.1:", 60)
    graph.wait_until(lambda: statuses, 90, lambda: launched.output)
    launched.wait_for_output("tracker /paged/tracker", 60)
    code, _ = launched.stop(signal.SIGINT, 30)
    assert code == 0, launched.output


def test_the_page_goes_by_the_clock_of_the_trackers_file(graph, start, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("/**:\n  ros__parameters: {use_sim_time: true, device: cpu, autostart: false}\n")
    path = share_directory() / "launch" / "tracker.launch.py"
    given = (f"params_file:={file}", "namespace:=timed", "console:=true", "console_port:=0")
    launched = start([sys.executable, "-c", LAUNCH, str(path), *given])
    asked = GetParameters.Request(names=["use_sim_time"])
    answer = graph.call(GetParameters, "/timed/console/get_parameters", asked, 60)
    assert answer.values[0].bool_value, launched.output
    assert "that it does not have" not in launched.output, launched.output
    assert launched.stop(signal.SIGINT, 30)[0] == 0, launched.output


@pytest.mark.parametrize(
    ("file", "given", "said"),
    [
        ("tracker", "console_port:=first", "console_port is 'first': expected a whole number"),
        ("stereo", "tolerance:=small", "tolerance is 'small': expected a number"),
        ("replay", "rate:=fast", "rate is 'fast': expected a number"),
        *((file, "params_file:=/no.yaml", "/no.yaml does not exist") for file in ("tracker", "stereo", "replay")),
        ("replay", "replay_params_file:=/no.yaml", "replay_params_file /no.yaml does not exist"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_starts(start, file, given, said):
    path = share_directory() / "launch" / f"{file}.launch.py"
    launched = start([sys.executable, "-c", LAUNCH, str(path), "console:=true", given])
    assert launched.wait(60) == 1
    assert said in launched.output and "process started" not in launched.output, launched.output
