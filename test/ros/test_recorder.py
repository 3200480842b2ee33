"""The recorder as a process in a real graph: its files open again, and hold what was published."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import deserialize_message
from recording import T0, H, W, frames_in
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock

from sam2s_model.colours import instance_colour
from sam2s_model.semantics import GENERIC
from sam2s_ros.interfaces import messages
from sam2s_ros.msg import TrackedMasks


@pytest.mark.parametrize("clock", ["none", "jumps back"])
def test_p38_the_recorder_waits_by_a_steady_clock(recorder, graph, clock):
    """Masks whose image was lost hold up those that follow for a second, whatever simulated time does."""
    process, source = recorder(use_sim_time="true", pending=20)
    clocks = graph.publisher(Clock, "/clock") if clock == "jumps back" else None

    def now(seconds: int) -> None:
        if clocks is not None:
            graph.wait_until(
                lambda: (
                    clocks.publish(Clock(clock=messages.to_time(seconds * 10**9))) or clocks.get_subscription_count()
                )
            )

    now(1000)
    source.mask(0)  # its image is lost
    source.wait_for(masks=1)
    now(10)
    for i in range(1, 6):
        source.image(i)
        source.mask(i)
        time.sleep(0.05)
    source.wait_for(matched=5, masks_without_image=1)
    for i in range(6, 50):  # no image comes any more: no more masks wait than `pending`
        source.mask(i)
        time.sleep(0.01)
    source.wait_for(masks=50, masks_without_image=45)
    if clock == "none":
        graph.wait_until(lambda: "the clock has stood at 0.000 s for" in process.output, 20)
    assert process.stop()[0] == 0 and "Traceback" not in process.output


def test_files_hold_what_was_published(recorder, tmp_path):
    process, source = recorder()
    for i in range(8):
        if i % 2:  # the masks may come before their image and ground truth
            source.mask(i)
        source.image(i)
        source.truth(i)
        if i == 0:  # masks wait for a ground truth only once there was one
            source.wait_for(truths=1)
        if not i % 2:
            source.mask(i)
        time.sleep(0.05)
    source.wait_for(matched=8)
    code, seconds = process.stop(signal.SIGINT)
    assert code == 0 and seconds < process.out_within and "Traceback" not in process.output, process.output

    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {
        "overlay.mp4",
        "masks.mcap",
        "frames.jsonl",
        "tracks.csv",
        "recorder.json",
    }
    report = json.loads((out / "recorder.json").read_text())
    counts = dict(images=8, truths=8, masks=8, matched=8, messages_in_bag=8, overlay_frames=8, with_truth=8)
    counts |= dict(
        masks_without_image=0,
        images_without_masks=0,
        sequence_gaps=0,
        lost_in_queue=0,
        malformed=0,
        overlays_left_out=0,
    )
    assert {k: report[k] for k in counts} == counts
    assert report["step_ms"] == dict(count=8, p50=20.0, p90=20.0, p99=20.0, max=20.0)
    iou = {(p["label"], p["object_id"]): (p["mean_iou"], p["frames"]) for p in report["iou"]}
    assert iou == {(5, 3): (0.5, 8), (5, 7): (0.0, 8)}

    lines = [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]
    assert [line["stamp"] for line in lines] == [T0 + i * 10**8 for i in range(8)]
    assert all(line["iou"] == {"5": {"3": 0.5, "7": 0.0}} and line["matched"] for line in lines)

    with (out / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["frame"]), int(row["object_id"])) for row in rows] == [(i, k) for i in range(8) for k in (3, 7)]
    for line, own in zip(lines, zip(rows[::2], rows[1::2], strict=True), strict=True):
        for shown, row in zip(line["objects"], own, strict=True):
            assert int(row["stamp_ns"]) == line["stamp"] and row["class"] == shown["class"]
            assert [int(row[edge]) for edge in ("x0", "y0", "x1", "y1")] == shown["box"]
            assert (shown["centroid"] is None) == (row["centroid_x"] == "")
            if shown["centroid"]:
                assert shown["centroid"][0] == pytest.approx(float(row["centroid_x"]), abs=0.01)

    with av.open(str(out / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.pix_fmt) == (H - 1, W, "yuv420p")
        frames = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(stream)]
    assert len(frames) == 8
    background = frames[3][45:55, 60:75].reshape(-1, 3).mean(0)
    assert np.abs(background - (200, 40, 30)).max() < 20, background
    inside = frames[3][15:25, 12:20].reshape(-1, 3).mean(0)
    instrument = np.array(instance_colour(GENERIC.classes[0].color, 3))
    assert np.abs(inside - (0.55 * np.array([200, 40, 30]) + 0.45 * instrument)).max() < 25, inside

    # without this package's type support: the definitions are in the file
    with AnyReader([out / "masks.mcap"]) as reader:
        (connection,) = reader.connections
        assert connection.msgtype == "sam2s_ros/msg/TrackedMasks" and connection.topic.endswith("/tracker/masks")
        read = [(raw, reader.deserialize(raw, connection.msgtype)) for _, _, raw in reader.messages()]
    assert len(read) == 8
    for (raw, message), sent in zip(read, source.sent, strict=True):
        assert _comparable(deserialize_message(bytes(raw), TrackedMasks)) == _comparable(sent)
        assert [o.object_id for o in message.objects] == [3, 7] and message.model == "test/none"
        assert np.array_equal(
            message.label_image.data.reshape(H, W), np.frombuffer(sent.label_image.data, np.uint8).reshape(H, W)
        )


def _comparable(message: TrackedMasks) -> TrackedMasks:
    for o in message.objects:
        for name in ("centroid_x", "centroid_y", "class_score", "return_similarity"):
            if np.isnan(getattr(o, name)):  # which is not equal to itself
                setattr(o, name, -2.0)
    return message


def test_what_does_not_match_is_counted(recorder, tmp_path):
    process, source = recorder(pending=4, fps=10.0)
    for i in range(10):
        source.image(i)
    source.wait_for(images=10)
    for i in (0, 8, 9, 20):  # the image of 0 was given up, 20 never had one
        source.mask(i)
    source.sent.append(None)  # a mask that does not arrive: its number is missing
    source.image(21)
    source.mask(21)
    source.wait_for(images=11, matched=3, masks_without_image=2)
    code, _ = process.stop(signal.SIGTERM)
    assert code == 0, process.output
    report = json.loads((tmp_path / "out" / "recorder.json").read_text())
    counts = dict(images=11, masks=5, matched=3, masks_without_image=2, images_without_masks=8, sequence_gaps=1)
    assert {k: report[k] for k in counts} == counts
    assert report["images_given_up"] >= 6 and report["overlay_frames"] == 3 and report["messages_in_bag"] == 5
    assert report["with_truth"] == 0 and report["iou"] == []


def test_nothing_to_record_leaves_complete_files(recorder, tmp_path):
    process, _ = recorder()
    assert process.stop(signal.SIGINT)[0] == 0, process.output
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {"masks.mcap", "frames.jsonl", "tracks.csv", "recorder.json"}
    with AnyReader([out / "masks.mcap"]) as reader:
        assert list(reader.messages()) == []


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ([], "parameter output is empty"),
        (["-p", "output:=/proc/no/where"], "/proc/no/where cannot be written to"),
        (["-p", "output:=/tmp/x", "-p", "fps:=0.0"], "fps"),
    ],
)
def test_bad_parameter_is_one_sentence_and_code_2(start, parameters, expected):
    process = start([sys.executable, "-m", "sam2s_ros.recorder.node", "--ros-args", *parameters])
    assert process.wait(20) == 2 and expected in process.output and "Traceback" not in process.output, process.output


def test_files_that_cannot_be_finished_are_one_sentence_and_code_1(recorder, tmp_path):
    process, _ = recorder()
    shutil.rmtree(tmp_path / "out")
    assert process.stop(signal.SIGINT)[0] == 1
    assert f"recording into {tmp_path / 'out'} failed: " in process.output and "Traceback" not in process.output


def test_a_disk_that_becomes_full_ends_the_recording_with_files_that_can_be_read(graph, recorder, tmp_path):
    """A file system of 6 MiB, in a name space of its own; the recorder is told to leave 4."""
    unshare = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "mount -t tmpfs none /mnt"], capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here without privileges: unshare --map-root-user --mount")
    (tmp_path / "disk").mkdir()
    diagnostics = graph.collect(DiagnosticArray, "/diagnostics")
    script = (
        'mount -t tmpfs -o size=6m none "$1" && { d=$1; shift; "$@"; code=$?; cp -r "$d/out" "$d.copy"; exit $code; }'
    )
    process, source = recorder(
        *unshare, script, "sh", str(tmp_path / "disk"), output=tmp_path / "disk" / "out", reserve=4
    )
    index = 0
    while process.running() and index < 4000:
        index += 1
        source.noise(index)
        time.sleep(
            0.005 if source.counted().get("matched") else 0.2
        )  # at first slowly: a flood whose images come too late has no overlays
    assert process.wait(20) == 1 and "Traceback" not in process.output, process.output
    failed = f"recording into {tmp_path / 'disk' / 'out'} failed: the disk is full: 3 MiB are free, the last 4 are left"
    assert process.output.count(failed) == 1, process.output
    told = [s for message in diagnostics for s in message.status if s.level == DiagnosticStatus.ERROR]
    assert told and told[-1].message.startswith(failed)
    report = json.loads((tmp_path / "disk.copy" / "recorder.json").read_text())
    written = report["messages_in_bag"]
    assert (
        written > 20
        and report["error"]
        and frames_in(tmp_path / "disk.copy") == (report["overlay_frames"], written, written)
    )


def test_a_file_that_may_not_grow_ends_the_recording_and_the_list_of_frames_can_be_read(recorder, tmp_path):
    """RLIMIT_FSIZE, as a quota or a file system's limit would."""
    process, source = recorder("prlimit", f"--fsize={400 << 10}")
    index = 0
    while process.running() and index < 4000:
        index += 1
        source.noise(index)
        time.sleep(0.005)
    assert process.wait(20) == 1 and "Traceback" not in process.output, process.output
    assert "failed: [Errno 27] File too large" in process.output
    lines = [json.loads(line) for line in (tmp_path / "out" / "frames.jsonl").read_text().splitlines()]
    assert len(lines) > 20
    with AnyReader([tmp_path / "out" / "masks.mcap"]) as reader:
        assert len(list(reader.messages())) > 10
