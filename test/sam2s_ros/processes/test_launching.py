"""Which parameters the launch files begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.launching import (
    clock_in_files,
    clock_parameters,
    existing_file,
    full_name,
    parameter_files,
)


@pytest.mark.parametrize("given, device, names", [
    ("", "", ["tracker.yaml"]),
    ("", "auto", ["tracker.yaml"]),
    ("", "cuda:0", ["tracker.yaml"]),
    ("", "cpu", ["tracker.yaml", "tracker_cpu.yaml"]),
    ("~/own.yaml", "cpu", ["own.yaml"]),
])  # fmt: skip
def test_on_a_cpu_steps_have_more_time_unless_a_file_was_given(monkeypatch, tmp_path, given, device, names):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.yaml").touch()
    found = parameter_files(given, device)
    assert [Path(path).name for path in found] == names
    assert all(Path(path).is_file() for path in found)


def test_a_parameters_file_that_is_not_there_is_refused(tmp_path):
    missing = tmp_path / "own.yaml"
    with pytest.raises(ConfigError, match=f"params_file {missing} does not exist: give a YAML file"):
        parameter_files(str(missing), "")
    with pytest.raises(ConfigError, match=f"replay_params_file {tmp_path} is no file"):
        existing_file("replay_params_file", str(tmp_path))


def test_without_the_argument_the_file_decides_whether_time_is_simulated():
    assert clock_parameters("") == []
    assert clock_parameters("true") == [{"use_sim_time": True}]
    assert clock_parameters("false") == [{"use_sim_time": False}]
    declared = Path(__file__).parents[3] / "sam2s_ros" / "processes" / "launch_arguments.py"  # needs a distribution
    assert '"use_sim_time", default_value=""' in declared.read_text()


FILES = {
    "all": "/**:\n  ros__parameters: {use_sim_time: true, policy: fifo}\n",
    "one": "/**:\n  ros__parameters: {use_sim_time: false}\n/rig/tracker:\n  ros__parameters: {use_sim_time: true}\n",
    "other": "rig:\n  right:\n    tracker:\n      ros__parameters: {use_sim_time: true}\n",
    "off": "/rig/right/tracker:\n  ros__parameters: {use_sim_time: false}\n",
    "none": "/**:\n  ros__parameters: {policy: fifo}\n",
    "empty": "/**:\n  ros__parameters:\n",
    "broken": "/**: [",
    "tagged": "/**:\n  ros__parameters: {policy: !!bool x}\n",
}


@pytest.mark.parametrize("files, nodes, expected", [
    (["all"], ["/tracker"], [True]),
    (["one"], ["/tracker"], [False]),
    (["one"], ["/rig/tracker"], [True]),
    (["all", "none"], ["/tracker"], [True]),
    (["off", "all", "off"], ["/rig/right/tracker"], [True]),  # rcl goes by where a section first stands
    (["all", "one"], ["/tracker"], [False]),
    (["other"], ["/rig/left/tracker", "/rig/right/tracker"], [True]),
    (["none", "empty", "broken", "tagged", "missing"], ["/tracker"], []),
])  # fmt: skip
def test_what_stands_beside_a_tracker_goes_by_the_clock_of_its_files(tmp_path, files, nodes, expected):
    """Without the files themselves, whose other parameters it does not have."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    found = clock_in_files([str(tmp_path / name) for name in files], nodes)
    assert found == [{"use_sim_time": value} for value in expected]


@pytest.mark.parametrize("namespaces, expected", [
    (("", ""), "/left/tracker"),
    (("", "rig"), "/rig/left/tracker"),
    (("/group", "rig/"), "/group/rig/left/tracker"),
    (("/group", "/rig"), "/rig/left/tracker"),
    (("/group", ""), "/group/left/tracker"),
])  # fmt: skip
def test_a_full_name_has_all_namespaces(namespaces, expected):
    assert full_name(namespaces, "left/tracker") == expected


@pytest.mark.parametrize("file, beside", [
    ("tracker", '*common_clock(context, "tracker")'),
    ("stereo", 'common_clock(context, "left/tracker", "right/tracker")'),
    ("replay", 'common_clock(context, "tracker") if own is None'),
])  # fmt: skip
def test_each_launch_file_gives_the_clock_to_what_stands_beside_its_trackers(file, beside):
    """Of the text: what it does needs a distribution, see test/ros/test_launch.py."""
    assert beside in (Path(__file__).parents[3] / "launch" / f"{file}.launch.py").read_text()
