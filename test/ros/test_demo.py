"""`sam2s demo` end to end: real processes over DDS, from a procedural scene to files that open."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from sam2s_ros.demo.run import _recorded
from sam2s_ros.processes.graph import ChildDied

SCENE = "scene:?width=128&height=96&frames=14&seed=2&fps=20"
CONTROLLER = Path(__file__).parents[2] / "examples" / "controller.py"
RUN = [sys.executable, "-m", "sam2s_ros.commands.cli", "demo"]


@pytest.fixture(scope="module")
def begin_demo(start, checkpoint):
    """Start a demo with the small random checkpoint."""

    def begin(output: Path, *arguments: str, source: str = SCENE):
        given = [
            "--source",
            source,
            "--checkpoint",
            checkpoint,
            "--image-size",
            "64",
            "--device",
            "cpu",
            "--output",
            str(output),
        ]
        return start([*RUN, *given, *arguments], COLUMNS="160")

    return begin


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(entry.name))
        except OSError:  # noqa: PERF203  # it has ended in between
            continue
    return found


def check_counts(summary: dict) -> None:
    counts = summary["counts"]
    dropped = sum(v for k, v in counts.items() if k.startswith("dropped_"))
    assert counts["sent"] == counts["received"] + counts["lost"] and counts["lost"] >= 0
    assert counts["received"] == counts["published"] + dropped and counts["waiting"] == 0
    assert all(check["ok"] for check in summary["checks"]), summary["checks"]
    assert summary["exit_codes"] == dict(replay=0, tracker=0, recorder=0)


def test_demo_from_scene_to_files(begin_demo, tmp_path):
    demo = begin_demo(tmp_path / "out", "--rate", "4")
    assert demo.wait(110) == 0, demo.output
    out = tmp_path / "out"
    assert {"overlay.mp4", "masks.mcap", "frames.jsonl", "tracks.csv", "recorder.json", "summary.json", "logs"} == {
        p.name for p in out.iterdir()
    }
    summary = json.loads((out / "summary.json").read_text())
    check_counts(summary)
    counts = summary["counts"]
    assert counts["sent"] == 14 and counts["published"] >= 7, counts
    assert summary["rate"]["reached"] == pytest.approx(4.0, rel=0.15)
    assert [row["label"] for row in summary["iou"]] == [1, 2] and [row["object_id"] for row in summary["iou"]] == [1, 2]
    assert all(0 <= row["mean_iou"] <= 1 and row["frames"] == counts["published"] - 1 for row in summary["iou"])
    assert summary["latency_ms"]["step"]["count"] == counts["published"]
    for text in ("frames sent / received / published", "mean IoU of object 1 (label 1)", str(out / "overlay.mp4")):
        assert text in demo.output, demo.output

    with av.open(str(out / "overlay.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == counts["published"] and frames[0].shape == (96, 128, 3)
    assert all(frame.std() > 10 for frame in frames)  # a picture, not a grey field
    with AnyReader([out / "masks.mcap"]) as reader:
        (connection,) = reader.connections
        read = [reader.deserialize(raw, connection.msgtype) for _, _, raw in reader.messages()]
    assert len(read) == counts["published"]
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in read]
    assert stamps == sorted(set(stamps))
    assert read[0].objects == [] and all([o.object_id for o in m.objects] == [1, 2] for m in read[1:])
    assert all((m.label_image.height, m.label_image.width) == (96, 128) for m in read)
    assert {p.name for p in (out / "logs").iterdir()} == {
        f"{n}.{s}" for n in ("replay", "tracker", "recorder") for s in ("log", "yaml")
    }


@pytest.mark.full  # test_tracker_life.py has it of a node alone
def test_overload_is_counted_and_agrees(begin_demo, tmp_path):
    """Ten times faster than the tracker follows, from a folder without masks, with a prompt by hand."""
    import cv2

    rng = np.random.default_rng(0)
    (tmp_path / "clip").mkdir()
    for i in range(60):
        image = rng.integers(0, 90, (96, 128, 3), np.uint8)
        image[30:60, 20 + i : 50 + i] = 220
        cv2.imwrite(str(tmp_path / "clip" / f"{i}.png"), image)
    demo = begin_demo(
        tmp_path / "out", "--rate", "400", "--box", "20,30,50,60", "--frames", "50", source=str(tmp_path / "clip")
    )
    assert demo.wait(110) == 0, demo.output
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    check_counts(summary)
    assert summary["counts"]["sent"] == 50 and summary["counts"]["published"] < 50
    assert summary["counts"]["dropped_overload"] + summary["counts"]["lost"] > 0
    assert summary["iou"] == []


def test_sigint_stops_all_children(begin_demo, tmp_path):
    demo = begin_demo(tmp_path / "out", source="scene:?width=128&height=96&frames=100000")
    demo.wait_for_output("playing at", 90)
    started = children(demo.popen.pid)
    assert len(started) == 3, started
    code, seconds = demo.stop(signal.SIGINT, 20)
    assert code == 130 and seconds < 8 and "Traceback" not in demo.output, (seconds, demo.output)
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_a_child_that_dies_ends_the_demo(begin_demo, tmp_path):
    demo = begin_demo(tmp_path / "out", source="scene:?width=128&height=96&frames=100000")
    demo.wait_for_output("playing at", 90)
    started = children(demo.popen.pid)
    (tracker,) = (pid for pid in started if b"sam2s_ros.tracker.node" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(tracker, signal.SIGKILL)
    assert demo.wait(20) == 1
    assert "tracker ended with exit code -9; the last lines of" in demo.output and "sha256" in demo.output, demo.output
    deadline = time.monotonic() + 5
    while [pid for pid in started if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, "children are left"
        time.sleep(0.05)


@pytest.mark.parametrize("report", [None, '{"masks": 1'], ids=["none", "half written"])
def test_a_recorder_that_left_no_report_is_told_with_its_last_lines(tmp_path, report):
    log = tmp_path / "recorder.log"
    log.write_text("recording\nOSError: no space left on device\n")
    if report is not None:
        (tmp_path / "recorder.json").write_text(report)
    with pytest.raises(ChildDied, match="recorder ended with exit code -9; (.|\n)*no space left on device"):
        _recorded(tmp_path, log, -9)
    (tmp_path / "recorder.json").write_text('{"masks": 1}')
    assert _recorded(tmp_path, log, 0) == {"masks": 1}


def test_keep_going_until_sigint_while_the_example_controller_looks_on(begin_demo, start, tmp_path):
    demo = begin_demo(
        tmp_path / "out", "--keep-going", "--rate", "20", "--checkpoint", "sam2s_pico", "--image-size", "0"
    )
    demo.wait_for_output("playing at", 90)
    [domain] = re.findall("to join this graph from another shell: export (.*)", demo.output)
    robot = start(
        [sys.executable, str(CONTROLLER), "--ros-args", "-p", "max_age:=2.0", "-r", "masks:=/tracker/masks"],
        **dict(variable.split("=") for variable in domain.split()),
    )
    robot.wait_for_output("moving", 60)
    time.sleep(1.5)  # more than once through the clip
    code, _ = demo.stop(signal.SIGINT, 30)
    assert code == 0, demo.output
    robot.wait_for_output("standing still: the newest masks are of", 30)
    assert robot.stop()[0] == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    check_counts(summary)
    assert summary["counts"]["sent"] > 14
