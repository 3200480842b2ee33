"""The command line as a user sees it: `sam2s track` end to end, and one sentence with exit code 2 for bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import av
import cv2
import numpy as np
import pytest

from sam2s_model.recordings.image_files import read_labels
from sam2s_ros.commands.checkpoints import checkpoint_or_default
from sam2s_ros.commands.cli import main
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.commands.track import TrackOptions, run_track
from sam2s_ros.processes.dds import share_directory

SCENE = "scene:?width=96&height=80&frames=6&seed=1&fps=20"
RUN = [sys.executable, "-m", "sam2s_ros.commands.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def sam2s(*arguments: object, timeout: float = 60.0) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*RUN, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A complete checkpoint of the smallest model with random weights."""
    import torch

    from sam2s_model.config import PICO
    from sam2s_model.network.model import Sam2Model

    torch.set_num_threads(1)  # of the commands that run in this process
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "random.pt"
    torch.save({"model": Sam2Model(PICO, 64).state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def other_checkpoint(tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("other") / "resnet.pt"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(10)}, path)
    return path


def options(checkpoint, output) -> tuple:
    """A small model, named, since recognising it takes longer than running it."""
    return (
        "--checkpoint",
        checkpoint,
        "--model",
        "sam2s_pico",
        "--image-size",
        64,
        "--device",
        "cpu",
        "--output",
        output,
    )


def test_help_and_version_are_fast():
    began = time.monotonic()
    shown = sam2s("--help")
    assert shown.returncode == 0 and all(name in shown.stdout for name in ("demo", "track", "doctor"))
    assert time.monotonic() - began < 15
    version = sam2s("--version")
    written = ElementTree.parse(share_directory() / "package.xml").getroot().findtext("version")
    assert version.returncode == 0 and version.stdout.strip() == written
    code = "import sys, sam2s_ros.commands.cli; print(sorted({'torch', 'rclpy', 'cv2', 'rosbags'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_track_writes_masks_video_and_summary(checkpoint, tmp_path):
    out = tmp_path / "out"
    arguments = (
        "track",
        SCENE,
        "--checkpoint",
        checkpoint,
        "--image-size",
        64,
        "--device",
        "cpu",
        "--output",
        out,
    )  # model auto
    done = sam2s(*arguments)
    assert done.returncode == 0, done.stderr
    assert "sam2s_pico/fifo" in done.stdout and "mean IoU of object 1 (label 1)" in done.stdout

    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == 6 and summary["step_ms"]["count"] == 4 and not summary["interrupted"]
    assert [o["truth_label"] for o in summary["objects"]] == [o["object_id"] for o in summary["objects"]] == [1, 2]
    assert all(0 <= o["mean_iou"] <= 1 and o["scored_frames"] == 5 for o in summary["objects"])
    masks = sorted((out / "masks").iterdir())
    assert [m.name for m in masks] == [f"{i:06d}.png" for i in range(6)]
    for mask in masks:
        values = read_labels(mask)
        assert values.shape == (80, 96) and values.dtype == np.uint8 and set(np.unique(values)) <= {0, 1, 2, 255}
    with av.open(str(out / "overlay.mp4")) as container:
        assert len(list(container.decode(video=0))) == 6
        assert float(container.streams.video[0].average_rate) == 20.0

    again = [*arguments, "--model", "sam2s_pico", "--frames", 2, "--box", "10,10,50,50", "--point", "70,30"]
    again.append("--overwrite")
    assert main([str(part) for part in again]) == 0
    assert sorted(m.name for m in (out / "masks").iterdir()) == ["000000.png", "000001.png"]
    summary = json.loads((out / "summary.json").read_text())
    assert (
        summary["frames"] == 2
        and all(o["mean_iou"] is None for o in summary["objects"])
        and len(summary["objects"]) == 2
    )


def test_track_does_not_need_ros(checkpoint, tmp_path):
    code = (
        "import sys; from sam2s_ros.commands.cli import main; code = main(sys.argv[1:]);"
        "print(code, sorted({'rclpy', 'rosbags', 'sensor_msgs'} & set(sys.modules)))"
    )
    arguments = ["track", SCENE, *options(checkpoint, tmp_path / "out"), "--frames", "2"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.stdout.strip().splitlines()[-1] == "0 []", done.stderr


def test_p31_track_is_the_same_twice(checkpoint, tmp_path):
    import torch

    for name in ("a", "b"):
        arguments = ("track", SCENE, *options(checkpoint, tmp_path / name), "--deterministic")
        assert main([*map(str, arguments)]) == 0
    torch.use_deterministic_algorithms(False)  # what the option did to this process
    for path in sorted((tmp_path / "a" / "masks").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / "masks" / path.name).read_bytes()


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(n, marks=pytest.mark.full) for n in (signal.SIGTERM, signal.SIGHUP))],
)
def test_interrupted_track_leaves_complete_files(checkpoint, tmp_path, number):
    out = tmp_path / "out"
    source = "scene:?width=96&height=80&frames=100000"
    command = [*RUN, "track", source, *map(str, options(checkpoint, out))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    deadline = time.monotonic() + 40
    while not (out / "masks" / "000004.png").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    summary = json.loads((out / "summary.json").read_text())
    assert summary["interrupted"] and summary["interrupted_by"] == number.name and summary["frames"] >= 4
    with av.open(str(out / "overlay.mp4")) as container:
        assert len(list(container.decode(video=0))) == summary["frames"]


def test_an_error_in_the_middle_leaves_complete_files(checkpoint, tmp_path):
    def on_frame(done: int, total: int | None) -> None:
        if done == 3:
            raise OSError("the display is gone")

    wanted = TrackOptions(SCENE, EngineOptions(checkpoint, "sam2s_pico", image_size=64, device="cpu"), tmp_path)
    with pytest.raises(OSError, match="the display is gone"):
        run_track(wanted, on_frame)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["interrupted"] and summary["interrupted_by"] == "OSError: the display is gone"
    assert summary["frames"] == 3 and [o["object_id"] for o in summary["objects"]] == [1, 2]
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_track_says_that_the_packaged_checkpoint_is_used(tmp_path, capsys):
    arguments = ["track", SCENE, "--image-size", "64", "--device", "cpu", "--frames", "2", "--output", tmp_path / "out"]
    assert main([*map(str, arguments)]) == 0
    (line,) = (row for row in capsys.readouterr().out.splitlines() if "no --checkpoint was given" in row)
    assert line == "no --checkpoint was given: using sam2s_nano, the package's default on a CPU"


def test_track_takes_the_name_of_a_packaged_checkpoint(tmp_path, capsys):
    arguments = ["track", SCENE, "--image-size", "64", "--device", "cpu", "--frames", "1", "--output", tmp_path / "out"]
    assert main([*map(str, arguments), "--checkpoint", "sam2s_tiny"]) == 0
    assert "no --checkpoint was given" not in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert Path(summary["checkpoint"]).name == "sam2s_tiny.safetensors" and summary["model"].startswith(
        "sam2_hiera_tiny/"
    )


@pytest.mark.parametrize("kind", ["video", "folder", "bag"])
def test_for_other_images_there_are_better_ones_than_the_packaged_checkpoint(kind, checkpoint):
    said = []
    assert checkpoint_or_default(None, kind, "cpu", said.append).stem == "sam2s_nano"
    (line,) = said
    assert line == (
        "no --checkpoint was given: using sam2s_nano, the package's default on a CPU; on real images "
        "--checkpoint sam2s_tiny, which is slower, follows objects better"
    )
    assert checkpoint_or_default(checkpoint, kind, "cpu", said.append) == checkpoint and len(said) == 1
    assert checkpoint_or_default(None, kind, "cuda:1", said.append).stem == "sam2s_tiny"
    assert said[1:] == ["no --checkpoint was given: using sam2s_tiny, the package's default on a GPU"]


def test_masks_of_others_are_not_removed(checkpoint, tmp_path, capsys):
    """--output given by mistake as the folder of a data set, whose ground truth is in masks/ too."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "000000.png").write_bytes(b"precious")
    assert main(["track", SCENE, *map(str, options(checkpoint, tmp_path))]) == 2
    assert "not of `sam2s track`: give another --output" in capsys.readouterr().err
    assert (tmp_path / "masks" / "000000.png").read_bytes() == b"precious"


def test_p41_track_writes_over_nothing_without_overwrite(checkpoint, tmp_path, monkeypatch, capsys):
    arguments = ["track", SCENE, *map(str, options(checkpoint, tmp_path / "out")), "--frames", "2"]
    assert main(arguments) == 0
    first = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main(arguments) == 2
    there = "has results already (masks/000000.png, masks/000001.png, overlay.mp4, ...)"
    assert f"{there}: give another --output, or --overwrite" in capsys.readouterr().err
    assert first == {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert main([*arguments[:-1], "1", "--overwrite"]) == 0
    assert [p.name for p in sorted((tmp_path / "out" / "masks").iterdir())] == ["000000.png"]

    monkeypatch.chdir(tmp_path)  # the default is another folder each time
    at = arguments.index("--output")
    for name in ("track", "track_2", "track_3"):
        assert main([*arguments[:at], *arguments[at + 2 :]]) == 0
        assert (tmp_path / "output" / name / "summary.json").is_file()
        assert (f"these go to output/{name}" in capsys.readouterr().out) == (name != "track")


@pytest.mark.parametrize("file", ["masks.mcap", "overlay_2.mp4", "summary.json"])
def test_p41_demo_writes_over_nothing_without_overwrite(checkpoint, tmp_path, capsys, file):
    (tmp_path / file).write_text("precious")
    assert main(["demo", "--source", SCENE, *map(str, options(checkpoint, tmp_path))]) == 2
    assert f"has results already ({file}): give another --output, or --overwrite" in capsys.readouterr().err
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(file, "precious")]


def test_two_demos_at_a_time_have_a_folder_each(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["demo", "--source", SCENE, *map(str, options(checkpoint, tmp_path))]
    at, begun, marks = arguments.index("--output"), [], []

    def begin(folder: Path):
        """Start no graph; the second demo begins before the first one's processes have written anything."""
        begun.append(folder.parent.name)
        marks.append(json.loads((folder.parent / "summary.json").read_text()))
        if len(begun) == 1:
            assert main([*arguments[:at], *arguments[at + 2 :]]) == 1
        raise TimeoutError("ends here")

    monkeypatch.setattr("sam2s_ros.demo.run.local_graph", begin)
    assert main([*arguments[:at], *arguments[at + 2 :]]) == 1
    assert begun == ["demo", "demo_2"]
    assert marks == [dict(command="demo", interrupted=True)] * 2
    assert not list((tmp_path / "output").glob("*/summary.json")), "they ended before there was anything"


def test_p41_soak_writes_over_nothing_without_overwrite(tmp_path, capsys):
    report = tmp_path / "soak.json"
    report.write_text("precious")
    assert main(["soak", "--minutes", "0.01", "--model-time", "0.005", "--output", str(report)]) == 2
    assert "soak.json exists already (8 bytes): give another name, or --overwrite" in capsys.readouterr().err
    assert report.read_text() == "precious"


CASES = {
    "missing path": "/no/clip.mp4 does not exist: expected a video",
    "unreadable video": "clip.mp4 is not a readable video",
    "prompt outside": "box (10, 10, 5000, 50) is outside the image: expected 0 <= x <= 96",
    "prompt of letters": "--point here: expected x,y",
    "no prompt": "has no masks, so nothing says what to track: give --box",
    "missing checkpoint": "no/model.pt' does not exist",
    "wrong scene": "width is 1",
    "output is a file": "cannot be written to",
    "other checkpoint": "resnet.pt is not a checkpoint of a known model",
    "no checkpoint": "junk.pt is not a .pt checkpoint that loads with weights only",
    "wrong device": "device is 'tpu': expected auto, cpu, cuda or cuda:N",
    "wrong size": "image_size",
}
TOLD_BY_THE_TRACKER = ("other checkpoint", "no checkpoint", "wrong device", "wrong size")


@pytest.fixture
def bad_input(checkpoint, other_checkpoint, tmp_path):
    """The arguments of a command for each case."""
    (tmp_path / "clip.mp4").write_text("not a video")
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((80, 96, 3), np.uint8))
    (tmp_path / "junk.pt").write_bytes(b"this is not a checkpoint")
    (tmp_path / "file").write_text("")
    changed = {
        "missing path": {"source": "/no/clip.mp4"},
        "unreadable video": {"source": tmp_path / "clip.mp4"},
        "prompt outside": {"--box": "10,10,5000,50"},
        "prompt of letters": {"--point": "here"},
        "no prompt": {"source": tmp_path},
        "missing checkpoint": {"--checkpoint": "/no/model.pt"},
        "wrong scene": {"source": "scene:?width=1"},
        "output is a file": {"--output": tmp_path / "file" / "out"},
        "other checkpoint": {"--checkpoint": other_checkpoint, "--model": "auto"},
        "no checkpoint": {"--checkpoint": tmp_path / "junk.pt"},
        "wrong device": {"--device": "tpu"},
        "wrong size": {"--image-size": 65},
    }

    def arguments(command: str, case: str) -> list[str]:
        options = {
            "--checkpoint": checkpoint,
            "--model": "sam2s_pico",
            "--image-size": 64,
            "--output": tmp_path / "out",
        }
        options = {"source": SCENE, **options, **changed[case]}
        source = options.pop("source")
        given = [command, *([source] if command == "track" else ["--source", source])]
        return [str(part) for part in (*given, *(part for pair in options.items() for part in pair))]

    return arguments


