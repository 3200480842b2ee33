"""The writer's end: in time when the disk hangs, and with all that it was given when the disk is slow."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time

import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.msg import TrackedMasks
from sam2s_ros.recorder import writer as writing
from sam2s_ros.recorder.writer import RecordingWriter, WriterJob


def begin(folder, queue_size: int) -> RecordingWriter:
    said: list[str] = []
    options = dict(overwrite=False, topic="/masks", fps=25.0, alpha=0.5, reserve=0)
    return RecordingWriter(folder, say=said.append, queue_size=queue_size, failed=said.append, **options)


def job(number: int) -> WriterJob:
    return WriterJob(TrackedMasks(sequence=number), arrived=number, image=None, truth=None)


@pytest.mark.parametrize("file", ["masks.mcap", "tracks.csv"])
def test_a_disk_that_is_full_at_the_start_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, file):
    """So that the next recorder takes the folder, and mends no file without a message."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    name = "os.pwrite" if file == "masks.mcap" else "csv.DictWriter.writeheader"
    monkeypatch.setattr(name, full)
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be written to .No space left on device.: give another"):
        begin(tmp_path, queue_size=2)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    recording = begin(tmp_path, queue_size=2)
    assert recording.folder == tmp_path
    recording.close({})


def test_a_disk_that_hangs_ends_the_recording_in_time(tmp_path, monkeypatch):
    hangs, goes_on, ended = threading.Event(), threading.Event(), []
    monkeypatch.setattr(writing, "CLOSE_TIMEOUT", 0.3)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: hangs.set() or goes_on.wait(60))
    recording = begin(tmp_path, queue_size=2)

    def close() -> None:
        with pytest.raises(TimeoutError) as told:
            recording.close({})
        ended.append(str(told.value))

    try:
        recording.put(job(1))
        assert hangs.wait(10)
        recording.put(job(2)), recording.put(job(3))  # now there is no room for the end
        closing = threading.Thread(target=close, daemon=True)
        closing.start()
        closing.join(10)
        assert ended == ["2 frames were still not written after 0.3 s"]
    finally:
        goes_on.set()


def test_what_is_put_while_it_closes_is_waited_for(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    recording = begin(tmp_path, queue_size=2)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: time.sleep(0.01) or usage)
    recording.begin_close()
    for number in range(1, 21):
        recording.put(job(number))
    recording.close({})
    report = json.loads((tmp_path / "recorder.json").read_text())
    assert (report["messages_in_bag"], report["lost_in_queue"]) == (20, 0)


def test_before_it_closes_nothing_blocks(tmp_path, monkeypatch):
    usage, goes_on = shutil.disk_usage(tmp_path), threading.Event()
    recording = begin(tmp_path, queue_size=2)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: goes_on.wait(60) and usage)
    for number in range(1, 6):
        recording.put(job(number))
    assert "frames were lost: they came faster than they could be written" in recording.warning
    goes_on.set()
    recording.close({})
    report = json.loads((tmp_path / "recorder.json").read_text())
    assert report["messages_in_bag"] + report["lost_in_queue"] == 5
