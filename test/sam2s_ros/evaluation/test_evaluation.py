"""`sam2s eval` end to end: figures, files, refusals, a run that is killed, processes that die."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

import av
import cv2
import numpy as np
import pytest
from evaluated_clips import SMALL, evaluated, folder, report
from rosbags.highlevel import AnyReader

from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.recordings.image_files import read_labels
from sam2s_model.recordings.open import Source
from sam2s_ros.commands.cli import main
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.evaluation.run import EvalOptions, run_evaluation

SCENES = [f"scene:?width=96&height=80&frames=8&seed={seed}" for seed in (2, 3, 4)]
SHARED = Path(__file__).parents[4] / "shared" / "data"


def without_times(output: Path) -> tuple[dict, str]:
    found = report(output)
    del found["timing"]
    return found, (output / "frames.csv").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert evaluated(output, *SCENES, "--overlay", "--masks") == 0
    return output


def test_p33_report(whole):
    found = report(whole)
    assert found["frames_read"] == 24 and found["failed"] == found["attempts"] == {} and found["protocol"] == "mask"
    assert [r["frames_read"] for r in found["recordings"]] == [8, 8, 8]
    assert [r["scored_frames"] for r in found["recordings"]] == [6, 6, 6]
    for name in ("j", "f", "jf", "dice", "ciou"):
        values = [data_set[name] for data_set in found["data_sets"]]
        assert found["overall"][name] == pytest.approx(np.mean(values)) and all(0 < v <= 1 for v in values)
    assert len(found["configuration"]["checkpoint_sha256"]) == 64 and found["versions"]["torch"]
    assert (
        found["timing"]["fps"] > 0 and found["timing"]["memory_bytes"] > 0 and found["timing"]["step_ms"]["count"] == 18
    )


def test_frames_csv_has_what_the_figures_are_made_of(whole):
    rows = list(csv.DictReader((whole / "frames.csv").open()))
    for recording in report(whole)["recordings"]:
        for own in recording["objects"]:
            key = (recording["name"], str(own["object"]), "1")
            mine = [r for r in rows if (r["recording"], r["object"], r["scored"]) == key]
            assert len(mine) == own["frames"] and mine[0]["class"] == own["class_name"]
            for name in ("j", "f", "jf", "dice"):
                assert np.mean([float(r[name]) for r in mine]) == pytest.approx(own[name])


def test_html_needs_nothing_else(whole):
    page = (whole / "report.html").read_text()
    assert not re.search(r"src=\"(?!data:)", page) and "http" not in page.replace("http-equiv", "")
    objects = sum(len(r["objects"]) for r in report(whole)["recordings"])
    assert page.count("data:image/jpeg;base64,") == 9 + 3 and page.count("<polyline") == objects
    assert page.count("among the worst: frame") == 9 and page.count("among the best: frame") == 3
    assert "width=device-width" in page and report(whole)["configuration"]["checkpoint_sha256"] in page
    picture = np.frombuffer(base64.b64decode(re.search(r"base64,([^\"]+)", page)[1]), np.uint8)
    assert cv2.imdecode(picture, cv2.IMREAD_COLOR).shape == (80, 96, 3)


def test_html_leads_to_the_videos_and_says_of_what_and_when_it_is(whole):
    page, found = (whole / "report.html").read_text(), report(whole)
    links = [unquote(link) for link in re.findall(r"href=\"([^#\"]+)\"", page)]
    keys = [f"{recording['data_set']}/{recording['name']}" for recording in found["recordings"]]
    assert sorted(links) == sorted([*(f"overlay/{k}.mp4" for k in keys), *(f"tracks/{k}.csv" for k in keys)])
    assert all((whole / link).is_file() for link in links)
    assert "Checkpoint sam2s_pico.safetensors" in page and found["timing"]["written"] in page
    assert datetime.fromisoformat(found["timing"]["written"]).tzinfo is not None
    assert "<td>protocol.prompt</td><td>mask</td>" in page and "&#34;" not in page
    objects = [own for recording in found["recordings"] for own in recording["objects"]]
    assert sum(own["objects"] for own in found["classes"]) == len(objects)
    for own in found["classes"]:
        assert own["j"] == pytest.approx(np.mean([o["j"] for o in objects if o["class_name"] == own["name"]]))
        assert f"<td>{own['name']}</td><td>{own['objects']}</td>" in page


def test_overlay_and_masks(whole):
    for recording in report(whole)["recordings"]:
        key = f"{recording['data_set']}/{recording['name']}"
        with av.open(str(whole / "overlay" / f"{key}.mp4")) as container:
            assert len(list(container.decode(video=0))) == 8
        masks = sorted((whole / "masks" / key).iterdir())
        ids = {own["object"] for own in recording["objects"]}
        assert len(masks) == 8 and all(set(np.unique(read_labels(m))) <= {0, *ids} for m in masks)


def test_a_table_of_what_was_tracked_is_beside_the_figures(whole):
    for recording in report(whole)["recordings"]:
        key = f"{recording['data_set']}/{recording['name']}"
        rows = list(csv.DictReader((whole / "tracks" / f"{key}.csv").open()))
        assert {int(row["frame"]) for row in rows} == set(range(8))
        masks = {row["name"]: read_labels(whole / "masks" / key / f"{row['name']}.png") for row in rows}
        for name, mask in masks.items():
            areas = sorted(int(row["area"]) for row in rows if row["name"] == name and row["area"] != "0")
            assert areas == sorted(np.bincount(mask.ravel(), minlength=256)[1:255][np.unique(mask[mask > 0]) - 1])


def square(i: int, label: int) -> np.ndarray:
    mask = np.zeros((80, 96), np.uint8)
    mask[8 + 36 * (label % 2) : 36 + 36 * (label % 2), 10 + 3 * i : 40 + 3 * i] = 1
    return mask


def test_masks_have_the_ids_of_the_ground_truth(tmp_path):
    """Object 7 is prompted first, since object 3 appears later; another program scores the PNGs as the report does."""
    for i in range(8):
        labels = square(i, 7) * 7 + (square(i, 2) * 3 if i >= 2 else 0)
        for below, pixels in (("JPEGImages/a", np.dstack([labels * 30] * 3)), ("Annotations/a", labels)):
            (tmp_path / "vos" / below).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "vos" / below / f"{i:05d}.png"), pixels)
    assert evaluated(tmp_path / "out", str(tmp_path / "vos"), "--masks") == 0
    (recording,) = report(tmp_path / "out")["recordings"]
    for own in recording["objects"]:
        scores = []
        for i in range(1 if own["object"] == 7 else 3, 7):
            read = (
                cv2.imread(str(folder / f"{i:05d}.png"), cv2.IMREAD_UNCHANGED) == own["object"]
                for folder in (tmp_path / "vos/Annotations/a", tmp_path / "out/masks/vos/a")
            )
            truth, found = read
            scores.append(np.count_nonzero(truth & found) / max(1, np.count_nonzero(truth | found)))
        assert np.mean(scores) == pytest.approx(own["j"], abs=1e-6)
    assert max(own["j"] for own in recording["objects"]) > 0


def test_masks_of_objects_in_folders_that_begin_with_0(tmp_path):
    for i in range(4):
        for below, pixels in (
            ("JPEGImages_24fps/v", np.dstack([square(i, 0) * 200] * 3)),
            *((f"Annotations_6fps/v/{k:03d}", square(i, k) * 255) for k in (0, 1)),
        ):
            (tmp_path / "sav" / below).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "sav" / below / f"{i:05d}.png"), pixels)
    assert evaluated(tmp_path / "out", str(tmp_path / "sav"), "--masks", "--scored", "all") == 0
    written = sorted(
        p.relative_to(tmp_path / "out/masks/sav/v").as_posix() for p in (tmp_path / "out/masks").rglob("*.png")
    )
    assert written == [f"{k:03d}/{i:05d}.png" for k in (0, 1) for i in range(4)]
    assert set(np.unique(cv2.imread(str(tmp_path / "out/masks/sav/v/000/00000.png"), -1))) == {0, 255}


def test_masks_bag(tmp_path):
    assert evaluated(tmp_path / "out", SCENES[0], "--frames", "3", "--masks-bag") == 0
    (path,) = (tmp_path / "out" / "masks").rglob("*.mcap")
    found: dict[str, list] = {}
    with AnyReader([path]) as reader:
        for connection, stamp, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            header = message.header.stamp
            assert header.sec * 10**9 + header.nanosec == stamp
            found.setdefault(connection.topic, []).append(message)
    assert {topic: len(messages) for topic, messages in found.items()} == {
        "/tracker/masks": 3, "/tracker/label_image": 3, "/tracker/overlay/compressed": 3,
    }  # fmt: skip
    for masks, image in zip(found["/tracker/masks"], found["/tracker/label_image"], strict=True):
        assert image.encoding == "mono8" and np.array_equal(image.data, masks.label_image.data)
        assert len(masks.objects) == 2 and {o.label for o in masks.objects} >= set(np.unique(image.data)) - {0, 255}
    overlay = cv2.imdecode(found["/tracker/overlay/compressed"][0].data, cv2.IMREAD_COLOR)
    assert overlay.shape == (80, 96, 3)
    assert [m.header.stamp for m in found["/tracker/masks"]][1].nanosec == 40_000_000, "the recording's own times"


def test_a_finished_evaluation_is_not_done_again(whole, capsys):
    before = {p: p.stat().st_mtime_ns for p in (whole / "recordings").rglob("*.json")}
    assert evaluated(whole, *SCENES, "--overlay", "--masks") == 0
    assert "3 of 3 recordings are there already" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in (whole / "recordings").rglob("*.json")}


def test_of_data_that_has_changed_no_result_is_kept(tmp_path, capsys):
    for name in ("a", "b"):
        folder(tmp_path / "set" / name, 4)
    output = tmp_path / "set" / "out"
    assert evaluated(output, str(tmp_path / "set")) == 0
    first = report(output)["recordings"]
    written = {path.stem: path.stat().st_mtime_ns for path in (output / "recordings").rglob("*.json")}
    (tmp_path / "set" / "a" / "masks" / "00002.png").unlink()
    capsys.readouterr()
    assert evaluated(output, str(tmp_path / "set")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 recordings are there already" in said and "set/a: evaluated anew, since files of it have" in said
    again = report(output)["recordings"]
    assert [own["annotated"] for own in again] == [3, 4] and again[1] == first[1]
    assert {path.stem: path.stat().st_mtime_ns for path in (output / "recordings").rglob("*.json")}["b"] == written["b"]
    (path,) = (output / "recordings").rglob("b.json")
    path.write_text(json.dumps(json.loads(path.read_text())["result"]))  # as earlier versions wrote it
    assert evaluated(output, str(tmp_path / "set")) == 0 and "made_of" in json.loads(path.read_text())
    said = " ".join(capsys.readouterr().out.split())
    assert "set/b: evaluated anew, since what is there was written by an earlier version" in said
    assert "have changed" not in said


def test_a_password_is_in_no_file(tmp_path, file_server, capsys):
    frames, path = list(folder(tmp_path / "clip", 4).glob("frames/*.png")), tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 80))
    for frame in sorted(frames):
        writer.write(cv2.imread(str(frame)))
    writer.release()
    file_server.content = path.read_bytes()
    url = f"{file_server.url}/clip.avi".replace("://", "://surgeon:secret@")
    assert evaluated(tmp_path / "out", url, "--truth", str(tmp_path / "clip" / "masks")) == 0
    assert evaluated(tmp_path / "none", url) == 2
    assert "***@" in (tmp_path / "out" / "report.json").read_text() and "secret" not in "".join(capsys.readouterr())
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file() and b"secret" in p.read_bytes()]


def test_another_configuration_is_refused(whole, tmp_path, capsys):
    prompt, threads = "with protocol.prompt 'mask', and this one has 'box'", "with threads 1, and this one has 2"
    for change, text in ((["--prompt", "box"], prompt), (["--threads", "2"], threads)):
        assert evaluated(whole, *SCENES, "--overlay", "--masks", *change) == 2
        assert text in (error := capsys.readouterr().err) and error.endswith("give another --output\n")
    (tmp_path / "recordings").mkdir()
    assert evaluated(tmp_path, *SCENES) == 2
    assert "has recordings but no evaluation.json: it is not of `sam2s eval`" in capsys.readouterr().err


def test_p41_eval_replaces_another_evaluation_with_overwrite_alone(whole, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(whole, output)
    before = {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
    assert evaluated(output, SCENES[0], "--frames", "3") == 2
    assert "give --overwrite" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}
    assert evaluated(output, SCENES[0], "--frames", "3", "--overwrite") == 0
    assert {p.name for p in output.rglob("*.json")} >= {"report.json", "evaluation.json"}
    assert (
        len(report(output)["recordings"]) == 1 and not list(output.rglob("*.png")) and not list(output.rglob("*.mp4"))
    )

    data_set = tmp_path / "data"
    (data_set / "masks").mkdir(parents=True)
    (data_set / "masks" / "0.png").write_bytes(b"precious")
    assert evaluated(data_set, SCENES[0], "--overwrite") == 2
    assert (data_set / "masks" / "0.png").read_bytes() == b"precious"


def test_p41_a_comparison_is_not_written_over(whole, tmp_path, capsys):
    (tmp_path / "a.json").write_text("precious")
    command = ["eval", "compare", str(whole), str(whole), "--output", str(tmp_path / "a.json")]
    assert (
        main(command) == 2
        and "a.json exists already (8 bytes): give another name, or --overwrite" in capsys.readouterr().err
    )
    assert (tmp_path / "a.json").read_text() == "precious"
    assert main([*command, "--overwrite"]) == 0 and "others" in json.loads((tmp_path / "a.json").read_text())


def test_killed_and_resumed_it_gives_the_same_report(whole, tmp_path):
    output = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "sam2s_ros.commands.cli",
        "eval",
        *SCENES,
        "--overlay",
        "--masks",
        *SMALL,
        "--output",
        str(output),
    ]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (done := list(output.glob("recordings/*/*.json"))) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= len(done) < 3 and not (output / "report.json").exists()
    written = done[0].stat().st_mtime_ns
    assert evaluated(output, *SCENES, "--overlay", "--masks") == 0
    assert without_times(output) == without_times(whole)
    assert done[0].stat().st_mtime_ns == written


@pytest.mark.full  # test_archive.py has two processes, one of them killed
def test_processes_give_the_same_report(whole, tmp_path):
    output = tmp_path / "out"
    assert evaluated(output, *SCENES, "--overlay", "--masks", "--jobs", "2") == 0
    assert without_times(output) == without_times(whole)


def test_interrupted_it_reports_what_there_is(tmp_path):
    """Ctrl-C after the first recording; then the same options go on."""
    options = EvalOptions(
        tuple(map(Source, SCENES[:2])), tmp_path / "out",
        EngineOptions(Path("sam2s_pico"), "sam2s_pico", image_size=64, device="cpu"), EvaluationProtocol(frames=3),
        say=lambda line: None,
    )  # fmt: skip

    def interrupt(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    found = run_evaluation(options, interrupt)
    assert found["interrupted"] and found["frames_read"] == 3 and report(tmp_path / "out") == found
    found = run_evaluation(options)
    assert not found["interrupted"] and found["frames_read"] == 6
    with pytest.raises(KeyboardInterrupt):  # nothing to report
        run_evaluation(
            replace(options, output=tmp_path / "none"), lambda done, total: signal.raise_signal(signal.SIGINT)
        )


def test_p33_what_cannot_be_read_is_listed_and_the_report_is_written(tmp_path, capsys):
    folder(tmp_path / "set" / "good", broken_frames=(2,))
    folder(tmp_path / "set" / "empty", broken_frames=range(6))
    assert evaluated(tmp_path / "out", str(tmp_path / "set")) == 1
    found = report(tmp_path / "out")
    assert [r["name"] for r in found["recordings"]] == ["good"] and found["recordings"][0]["frames_read"] == 5
    assert found["recordings"][0]["odd"] == dict(count=1, named=["frame 00002.png cannot be decoded"])
    assert list(found["failed"]) == ["set/empty"] and "no readable frame" in found["failed"]["set/empty"]
    out = capsys.readouterr().out
    assert "failed: set/empty" in out and "1 odd images or masks left out" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["/no/where"], "/no/where does not exist"),
        ([SCENES[0], "--prompt", "scribble"], "prompt is 'scribble': expected one of 'mask', 'box', 'clicks'"),
        ([SCENES[0], "--only", "other"], "there is no recording 'other': expected one of scene_width96"),
        ([SCENES[0], "--layout", "davis"], "is not laid out as davis"),
        ([SCENES[0], "--checkpoint", "/no/model.pt"], "'/no/model.pt' does not exist"),
        ([SCENES[0], "--policy", "best"], "policy is 'best'"),
        ([SCENES[0], "--truth", "masks"], "masks cannot be read"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(arguments, expected, tmp_path, capsys):
    assert evaluated(tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("recordings")), "so that the corrected command can use the folder"


def test_compare(whole, tmp_path, capsys):
    assert evaluated(tmp_path / "box", *SCENES, "--prompt", "box", "--overlay", "--masks") == 0
    command = [
        "eval",
        "compare",
        str(whole),
        str(tmp_path / "box"),
        str(whole),
        "--output",
        str(tmp_path / "differences.json"),
    ]
    assert main([*command, "--draws", "500"]) == 0
    found = json.loads((tmp_path / "differences.json").read_text())["others"]
    of_box, of_itself = found[str(tmp_path / "box")], found[str(whole)]
    expected = report(tmp_path / "box")["overall"]["jf"] - report(whole)["overall"]["jf"]
    assert of_box["overall"]["jf"]["difference"] == pytest.approx(expected)
    assert of_itself["overall"]["jf"]["difference"] == 0 and list(of_box["configurations"]) == ["protocol.prompt"]
    out = capsys.readouterr().out
    assert "no interval: each data set has one recording" in out and "same configuration" in out
    assert main(["eval", "compare", str(whole)]) == 2 and main(["eval", "compare", str(whole), str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert "there is 1 report: expected at least two" in errors and "is not a report of `sam2s eval`" in errors


@pytest.mark.skipif(not (SHARED / "davinci" / "s5").is_dir(), reason=f"{SHARED}/davinci is not there")
def test_real_recordings(tmp_path):
    sparse = SHARED / "laparoscopy_clip"
    assert (
        evaluated(tmp_path / "davinci", str(SHARED / "davinci"), "--only", "s5", "--frames", "4", "--prompt", "clicks")
        == 0
    )
    assert report(tmp_path / "davinci")["recordings"][0]["scored_frames"] == 2
    video = (str(sparse / "endo.mp4"), "--truth", str(sparse / "sparse_masks_640x360"), "--frames", "32")
    assert evaluated(tmp_path / "sparse", *video, "--scored", "all") == 0
    (recording,) = report(tmp_path / "sparse")["recordings"]
    assert (recording["frames_read"], recording["annotated"]) == (32, 2) and recording["odd"]["count"] == 0
