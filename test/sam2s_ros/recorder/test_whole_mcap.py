"""Bags that open whatever ended the one who wrote them."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from sam2s_model.errors import ConfigError
from sam2s_ros.recorder import whole_mcap
from sam2s_ros.recorder.folder import open_folder
from sam2s_ros.recorder.masks_bag import MasksBag
from sam2s_ros.recorder.whole_mcap import WholeMcap, is_locked, is_whole, mend

SECOND = 10**9


def message(number: int, size: int = 2000) -> bytes:
    """A message as CDR has it: a header, then bytes that zstd does not make small."""
    return b"\0\1\0\0" + np.random.default_rng(number).bytes(size)


def written(path, count: int, *, commit_each: bool = False) -> WholeMcap:
    """A file that is not closed, with messages at 0, 1, ... s."""
    made = WholeMcap(path)
    channel = made.add_channel("/masks", made.add_schema("std_msgs/msg/String", "ros2msg", b"string data\n"))
    for number in range(count):
        made.write(channel, number * SECOND, message(number))
        if commit_each:
            made.flush()
    return made


def read(path) -> list[bytes]:
    """By rosbags and by mcap, which have to agree."""
    with AnyReader([path]) as reader:
        found = [(time_ns, bytes(data)) for _, time_ns, data in reader.messages()]
    with path.open("rb") as file:
        other = [(m.log_time, m.data) for _, _, m in make_reader(file, validate_crcs=True).iter_messages()]
    assert found == other and [time_ns for time_ns, _ in found] == sorted(time_ns for time_ns, _ in found)
    return [data for _, data in found]


def test_the_file_opens_before_it_is_closed_and_after(tmp_path):
    path = tmp_path / "a.mcap"
    made = written(path, 0)
    assert read(path) == [] and is_whole(path)
    channel = made.add_channel("/more", 1)
    for number in range(5):
        made.write(channel, number * SECOND, message(number))
        made.flush()
        assert read(path) == [message(n) for n in range(number + 1)] and is_whole(path)
    made.close()
    assert read(path) == [message(n) for n in range(5)] and made.messages == 5
    with AnyReader([path]) as reader:
        assert (reader.message_count, reader.start_time, reader.end_time) == (5, 0, 4 * SECOND + 1)
        assert [(c.topic, c.msgtype, c.msgcount) for c in reader.connections if c.msgcount] == [
            ("/more", "std_msgs/msg/String", 5)
        ]


def test_chunks_are_bounded_and_what_comes_is_in_the_file_after_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_mcap, "CHUNK_BYTES", 5000)
    made = written(tmp_path / "a.mcap", 10)
    assert made._chunks >= 3
    made._due = time.monotonic() - 1
    made.write(1, 10 * SECOND, message(10))
    assert read(tmp_path / "a.mcap") == [message(n) for n in range(11)]
    made.close()


def test_an_existing_file_is_not_written_over(tmp_path):
    (tmp_path / "a.mcap").write_text("of somebody")
    with pytest.raises(FileExistsError):
        WholeMcap(tmp_path / "a.mcap")
    assert (tmp_path / "a.mcap").read_text() == "of somebody"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_a_file_that_is_cut_anywhere_is_mended_with_all_that_is_whole(tmp_path, share):
    path = tmp_path / "a.mcap"
    made = written(path, 20, commit_each=True)
    made.close()
    head, end = path.read_bytes().index(message(0)[:1]), made._end
    cut = int(share * path.stat().st_size)
    path.write_bytes(path.read_bytes()[:cut])
    assert not is_whole(path)
    count = mend(path)
    expected = [message(n) for n in range(count)]
    assert read(path) == expected and is_whole(path) and mend(path) is None
    assert count >= int(max(0, cut - head - 500) / (end / 20)) - 1 and (share < 0.95 or count == 20), (count, cut, end)
    assert {p.name for p in tmp_path.iterdir()} == {"a.mcap"}


@pytest.mark.parametrize("wrong", ["zeros", "index of the time before"])
def test_a_chunk_that_was_only_half_written_over_the_index_is_left_out(tmp_path, wrong):
    """As when the process is killed, or the power fails, within a write."""
    path = tmp_path / "a.mcap"
    made = written(path, 6, commit_each=True)
    before, end = path.read_bytes(), made._end
    made.write(1, 6 * SECOND, message(6))
    made.flush()
    torn = bytearray(path.read_bytes())
    if wrong == "zeros":
        torn[end + 300 :] = bytes(len(torn) - end - 300)
    else:
        torn = bytearray(before[:end] + torn[end : end + 100] + before[end + 100 :])
    made.close()
    path.write_bytes(torn)
    assert not is_whole(path) and mend(path) == 6
    assert read(path) == [message(n) for n in range(6)]


def cut(path, count: int, size: int) -> None:
    """A file of messages of random bytes, without its end."""
    made = WholeMcap(path)
    channel = made.add_channel("/masks", made.add_schema("std_msgs/msg/String", "ros2msg", b"string data\n"))
    for number in range(count):
        made.write(channel, number * SECOND, message(number, size))
        made.flush()
    made.close()
    os.truncate(path, path.stat().st_size - 20)


def test_a_file_larger_than_the_memory_is_mended_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(whole_mcap, "CHUNK_BYTES", 64 << 10)
    path = tmp_path / "a.mcap"
    cut(path, 128, 64 << 10)
    tracemalloc.start()
    try:
        assert mend(path) == 128
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 4, f"{peak} bytes for a file of {path.stat().st_size}"
    assert read(path) == [message(number, 64 << 10) for number in range(128)]


@pytest.mark.parametrize("room", [0.5, 0.0])
def test_a_file_for_whose_mending_there_is_no_room_stays_as_it_is(tmp_path, monkeypatch, room):
    monkeypatch.setattr(whole_mcap, "CHUNK_BYTES", 5000)
    path = tmp_path / "a.mcap"
    cut(path, 20, 2000)
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(room * len(before)), limit[1]))
    try:
        with pytest.raises(OSError):
            mend(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mcap"] and path.read_bytes() == before
    assert mend(path) == 20


def test_a_file_that_is_being_written_is_left_alone(tmp_path):
    path = tmp_path / "a.mcap"
    made = written(path, 3)
    os.truncate(path, path.stat().st_size - 1)
    assert not is_whole(path) and mend(path) is None and not is_whole(path)
    made.close()
    assert read(path) == [message(n) for n in range(3)]


@pytest.fixture
def nfs(monkeypatch):
    """Locks as NFS gives them: none for a file that is not open for writing."""
    flock = fcntl.flock

    def of_nfs(file, how: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", of_nfs)


def test_over_nfs_a_file_that_is_being_written_is_left_alone(tmp_path, nfs):
    path = tmp_path / "a.mcap"
    made = written(path, 3)
    os.truncate(path, path.stat().st_size - 1)
    assert is_locked(path) and mend(path) is None and not is_whole(path)
    made.close()
    assert not is_locked(path) and read(path) == [message(n) for n in range(3)]


def test_where_there_is_no_telling_whether_a_file_is_being_written_it_is_not_taken_for_free(tmp_path, nfs, monkeypatch):
    """As over NFS a file that this user may not write."""
    path = tmp_path / "a.mcap"
    made, opened = written(path, 3), Path.open
    os.truncate(path, path.stat().st_size - 1)

    def for_reading_alone(self, mode="r", *more, **options):
        if mode == "r+b":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, mode, *more, **options)

    monkeypatch.setattr(Path, "open", for_reading_alone)
    for look in (is_locked, mend):
        with pytest.raises(OSError) as caught:
            look(path)
        assert caught.value.errno == errno.EBADF
    said: list[str] = []
    (tmp_path / "masks.mcap").hardlink_to(path)
    with pytest.raises(ConfigError, match="Bad file descriptor"):
        open_folder(tmp_path, overwrite=True, say=said.append)
    assert (tmp_path / "masks.mcap").exists()
    made.close()


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from test_whole_mcap import *
from pathlib import Path
made = written(Path(sys.argv[1]), 0)
for number in range(10**6):
    made.write(1, number * SECOND, message(number))
    made.flush()
    print(number, flush=True)
"""


