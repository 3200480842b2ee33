"""`sam2s eval --prompts`: what a person said, corrections among it, in place of the protocol's prompts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from evaluated_clips import evaluated, folder, report


def script(path: Path, *entries: str) -> Path:
    path.write_text("prompts:\n" + "".join(f"- {{{entry}}}\n" for entry in entries))
    return path


def test_objects_of_the_file_are_those_of_the_ground_truth(tmp_path, capsys):
    clip = folder(tmp_path / "clip")
    first, correction = "frame: 1, object: 1, box: [14, 20, 44, 50]", "frame: 3, object: 1, not_on: [[2, 2]]"
    said = script(tmp_path / "prompts.yaml", first, correction, "frame: 9, object: 1, points: [[5, 5]]")
    assert evaluated(tmp_path / "out", str(clip), "--prompts", str(said)) == 0
    assert "prompts on frames that never came: object 1 on frame 9" in capsys.readouterr().out
    found = report(tmp_path / "out")
    assert found["protocol"] == "a file" and [o["object"] for o in found["recordings"][0]["objects"]] == [1]
    rows = list(csv.DictReader((tmp_path / "out" / "frames.csv").open()))
    assert [(int(row["frame"]), int(row["scored"])) for row in rows] == [(1, 0), (2, 1), (3, 0), (4, 1), (5, 0)]
    other = script(tmp_path / "prompts.yaml", first)
    assert evaluated(tmp_path / "out", str(clip), "--prompts", str(other)) == 2
    assert "has an evaluation with prompts_sha256" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ("none.yaml", "none.yaml cannot be read as prompts"),
        ("one.yaml", "is one file, and there are 2 recordings: give a folder of NAME.yaml"),
        (".", "b.yaml cannot be read as prompts"),
    ],
)
def test_each_recording_has_a_file(prompts, expected, tmp_path, capsys):
    for name in "ab":
        folder(tmp_path / "clips" / name, 3)
    for name in ("one", "a"):
        script(tmp_path / f"{name}.yaml", "frame: 0, box: [10, 20, 40, 50]")
    source = tmp_path / "clips" / ("a" if prompts == "none.yaml" else "")
    assert evaluated(tmp_path / "out", str(source), "--prompts", str(tmp_path / prompts)) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_prompt_outside_the_image_is_named(tmp_path, capsys):
    said = script(tmp_path / "prompts.yaml", "frame: 0, box: [10, 20, 400, 50]")
    assert evaluated(tmp_path / "out", str(folder(tmp_path / "clip", 3)), "--prompts", str(said)) == 1
    assert "object 1 on frame 0: box (10, 20, 400, 50) is outside the image" in capsys.readouterr().out


def test_masks_that_prompts_name_are_part_of_what_was_said(tmp_path, capsys):
    clip = folder(tmp_path / "clip", 3)
    said = script(tmp_path / "prompts.yaml", "frame: 0, object: 1, mask: mask.png")
    for name, status in (("00000", 0), ("00000", 0), ("00002", 2)):
        (tmp_path / "mask.png").write_bytes((clip / "masks" / f"{name}.png").read_bytes())
        assert evaluated(tmp_path / "out", str(clip), "--prompts", str(said)) == status
    assert "has an evaluation with prompts_sha256" in capsys.readouterr().err
