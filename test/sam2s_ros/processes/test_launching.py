"""Which parameters the launch files begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.launching import clock_parameters, existing_file, parameter_files


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
