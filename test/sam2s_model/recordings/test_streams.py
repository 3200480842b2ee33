"""Streams: a pipe of a process, a named pipe, files and live streams of real servers; devices that are not there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from sam2s_model.errors import SourceError
from sam2s_model.recordings import stream_spec as specs
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.stream import _Newest
from sam2s_model.recordings.stream_spec import stream_spec, without_password
from sam2s_ros.commands.cli import main

ROOT = Path(__file__).parents[3]
FRAMES = 50
SMALL = ("--checkpoint", "sam2s_pico", "--model", "sam2s_pico", "--image-size", "64", "--device", "cpu")


def rtsp_server(content: bytes, seconds: float):
    """Of the module beside this one, which is no package."""
    spec = importlib.util.spec_from_file_location("rtsp_server", Path(__file__).with_name("rtsp_server.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RtspServer(content, seconds)


def shade(number: int) -> int:
    return 20 + 4 * number


def write_video(path: Path, codec: str = "mpeg2video", frames: int = FRAMES, **options) -> Path:
    """Frames of one shade each, brighter and brighter: 96 x 80, 25 Hz."""
    with av.open(str(path), "w", **options) as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.gop_size = 96, 80, 5
        for number in range(frames):
            picture = np.full((80, 96, 3), shade(number), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
    return path


@pytest.fixture(scope="module")
def ts(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("ts") / "clip.ts")


def shades(frames) -> list[int]:
    return [round(float(frame.image.mean())) for frame in frames]


def close_to(found: list[int], expected: list[int]) -> bool:
    return len(found) == len(expected) and all(abs(a - b) <= 4 for a, b in zip(found, expected, strict=True))


@pytest.fixture
def fifo(tmp_path, ts):
    """A named pipe that another process writes the clip into."""
    path = tmp_path / "camera"
    os.mkfifo(path)
    with subprocess.Popen(["sh", "-c", 'cat "$0" > "$1"', str(ts), str(path)]) as writer:
        yield path
        writer.kill()


def test_a_pipe_of_a_process_gives_every_frame(ts):
    read = (
        "from sam2s_model.recordings.open import open_recording; r = open_recording('-'); f = list(r); "
        "print(r.kind, r.name, r.spec, r.size, r.fps, r.length, len(f), f[1].stamp_ns - f[0].stamp_ns, f[-1].index, "
        "round(float(f[10].image.mean())), sep='|')"
    )
    with subprocess.Popen(["cat", str(ts)], stdout=subprocess.PIPE) as sender:
        shown = subprocess.run(
            [sys.executable, "-c", read], stdin=sender.stdout, capture_output=True, text=True, cwd=ROOT, timeout=60
        )
    assert shown.returncode == 0, shown.stderr
    *found, tenth = shown.stdout.strip().split("|")
    assert found == ["stream", "stdin", "standard input", "(80, 96)", "25.0", "None", str(FRAMES), "40000000", "49"]
    assert abs(int(tenth) - shade(10)) <= 4


def test_a_named_pipe_is_looked_at_and_then_read_from_its_first_frame(fifo):
    recording = open_recording(fifo)
    assert shades([next(iter(recording))]) == shades([next(iter(recording))]), "the first frame, again and again"
    frames = list(recording)
    assert close_to(shades(frames), [shade(i) for i in range(FRAMES)])
    assert recording.odd_count == recording.missed == 0
    with pytest.raises(SourceError, match="camera can be read once, and is beyond its first 32 frames already"):
        next(iter(recording))


def test_a_pipe_is_tracked(fifo, tmp_path):
    assert (
        main(["track", str(fifo), "--box", "20,20,60,60", *SMALL, "--frames", "4", "--output", str(tmp_path / "out")])
        == 0
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 4 and summary["source"]["kind"] == "stream" and len(summary["objects"]) == 1


def test_a_pipe_is_tracked_from_a_later_frame(fifo, tmp_path):
    """Beyond those that are kept for a second pass."""
    out = tmp_path / "out"
    assert main(["track", str(fifo), "--box", "20,20,60,60", *SMALL, "--start", "46", "--output", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == 4 and summary["prompts_not_applied"] == [] and len(summary["objects"]) == 1


def test_frames_before_the_first_of_a_pass_are_not_missed():
    put, begin, go_on = [], threading.Event(), threading.Event()

    def incoming():
        begin.wait(20)
        for name in "abcd":
            if name == "d":
                put.append("all before")
                go_on.wait(20)
            yield name

    class Late(threading.Condition):
        """Who waits wakes up when three frames have come."""

        def wait_for(self, predicate, timeout=None):
            begin.set()
            while not (predicate() and put):
                self.wait(0.01)
            return True

    newest = _Newest(incoming())
    newest._changed = Late()
    frames = newest.frames()
    came = [next(frames)]
    go_on.set()
    assert came + list(frames) == [("c", 0), ("d", 0)]


def test_a_box_is_applied_to_a_live_stream(ts, tmp_path):
    server = rtsp_server(ts.read_bytes(), 1.0)
    try:
        assert main(["track", server.url, "--box", "20,20,60,60", *SMALL, "--output", str(tmp_path / "out")]) == 0
    finally:
        server.shutdown()
        server.server_close()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["prompts_not_applied"] == [] and len(summary["objects"]) == 1


@pytest.mark.parametrize("name", ["clip.ts", "clip.mp4"])
def test_a_servers_file_is_read_as_a_file(tmp_path, file_server, name):
    file_server.content = write_video(tmp_path / name, "mpeg4" if name.endswith("mp4") else "mpeg2video").read_bytes()
    recording = open_recording(f"{file_server.url}/{name}")
    assert (recording.size, recording.fps, recording.name) == (
        (80, 96),
        25.0,
        name.replace(".", ".") if False else recording.name,
    )
    assert close_to(shades(recording), [shade(i) for i in range(FRAMES)]) and recording.missed == 0


def test_what_a_server_refuses_is_one_sentence(file_server, answer):
    file_server.plan = [answer(status=404)]
    with pytest.raises(SourceError, match=r"clip.mp4 cannot be opened \(.*404.*\)"):
        open_recording(f"{file_server.url}/clip.mp4")
    file_server.content = b"this is no video" * 100
    with pytest.raises(SourceError, match="cannot be opened .*Invalid data"):
        open_recording(f"{file_server.url}/clip.mp4")


def test_a_live_stream_gives_the_newest_frame_and_counts_the_others(ts, capsys):
    server = rtsp_server(ts.read_bytes(), 3.0)
    try:
        recording = open_recording(server.url)
        assert "secret" not in recording.spec and recording.spec.startswith("rtsp://surgeon:***@127.0.0.1:")
        frames = []
        for frame in recording:
            frames.append(frame)
            time.sleep(0.3)  # slower than they come
    finally:
        server.shutdown()
        server.server_close()
    assert server.asked[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    assert 2 <= len(frames) < FRAMES and recording.missed > 0
    assert frames[-1].index + 1 == len(frames) + recording.missed
    assert all(a.index < b.index and a.stamp_ns < b.stamp_ns for a, b in zip(frames, frames[1:], strict=False))
    assert shades(frames[-1:])[0] > shades(frames[:1])[0] + 20, "it is not the oldest that waits"


def test_nobody_answers(tmp_path):
    with pytest.raises(
        SourceError, match=r"rtsp://surgeon:\*\*\*@127.0.0.1:9/x cannot be opened \(Connection refused\)"
    ):
        open_recording("rtsp://surgeon:secret@127.0.0.1:9/x")


def test_a_device_that_is_not_there_is_named_with_those_that_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(specs, "DEVICE_NAMES", tmp_path / "names")
    for spec in ("/dev/video97", "97", "/dev/video97?fps=30"):
        with pytest.raises(SourceError, match="^/dev/video97 does not exist: this machine has ") as raised:
            open_recording(spec)
        assert "\n" not in str(raised.value)
    for number, name in ((0, "Endoscope"), (10, "Webcam"), (2, "Grabber")):
        (tmp_path / f"video{number}").touch()
        (tmp_path / "names" / f"video{number}").mkdir(parents=True)
        (tmp_path / "names" / f"video{number}" / "name").write_text(f"{name}\n")
    monkeypatch.setattr(specs, "DEVICES", tmp_path)
    devices = f"{tmp_path}/video0 (Endoscope), {tmp_path}/video2 (Grabber), {tmp_path}/video10 (Webcam)"
    with pytest.raises(
        SourceError,
        match=f"/dev/video97 does not exist: this machine has {devices}".replace("(", r"\(").replace(")", r"\)"),
    ):
        open_recording("/dev/video97")
    assert main(["track", "/dev/video97", "--box", "1,1,9,9"]) == 2
    assert "/dev/video97 does not exist" in capsys.readouterr().err


def test_options_of_a_device(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(specs.stat, "S_ISCHR", lambda mode: True)
    monkeypatch.setattr(Path, "stat", lambda path, **_: os.stat("/dev/null"))
    found = stream_spec("/dev/video0?size=1920x1080&fps=60&format=mjpeg")
    assert (found.address, found.format, found.live) == ("/dev/video0", "v4l2", True)
    assert found.options == dict(video_size="1920x1080", framerate="60", input_format="mjpeg")
    with pytest.raises(
        SourceError, match=r"has the option 'sizes': expected size, fps, format \(did you mean size\?\)"
    ):
        stream_spec("/dev/video0?sizes=1920x1080")


def test_what_is_no_stream_is_a_path(tmp_path, ts):
    assert stream_spec(str(ts)) is None and stream_spec("scene:?seed=1") is None and stream_spec("clip.mp4") is None
    with pytest.raises(SourceError, match=r"rtps://camera/1 is a URL of rtps: expected http, .*\(did you mean rtsp"):
        stream_spec("rtps://camera/1")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("rtsp://a:b@c/d", "rtsp://a:***@c/d"),
        ("http://c/d@e", "http://c/d@e"),
        ("rtsp://admin:p@ss@10.0.0.2/s", "rtsp://admin:***@10.0.0.2/s"),
        ("rtsp://admin:p:s@10.0.0.2:554?x=1@2", "rtsp://admin:***@10.0.0.2:554?x=1@2"),
        ("rtsp://admin:p#s@10.0.0.2/s", "rtsp://admin:***@10.0.0.2/s"),
        ("rtsp://admin:p?s@10.0.0.2/s", "rtsp://admin:***@10.0.0.2/s"),
        ("rtsp://admin:p s@10.0.0.2/s", "rtsp://admin:***@10.0.0.2/s"),
        ("rtsp://admin:2024#@10.0.0.2/s", "rtsp://admin:***@10.0.0.2/s"),
        ("rtsp://10.0.0.2:554?x=1@2", "rtsp://10.0.0.2:554?x=1@2"),
        ("rtsp://10.0.0.2:554/s@1", "rtsp://10.0.0.2:554/s@1"),
        ("srt://10.0.0.2:9000?passphrase=topsecret&mode=caller", "srt://10.0.0.2:9000?passphrase=***&mode=caller"),
        ("rtsp://c/live?user=a&password=b#t", "rtsp://c/live?user=a&password=***#t"),
        ("http://c/v?Token=b&api_key=c&pwd=&monkey=d", "http://c/v?Token=***&api_key=***&pwd=***&monkey=d"),
        ("/dev/video0?size=1x1", "/dev/video0?size=1x1"),
    ],
)
def test_no_password_of_a_url_is_shown(given, shown):
    assert without_password(given) == shown


def test_a_thread_of_a_live_stream_ends_with_it(ts):
    server = rtsp_server(ts.read_bytes(), 0.2)
    try:
        list(open_recording(server.url))
    finally:
        server.shutdown()
        server.server_close()
    deadline = time.monotonic() + 5
    while any(thread.name == "stream" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(thread.name == "stream" for thread in threading.enumerate())
