"""`sam2s track` of several recordings: one report, gone on with, the same wherever it runs, whatever dies."""

from __future__ import annotations

import csv
import fcntl
import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from sam2s_model.recordings.open import open_recording
from sam2s_ros.archive import run
from sam2s_ros.archive.task import WHOLE
from sam2s_ros.commands.cli import main

SCENES = [f"scene:?width=96&height=80&frames=5&seed={seed}" for seed in (1, 2, 3)]
SMALL = ("--checkpoint", "sam2s_pico", "--model", "sam2s_pico", "--image-size", "64", "--device", "cpu")
DIES = """
import os, pathlib, signal
from sam2s_ros.archive import run
from sam2s_ros.commands import track

def tracked(task):
    mark = pathlib.Path({mark!r})
    if "seed2" in task.key and not mark.exists():
        mark.touch()
        begun = []
        def after_two_frames(done, total):
            if done == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        return run.track_recording(task, after_two_frames)
    return run.track_recording(task)
"""


def track(output: Path, *arguments: object) -> int:
    return main([str(word) for word in ("track", *arguments, *SMALL, "--output", output)])


def rows(output: Path, name: str = "archive.csv") -> list[dict[str, str]]:
    return list(csv.DictReader((output / name).open()))


def tables(output: Path) -> list[bytes]:
    """The tables over all, and the one of each recording."""
    own = [path.read_bytes() for path in sorted(output.glob("recordings/*/tracks.csv"))]
    return [(output / "archive.csv").read_bytes(), (output / "objects.csv").read_bytes(), *own]


def times(output: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in output.glob(f"recordings/*/{WHOLE}")}


@pytest.fixture
def clip(tmp_path) -> Path:
    """A video of the procedural scene: no ground truth, so that nothing says what to track."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width, stream.height = 96, 80
        for frame in open_recording(SCENES[0]):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The scenes, tracked one after the other in this process."""
    output = tmp_path_factory.mktemp("alone") / "archive"
    assert track(output, *SCENES) == 0
    return output


def test_one_report_over_all(alone):
    found = rows(alone)
    assert [row["recording"] for row in found] == [f"scene_width96_height80_frames5_seed{i}" for i in (1, 2, 3)]
    assert {row["status"] for row in found} == {"done"} and {row["frames"] for row in found} == {"5"}
    objects = rows(alone, "objects.csv")
    assert len(objects) == sum(int(row["objects"]) for row in found) == 6
    for row in objects:
        assert sum(int(row[f"frames_{state}"]) for state in ("tracked", "occluded", "lost", "suspect")) == 5
    report = json.loads((alone / "archive.json").read_text())
    assert report["totals"]["frames"] == 15 and report["totals"]["objects"] == 6 and not report["failed"]
    timing = report["timing"]
    assert timing["frames"] == 15 and timing["frames_per_second"] == pytest.approx(15 / timing["seconds"], rel=0.01)
    assert timing["times_real_time"] == pytest.approx(timing["frames_per_second"] / 25, rel=0.01)
    assert len(list((alone / "recordings").glob("*/masks/*.png"))) == 15


def test_what_is_whole_is_not_done_again_and_what_has_changed_is(clip, tmp_path, capsys):
    output = tmp_path / "archive"
    few = ("--no-overlay", "--no-masks", "--frames", "3")
    assert track(output, SCENES[0], clip, tmp_path / "missing.mp4", *few) == 1
    said = capsys.readouterr().out
    assert "clip failed: the first frame of" in said and "missing.mp4 does not exist" in said
    assert [row["status"] for row in rows(output)] == ["done", "failed", "failed"]
    assert "nothing says what to track" in rows(output)[1]["reason"]
    assert not list(output.glob("recordings/*/masks")) and not list(output.glob("recordings/*/overlay.mp4"))
    first = times(output)
    prompts = clip.with_name("clip.prompts.yaml")
    prompts.write_text("prompts:\n- {frame: 0, object: 1, box: [10, 10, 60, 60]}\n")
    assert track(output, SCENES[0], clip, *few) == 0
    assert "1 of 2 recordings are there already" in capsys.readouterr().out
    second = times(output)
    assert second.keys() == {"clip", *first} and first.items() <= second.items()
    prompts.write_text("prompts:\n- {frame: 0, object: 1, box: [20, 20, 70, 70]}\n")
    assert track(output, SCENES[0], clip, *few) == 0
    third = times(output)
    assert third["clip"] > second["clip"] and first.items() <= third.items(), "its prompts have changed, nothing else"
    assert track(output, SCENES[0], "--jobs", "2", "--frames", "4") == 2
    assert "has an archive with frames 3, and this one has 4: give --overwrite" in capsys.readouterr().err


