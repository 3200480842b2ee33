"""Which parameters the launch files begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_ros.processes.launching import parameter_files


@pytest.mark.parametrize("given, device, names", [
    ("", "", ["tracker.yaml"]),
    ("", "auto", ["tracker.yaml"]),
    ("", "cuda:0", ["tracker.yaml"]),
    ("", "cpu", ["tracker.yaml", "tracker_cpu.yaml"]),
    ("/own.yaml", "cpu", ["own.yaml"]),
])  # fmt: skip
def test_on_a_cpu_steps_have_more_time_unless_a_file_was_given(given, device, names):
    found = parameter_files(given, device)
    assert [Path(path).name for path in found] == names
    assert all(Path(path).is_file() for path in found if not given)
