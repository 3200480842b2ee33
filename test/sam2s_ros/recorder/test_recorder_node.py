"""A recorder that cannot start leaves the disk as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import rclpy

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.arguments import parameter_argument
from sam2s_ros.recorder.node import RecorderNode


@pytest.fixture
def refused(tmp_path: Path):
    """Returns the sentence with which a recorder is refused."""

    def begin(**parameters: object) -> str:
        given = {"output": str(tmp_path / "out"), **parameters}
        words = [word for name, value in given.items() for word in parameter_argument(name, value)]
        rclpy.init(args=["--ros-args", *words])
        with pytest.raises(ConfigError) as caught:
            RecorderNode()
        return str(caught.value)

    yield begin
    rclpy.try_shutdown()


@pytest.mark.parametrize("name, topic", [
    ("image", "two words"), ("masks", "a//b"), ("labels", "7up"), ("truth", "{x"), ("image", ""), ("masks", ""),
])  # fmt: skip
def test_a_topic_that_is_none_is_refused_before_files_are_made(refused, tmp_path, name, topic):
    said = refused(**{name: topic})
    assert said.startswith(f"parameter {name} is {topic!r}, which names no topic: ") and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_recorder_that_is_refused_removes_no_recording(refused, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "frames.jsonl").write_text("{}\n")
    refused(labels="two words", overwrite=True)
    assert (tmp_path / "out" / "frames.jsonl").read_text() == "{}\n"