def test_a_recording_that_grows_while_it_is_tracked_is_tracked_again(clip, tmp_path, monkeypatch, capsys):
    real = run.track_recording

    def growing(task, on_frame=None):
        with clip.open("ab") as file:  # as while it is copied
            file.write(b"more")
        return real(task, on_frame)

    clip.with_name("clip.prompts.yaml").write_text("prompts:\n- {frame: 0, object: 1, box: [10, 10, 60, 60]}\n")
    monkeypatch.setattr(run, "track_recording", growing)
    assert track(tmp_path / "archive", SCENES[0], clip, "--frames", "2") == 0
    monkeypatch.setattr(run, "track_recording", real)
    for there in (1, 2):
        capsys.readouterr()
        assert track(tmp_path / "archive", SCENES[0], clip, "--frames", "2") == 0
        assert f"{there} of 2 recordings are there already" in capsys.readouterr().out


@pytest.mark.parametrize("after", ["prompts:\n- {frame: 0, object: 1, box: [20, 20, 70, 70]}\n", ""])
def test_prompts_that_change_while_it_is_tracked_are_not_what_it_was_tracked_with(
    clip, tmp_path, monkeypatch, capsys, after
):
    prompts, real = clip.with_name("clip.prompts.yaml"), run.track_recording
    before = "prompts:\n- {frame: 0, object: 1, box: [10, 10, 60, 60]}\n"
    prompts.write_text(before)

    def changing(task, on_frame=None):
        found = real(task, on_frame)
        prompts.write_text(after) if after else prompts.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(run, "track_recording", changing)
    command = (tmp_path / "archive", clip, SCENES[0], "--frames", "2", "--no-overlay", "--no-masks")
    assert track(*command) == 0, "a report, and no traceback, where they are gone"
    monkeypatch.setattr(run, "track_recording", real)
    for text, there in ((before, 2), (after, 1)) if after else ((before, 2),):
        capsys.readouterr()
        prompts.write_text(text)
        assert track(*command) == 0
        assert f"{there} of 2 recordings are there already" in capsys.readouterr().out


def test_a_password_is_in_no_file(clip, tmp_path, file_server):
    file_server.content = clip.read_bytes()
    url = f"{file_server.url}/operation.mp4".replace("://", "://surgeon:secret@")
    (tmp_path / "asked").mkdir()
    for name in ("operation", "clip"):
        prompts = "prompts:\n- {frame: 0, object: 1, box: [10, 10, 60, 60]}\n"
        (tmp_path / "asked" / f"{name}.yaml").write_text(prompts)
    out = tmp_path / "archive"
    assert track(out, url, clip, "--prompts", tmp_path / "asked", "--frames", "2", "--no-masks") == 0
    texts = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert [path for path, text in texts.items() if b"secret" in text] == []
    assert b"surgeon:***@" in texts[out / "recordings" / "operation" / WHOLE]


def test_a_result_is_what_a_file_gives_back(alone):
    """numpy rounds its own numbers to other last digits than Python."""
    from sam2s_ros.archive.report import result_of

    folder = next(alone.glob("recordings/*seed1"))
    summary = json.loads((folder / "summary.json").read_text())
    summary["objects"][0]["mean_iou"] = np.float64(0.4780135)
    [first, _] = result_of(summary, folder, [])["objects"]
    assert type(first["mean_iou"]) is float
    before = tables(alone)
    assert track(alone, *SCENES) == 0, "all of it from files"
    assert tables(alone) == before