@pytest.mark.parametrize("case", CASES)
def test_bad_input_of_track_is_one_sentence_and_code_2(case, bad_input, capsys):
    assert main(bad_input("track", case)) == 2
    errors = capsys.readouterr().err
    assert CASES[case] in errors and len(errors.strip().splitlines()) == 1, errors


@pytest.mark.parametrize("case", [c for c in CASES if c not in TOLD_BY_THE_TRACKER])
def test_bad_input_of_demo_is_said_before_anything_starts(case, bad_input, capsys, tmp_path):
    assert main(bad_input("demo", case)) == 2
    errors = capsys.readouterr().err
    assert CASES[case] in errors and len(errors.strip().splitlines()) == 1, errors
    assert not (tmp_path / "out" / "logs").exists()


@pytest.mark.parametrize(  # the way is the same for all: the sentence of the process that was configured
    "case",
    [pytest.param(case, marks=() if case == "wrong size" else pytest.mark.full) for case in TOLD_BY_THE_TRACKER],
)
def test_what_the_tracker_refuses_ends_the_demo(case, bad_input):
    done = sam2s(*bad_input("demo", case))
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert CASES[case] in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_bad_input_as_a_shell_sees_it(bad_input):
    done = sam2s(*bad_input("track", "missing path"))
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("/no/clip.mp4 does not exist")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing"], "there is no command "),
        (["track"], "Missing argument"),
        (["track", SCENE, "--image-size", "-3"], "image-size"),
    ],
)
def test_wrong_options_are_code_2(arguments, expected, capsys):
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


def test_doctor_quick():
    done = sam2s("doctor", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sam2s doctor" in done.stdout and "ROS interfaces" in done.stdout and "at 30 Hz" not in done.stdout
