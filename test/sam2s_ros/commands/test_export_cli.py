"""`sam2s export` on the command line."""

from __future__ import annotations

import pytest

from sam2s_ros.commands.cli import main


@pytest.mark.parametrize("name", ["encoder.pt2", "encoder.pt2.json"])
def test_p41_an_encoder_that_is_there_stays(tmp_path, capsys, name):
    (tmp_path / name).write_text("earlier\n")
    command = ["export", "encoder", str(tmp_path / "encoder.pt2"), "--checkpoint", "sam2s_pico", "--device", "cpu"]
    assert main(command) == 2
    assert f"{name} exists already (8 bytes): give another name, or --overwrite" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "earlier\n"}
    assert main([*command, "--overwrite", "--dtype", "int8"]) == 2, "which cannot be exported"
    assert "cannot be exported" in capsys.readouterr().err
