"""Programs end in order by SIGINT, SIGTERM and a hang-up, also when their terminal is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from sam2s_ros.processes.ending import ending_signals, interrupted_by_ending_signals

PROGRAM = """
import fcntl, sys, termios, time
from pathlib import Path
from sam2s_ros.processes.ending import interrupted_by_ending_signals
if sys.argv[2] == "terminal":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    with interrupted_by_ending_signals():
        print("ready", flush=True)
        time.sleep(30)
except KeyboardInterrupt:
    print("written to what may be gone", flush=True)
    print("the same", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text("finished")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_of_the_signals_interrupts_a_program(tmp_path, number):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "end"), "pipe"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(20) == 0 and "written" in process.stdout.read()
    assert (tmp_path / "end").read_text() == "finished"


def test_a_program_whose_terminal_is_gone_finishes_its_files(tmp_path):
    ours, its = os.openpty()
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "end"), "terminal"]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    assert os.read(ours, 100).startswith(b"ready")
    os.close(ours)
    assert process.wait(20) == 0
    assert (tmp_path / "end").read_text() == "finished"


def test_a_hang_up_that_is_ignored_ends_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ending_signals() == {signal.SIGINT, signal.SIGTERM}
        with interrupted_by_ending_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_as_before_afterwards():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(KeyboardInterrupt), interrupted_by_ending_signals():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_in_another_thread_it_does_nothing():
    ended = []

    def work():
        with interrupted_by_ending_signals():
            ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(5)
    assert ended == [True]