def test_p42_a_writer_that_is_killed_leaves_a_file_that_opens(tmp_path):
    path = tmp_path / "a.mcap"
    folder = os.path.dirname(__file__)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path), folder], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= 50:
            break
    process.send_signal(signal.SIGKILL)
    last = max([int(line), *map(int, process.stdout.read().split())])
    process.wait()
    if not is_whole(path):  # killed within a write, which is rare
        mend(path)
    found = read(path)
    assert len(found) >= last + 1 and found == [message(n) for n in range(len(found))]


def test_a_disk_that_is_full_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.mcap"
    made = written(path, 5, commit_each=True)
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1000, limit[1]))
    try:
        made.write(1, 5 * SECOND, message(5, 50_000))
        with pytest.raises(OSError):
            made.flush()
        assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    made.close()  # there is room again
    assert read(path) == [*(message(n) for n in range(5)), message(5, 50_000)]


def test_the_bag_is_compressed_and_has_its_definitions(tmp_path):
    pytest.importorskip("sam2s_ros.msg")
    from rclpy.serialization import serialize_message

    from sam2s_ros.interfaces import image_codec
    from sam2s_ros.msg import TrackedMasks

    labels = np.zeros((480, 640), np.uint8)
    labels[100:200, 100:300] = 1
    message = TrackedMasks(sequence=7, label_image=image_codec.to_message(labels, TrackedMasks().header, "mono8"))
    bag = MasksBag(tmp_path / "masks.mcap", "/tracker/masks")
    for number in range(30):
        bag.write(number * SECOND, serialize_message(message))
    bag.close()
    assert (tmp_path / "masks.mcap").stat().st_size * 100 < 30 * labels.size
    with AnyReader([tmp_path / "masks.mcap"]) as reader:
        read = [reader.deserialize(data, connection.msgtype) for connection, _, data in reader.messages()]
    assert [m.sequence for m in read] == [7] * 30 and np.array_equal(read[0].label_image.data.reshape(480, 640), labels)
