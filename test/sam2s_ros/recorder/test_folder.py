"""The folder of a recording is a free one, however it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_ros.recorder.folder import LINES, open_folder


@pytest.mark.parametrize(("output", "below"), [(".", ""), ("..", "deep"), ("deep/..", "")])
def test_a_folder_without_a_name_is_numbered_by_its_own(tmp_path, monkeypatch, output, below):
    take = tmp_path / "take"
    (take / "deep").mkdir(parents=True)
    (take / LINES).write_text("{}")
    monkeypatch.chdir(take / below)
    said: list[str] = []
    for number in (2, 3):
        folder, lines = open_folder(Path(output), overwrite=False, say=said.append)
        lines.close()
        (folder / LINES).write_text("{}")
        assert folder == tmp_path / f"take_{number}"
        assert said[-1] == f"{take} has a recording, which stays: this one goes to {folder} (overwrite is false)"
    assert (take / LINES).read_text() == "{}"