def test_a_killed_process_costs_its_recording_an_attempt_and_no_other(alone, tmp_path, monkeypatch, capsys):
    (tmp_path / "dies_in_track.py").write_text(DIES.format(mark=str(tmp_path / "mark")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(run, "track_recording", importlib.import_module("dies_in_track").tracked)
    output = tmp_path / "archive"
    assert track(output, *SCENES, "--jobs", "2") == 0
    del sys.modules["dies_in_track"]
    assert (tmp_path / "mark").exists()
    report = json.loads((output / "archive.json").read_text())
    assert list(report["attempts"].values()) == [2] and "seed2" in next(iter(report["attempts"]))
    assert "took 2 attempts" in capsys.readouterr().out
    assert tables(output) == tables(alone)


def test_an_interrupted_archive_reports_what_there_is_and_is_gone_on_with(alone, tmp_path, monkeypatch, capsys):
    output = tmp_path / "archive"
    real = run.track_recording

    def interrupted(task, on_frame=None):
        if "seed2" in task.key:
            raise KeyboardInterrupt
        return real(task, on_frame)

    monkeypatch.setattr(run, "track_recording", interrupted)
    assert track(output, *SCENES) == 130
    assert [row["status"] for row in rows(output)] == ["done", "left", "left"]
    assert "the same command goes on with what is left" in capsys.readouterr().out
    monkeypatch.setattr(run, "track_recording", real)
    assert track(output, *SCENES) == 0
    assert tables(output) == tables(alone)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install sam2s_ros[ray]")
def test_a_ray_cluster_gives_the_same_tables(alone, tmp_path, monkeypatch):
    import ray

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert track(tmp_path / "archive", *SCENES, "--ray", "local") == 0
    finally:
        ray.shutdown()
    assert tables(tmp_path / "archive") == tables(alone)


def test_without_ray_the_option_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert track(tmp_path / "archive", SCENES[0], "--ray", "auto") == 2
    assert "--ray auto needs Ray, which is not installed: pip install 'sam2s_ros[ray]'" in capsys.readouterr().err


def test_two_at_one_folder_and_results_of_others_are_refused(tmp_path, capsys):
    output = tmp_path / "archive"
    output.mkdir()
    with (output / f".{run.SETTINGS}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert track(output, *SCENES) == 2
    assert "another `sam2s track` is at" in capsys.readouterr().err
    (output / "tracks.csv").write_text("mine")
    assert track(output, *SCENES) == 2
    assert "has tracks.csv but no archive_settings.json" in capsys.readouterr().err
    assert (output / "tracks.csv").read_text() == "mine"


def test_instruments_are_found_by_prototypes_without_a_prompt(tmp_path, capsys):
    scene = "scene:?width=160&height=128&frames={}&seed={}"
    pico = ("--checkpoint", "sam2s_pico", "--device", "cpu")
    bank = tmp_path / "bank.safetensors"
    known = [scene.format(20, seed) for seed in (1, 2, 3)]
    build = ["prototypes", "build", *known, "--class", "instrument", "--frames", "4", "--output", str(bank), *pico]
    assert main(build) == 0
    capsys.readouterr()
    output = tmp_path / "archive"
    command = ["track", scene.format(4, 11), scene.format(4, 12), "--prototypes", str(bank), "--look-every", "3"]
    assert main([*command, *pico, "--precision", "fp32", "--no-overlay", "--output", str(output)]) == 0
    assert {row["class"] for row in rows(output, "objects.csv")} == {"instrument"}
    assert all(int(row["objects"]) >= 1 for row in rows(output))
    assert main([*command, *pico, "--class", "hook", "--output", str(tmp_path / "other")]) == 1
    assert "has no prototypes of class 'hook': there are those of instrument" in capsys.readouterr().out
    assert main(["track", known[0], "--prototypes", str(bank), "--box", "1,1,9,9", *pico]) == 2
    assert "was given with prompts: expected one of the two" in capsys.readouterr().err
