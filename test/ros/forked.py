"""Nodes as processes that are forked from one which has imported what they import: torch alone takes seconds.

What runs in them is what `python -m` runs. That nodes start from nothing is for the tests of commands, demo and launch.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Sequence

# Not the nodes' modules themselves: those are run as __main__, as ever.
IMPORTED = [
    "torch",
    "sam2s_model.tracking.tracker",
    "sam2s_ros.tracker.build",
    "sam2s_ros.tracker.worker",
    "sam2s_ros.replay.player",
    "sam2s_ros.recorder.writer",
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTED)


def _run(command: Sequence[str], log: str, env: dict[str, str]) -> None:
    """Be the process. command: as for the interpreter: -m and a module, or a file, and arguments"""
    os.environ.clear()
    os.environ.update(env)
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if command[0] == "-m":
        sys.argv = list(command[1:])
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        runpy.run_path(command[0], run_name="__main__")


class ForkedProcess:
    """As much of `subprocess.Popen` as tests of nodes ask for."""

    def __init__(self, command: Sequence[str], log: str, env: dict[str, str]):
        self._process = _context.Process(target=_run, args=(command, log, env), daemon=True)
        self._process.start()
        self.args = [sys.executable, *command]
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
