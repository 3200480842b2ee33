"""`sam2s track --save-objects` and `--objects`: objects of one run go on in another, without a prompt."""

from __future__ import annotations

import json

from sam2s_model.recall.object_file import read_objects

SCENE = "scene:?width=96&height=80&frames=6&seed=1&fps=20"


def test_objects_of_one_run_go_on_in_another(track, tmp_path, capsys):
    file = tmp_path / "objects.safetensors"
    assert (
        track(
            SCENE,
            "--frames",
            2,
            "--label-set",
            "generic",
            "--class",
            "object",
            "--save-objects",
            file,
            "--output",
            tmp_path / "one",
        )
        == 0
    )
    assert f"2 objects were saved to {file}" in " ".join(capsys.readouterr().out.split())
    assert len(read_objects(file)[0].objects) == 2
    assert track(SCENE, "--start", 2, "--objects", file, "--label-set", "generic", "--output", tmp_path / "two") == 0
    summary = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert summary["restored"] == [1, 2] and summary["objects_file"] == str(file) and summary["frames"] == 4
    assert [one["truth_label"] in (1, 2) and one["mean_iou"] is not None for one in summary["objects"]] == [True, True]
    assert [(one["object_id"], one["class"]) for one in summary["objects"]] == [(1, "object"), (2, "object")]
    assert (
        track(
            SCENE,
            "--objects",
            file,
            "--point",
            "40,40",
            "--label-set",
            "generic",
            "--frames",
            1,
            "--output",
            tmp_path / "both",
        )
        == 0
    )
    summary = json.loads((tmp_path / "both" / "summary.json").read_text())
    assert summary["restored"] == [1, 2] and len(summary["objects"]) == 3


def test_what_is_no_such_file_is_said_before_anything_is_written(track, tmp_path, capsys):
    file = tmp_path / "objects.safetensors"
    file.write_text("something else")
    assert track(SCENE, "--objects", file, "--output", tmp_path / "out") == 2
    assert "is no file of objects" in " ".join(capsys.readouterr().err.split())
    assert track(SCENE, "--save-objects", file, "--output", tmp_path / "out") == 2
    assert "exists already" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert track(SCENE, "--frames", 1, "--save-objects", file, "--overwrite", "--output", tmp_path / "out") == 0
    assert len(read_objects(file)[0].objects) == 2
    assert track(SCENE, "--objects", file, "--label-set", "endovis2017", "--output", tmp_path / "none") == 2
    assert "is not in label set" in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "none").exists()


def test_objects_that_cannot_be_saved_are_said_before_the_run(track, tmp_path, capsys):
    """It was found out after the last frame, which may be hours later."""
    (tmp_path / "file").write_text("")
    out, file = tmp_path / "out", tmp_path / "new" / "objects.safetensors"
    assert track(SCENE, "--save-objects", tmp_path / "file" / "objects.safetensors", "--output", out) == 2
    assert "cannot be written to" in (said := " ".join(capsys.readouterr().err.split()))
    assert "give another --save-objects" in said
    assert track(SCENE, "--policy", "none", "--save-objects", file, "--output", out) == 2
    assert "policy 'none' remembers no prompted frames" in " ".join(capsys.readouterr().err.split())
    assert track(SCENE, "--objects", file, "--save-objects", file, "--output", out) == 2
    assert "objects.safetensors' do not exist" in " ".join(capsys.readouterr().err.split())
    assert not out.exists() and not file.parent.exists()
    assert track(SCENE, "--frames", 1, "--save-objects", file, "--output", out) == 0, "the folder is made"
    assert len(read_objects(file)[0].objects) == 2


def test_a_run_without_objects_at_its_end_saves_none_and_says_so(track, tmp_path, capsys):
    file, prompts = tmp_path / "objects.safetensors", tmp_path / "prompts.yaml"
    prompts.write_text("prompts:\n- {frame: 5, object: 1, box: [20, 20, 70, 60]}\n")
    given = ("--prompts", prompts, "--frames", 2, "--save-objects", file, "--output", tmp_path / "out")
    assert track(SCENE, *given) == 0
    assert f"no object is tracked at the end: none was saved to {file}" in " ".join(capsys.readouterr().out.split())
    assert not file.exists() and not json.loads((tmp_path / "out" / "summary.json").read_text())["interrupted"]
