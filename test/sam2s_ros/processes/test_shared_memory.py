"""Shared memory that killed processes have left: found by its lock, and removed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

import pytest
from rclpy.utilities import get_rmw_implementation_identifier

from sam2s_ros.doctor import checks as doctor
from sam2s_ros.processes import shared_memory
from sam2s_ros.processes.shared_memory import Orphans, orphans, remove_orphans

MIB = 2**20


def segment(folder, name: str, size: int, age: float = 10.0):
    """A segment as Fast DDS makes it. Returns the file that its process locks."""
    (folder / name).write_bytes(bytes(size))
    lock = folder / f"{name}_el"
    lock.touch()
    os.utime(lock, (time.time() - age,) * 2)
    return lock


def test_what_nobody_holds_is_removed_and_nothing_else(tmp_path):
    segment(tmp_path, "fastrtps_0123456789abcdef", 3 * MIB)
    segment(tmp_path, "fastdds_0123456789abcde0", MIB)
    kept = [
        segment(tmp_path, "fastrtps_0123456789abcde1", MIB, age=0.0),  # its process may be about to lock it
        segment(tmp_path, "fastrtps_port7411", MIB),
        segment(tmp_path, "sem.fastrtps_0123456789abcde2", MIB),
        segment(tmp_path, "somebody's", MIB),
    ]
    (tmp_path / "fastrtps_0123456789abcde3").touch()  # has no lock
    held = segment(tmp_path, "fastrtps_0123456789abcde4", MIB)
    before = {path.name for path in tmp_path.iterdir()}
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert orphans(str(tmp_path)) == Orphans(2, 4 * MIB) and str(orphans(str(tmp_path))) == "2 segments, 4 MiB"
        assert {path.name for path in tmp_path.iterdir()} == before
        assert remove_orphans(str(tmp_path)) == Orphans(2, 4 * MIB)
        gone = {"fastrtps_0123456789abcdef", "fastdds_0123456789abcde0"}
        assert {path.name for path in tmp_path.iterdir()} == before - gone - {f"{name}_el" for name in gone}
        assert remove_orphans(str(tmp_path)).count == 0 and all(path.exists() for path in (*kept, held))
    assert remove_orphans(str(tmp_path)).count == 1, "its process has ended"
    assert remove_orphans(str(tmp_path / "none")).count == 0


def test_what_is_of_the_future_as_after_a_clock_that_stepped_back_is_removed_too(tmp_path):
    segment(tmp_path, "fastrtps_0123456789abcdef", MIB, age=-3600.0)
    assert remove_orphans(str(tmp_path)) == Orphans(1, MIB) and not list(tmp_path.iterdir())


NODE = """
import sys, rclpy
from sam2s_ros.processes.process import run
from sam2s_ros.processes.runnable import RunnableNode
class Idle(RunnableNode):
    def __init__(self):
        super().__init__("idle")
        self.create_timer(0.1, lambda: print("ready", flush=True))
run(Idle)
"""


def started() -> tuple[subprocess.Popen, set[str]]:
    """A node that is ready, and its segments."""
    before = set(os.listdir(shared_memory.SHM))
    process = subprocess.Popen(
        [sys.executable, "-c", NODE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = iter(process.stdout.readline, "ready\n")
    process.said = "".join(lines)
    new = {name for name in set(os.listdir(shared_memory.SHM)) - before if shared_memory.SEGMENT.fullmatch(name)}
    return process, {name for name in new if f"/{name}" in open(f"/proc/{process.pid}/maps").read()}


def test_a_node_removes_what_one_that_was_killed_has_left_and_leaves_those_that_live():
    if "fastrtps" not in get_rmw_implementation_identifier():
        pytest.skip("the middleware is not Fast DDS")
    (killed, orphaned), (alive, kept) = started(), started()
    assert orphaned and kept, "segments of Fast DDS"
    time.sleep(shared_memory.YOUNG)
    killed.kill()
    killed.wait()
    still_there = orphaned <= set(os.listdir(shared_memory.SHM))  # or another program that started has removed them
    other, _ = started()
    try:
        left = set(os.listdir(shared_memory.SHM))
        assert not orphaned & left and kept <= left
        assert not still_there or "removed what killed processes had left in /dev/shm" in other.said
    finally:
        for process in (alive, other):
            process.terminate()
            assert process.wait(20) == 0


def test_the_doctor_names_them(monkeypatch):
    monkeypatch.setattr(doctor, "orphans", lambda: Orphans(3, 201 * MIB))
    finding = doctor._orphans()
    assert (
        finding.level is doctor.Level.WARN
        and finding.seen == "3 segments, 201 MiB"
        and "fastdds shm clean" in finding.advice
    )
    monkeypatch.setattr(doctor, "orphans", lambda: Orphans(0, 0))
    assert doctor._orphans().level is doctor.Level.OK
