"""The recorder as a process in a real graph: its files open again, and hold what was published."""

from __future__ import annotations

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
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2s_model.semantics import GENERIC
from sam2s_model.tracks import State, Tracks
from sam2s_ros.interfaces import image_codec, messages
from sam2s_ros.msg import TrackedMasks

H, W = 61, 80  # an odd height: the video leaves out a row
T0 = 1_700_000_000_000_000_000


def tracks_of(index: int) -> Tracks:
    """Two objects: a square that moves one column a frame, and one that is not visible."""
    label_map, left = np.zeros((H, W), np.uint8), 5 + index % 50
    label_map[10:30, left : left + 20] = 1
    return Tracks(
        stamp=T0 + index * 10**8, label_map=label_map, object_ids=np.array([3, 7]), labels=np.array([1, 2], np.uint8),
        class_ids=np.array([1, 2], np.uint8), class_names=("instrument", "object"),
        states=np.array([State.TRACKED, State.OCCLUDED], np.uint8), scores=np.array([0.9, 0.1], np.float32),
        predicted_ious=np.array([0.8, 0.2], np.float32),
        boxes=np.array([[left, 10, left + 20, 30], [0, 0, 0, 0]], np.int32),
        areas=np.array([400, 0]), centroids=np.array([[left + 9.5, 19.5], [np.nan, np.nan]], np.float32), revision=1,
    )  # fmt: skip


def truth_of(index: int) -> np.ndarray:
    """Label 5 is half of object 3's square; 255 is outside."""
    truth = np.where(tracks_of(index).label_map == 1, 5, 0).astype(np.uint8)
    truth[20:30] = 0
    truth[:, :2] = 255
    return truth


class Source:
    """Publishes what a camera, an annotator and a tracker would."""

    def __init__(self, graph, name: str):
        self.images = graph.publisher(Image, f"{name}/image")
        self.truths = graph.publisher(Image, f"{name}/mask")
        self.masks = graph.publisher(TrackedMasks, f"{name}/tracker/masks")
        self.sent: list[TrackedMasks] = []
        self._graph, self._reports = graph, graph.collect(DiagnosticArray, "/diagnostics")
        for publisher in (self.images, self.truths, self.masks):
            graph.wait_until(
                publisher.get_subscription_count,
                30,
                lambda name=publisher.topic_name: f"the recorder to subscribe to {name}",
            )
        time.sleep(0.5)

    def counted(self) -> dict[str, int]:
        """What the recorder said last."""
        told = [s for message in list(self._reports)[-1:] for s in message.status if s.name == "recorder: messages"]
        return {pair.key: int(pair.value) for status in told for pair in status.values}

    def wait_for(self, **counts: int) -> None:
        self._graph.wait_until(
            lambda: counts.items() <= self.counted().items(), 30, lambda: f"{counts}, not {self.counted()}"
        )

    @staticmethod
    def header(index: int) -> Header:
        return Header(stamp=messages.to_time(T0 + index * 10**8), frame_id="camera")

    def image(self, index: int) -> None:
        pixels = np.full((H, W, 3), (200, 40, 10 * index), np.uint8)
        self.images.publish(image_codec.to_message(pixels, self.header(index), "rgb8"))

    def truth(self, index: int) -> None:
        self.truths.publish(image_codec.to_message(truth_of(index), self.header(index), "mono8"))

    def noise(self, index: int) -> None:
        """An image that no codec makes small, with its ground truth and masks."""
        pixels = np.random.default_rng(index).integers(0, 256, (H, W, 3), np.uint8)
        self.images.publish(image_codec.to_message(pixels, self.header(index), "rgb8"))
        self.truth(index)
        self.mask(index)

    def mask(self, index: int) -> None:
        stamp = T0 + index * 10**8
        message = messages.masks_message(
            tracks_of(index), self.header(index), sequence=len(self.sent) + 1, received_ns=stamp + 10**6,
            finished_ns=stamp + 21 * 10**6, model="test/none",
        )  # fmt: skip
        self.masks.publish(message)
        self.sent.append(message)


@pytest.fixture
def recorder(graph, start, tmp_path, request):
    def begin(*before: str, **parameters):
        """before: a command that starts the recorder"""
        name = f"/{request.node.name.split('[')[0]}"
        arguments = ["--ros-args", "-r", f"__ns:={name}"]
        for key, value in {"output": tmp_path / "out", **parameters}.items():
            arguments += ["-p", f"{key}:={value}"]
        process = start([*before, sys.executable, "-m", "sam2s_ros.recorder.node", *arguments])
        process.wait_for_output("recording into")
        return process, Source(graph, name)

    return begin


def test_files_hold_what_was_published(recorder, tmp_path):
    process, source = recorder()
    for i in range(8):
        if i % 2:  # the masks may come before their image and ground truth
            source.mask(i)
        source.image(i)
        source.truth(i)
        if not i % 2:
            source.mask(i)
        time.sleep(0.05)
    source.wait_for(matched=8)
    code, seconds = process.stop(signal.SIGINT)
    assert code == 0 and seconds < process.OUT_WITHIN and "Traceback" not in process.output, process.output

    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {"overlay.mp4", "masks.mcap", "frames.jsonl", "recorder.json"}
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

    with av.open(str(out / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, stream.pix_fmt) == (H - 1, W, "yuv420p")
        frames = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(stream)]
    assert len(frames) == 8
    background = frames[3][45:55, 60:75].reshape(-1, 3).mean(0)
    assert np.abs(background - (200, 40, 30)).max() < 20, background
    inside = frames[3][15:25, 12:20].reshape(-1, 3).mean(0)
    instrument = np.array(GENERIC.classes[0].color)
    assert np.abs(inside - (0.55 * np.array([200, 40, 30]) + 0.45 * instrument)).max() < 25, inside

    # without this package's type support: the definitions are in the file
    with AnyReader([out / "masks.mcap"]) as reader:
        (connection,) = reader.connections
        assert connection.msgtype == "sam2s_ros/msg/TrackedMasks" and connection.topic.endswith("/tracker/masks")
        read = [(raw, reader.deserialize(raw, connection.msgtype)) for _, _, raw in reader.messages()]
    assert len(read) == 8
    for (raw, message), sent in zip(read, source.sent):
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
    assert {p.name for p in out.iterdir()} == {"masks.mcap", "frames.jsonl", "recorder.json"}
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


def frames_in(folder) -> tuple[int, int, int]:
    """How many frames the video, the bag and the list have that a recorder has left."""
    with av.open(str(folder / "overlay.mp4")) as container:
        pictures = sum(1 for _ in container.decode(video=0))
    with AnyReader([folder / "masks.mcap"]) as reader:
        return pictures, len(list(reader.messages())), len((folder / "frames.jsonl").read_text().splitlines())


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
