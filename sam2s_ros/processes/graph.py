"""A graph of nodes as child processes: start, watch, stop."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2s_ros.processes.arguments import parameters_file

TAIL_LINES = 12
PR_SET_PDEATHSIG = 1


class ChildDied(RuntimeError):
    """A process of the graph ended by itself. The message has its exit code and last lines."""

    def __init__(self, name: str, code: int, log: Path):
        super().__init__(f"{name} ended with exit code {code}; the last lines of {log}:\n{tail(log)}")
        self.name, self.code, self.last_line = name, code, (tail(log).splitlines() or [""])[-1]


@dataclass
class _Child:
    name: str
    process: subprocess.Popen
    log: Path


class Graph:
    """Nodes of this package in processes of their own. Each one's log and parameters are files in `folder`.

    environment: of every process, see `dds.local_environment`
    Leaving the `with` block ends whatever still runs; children also end when this process is killed.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]):
        self.folder = folder
        self._environment = dict(environment)
        # as a line is written, not when a buffer is full: a log should end where its process ended
        self._environment["PYTHONUNBUFFERED"] = "1"
        self._children: dict[str, _Child] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Graph:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(timeout=5.0)

    def start(self, name: str, module: str, parameters: Mapping[str, Any]) -> None:
        """Start `python -m module` as node `name` with these parameters.

        Raises ConfigError for a parameter that ROS does not take.
        """
        settings = self.folder / f"{name}.yaml"
        text = parameters_file(parameters)
        settings.unlink(missing_ok=True)  # one of an earlier run would keep its permissions
        with open(settings, "w", encoding="utf-8", opener=_for_its_owner) as file:
            file.write(text)
        log = self.folder / f"{name}.log"
        command = [sys.executable, "-m", module, "--ros-args", "--params-file", str(settings)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches this process only, which then stops them in order
                preexec_fn=end_with_parent,
            )
        self._children[name] = _Child(name, process, log)

    def pid(self, name: str) -> int:
        return self._children[name].process.pid

    def check(self) -> None:
        """Raise ChildDied when one has ended."""
        for child in self._children.values():
            code = child.process.poll()
            if code is not None:
                raise ChildDied(child.name, code, child.log)

    def stop(self, *names: str, timeout: float) -> dict[str, int]:
        """Send SIGINT to these (default: all), wait, kill what stays. Returns exit codes; -9 for a killed one.

        Those that were named are not watched by `check` any more.
        """
        children = [self._children[name] for name in names] if names else list(self._children.values())
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + timeout
        for child in children:
            _wait_or_kill(child.process, deadline)
        for name in names:
            del self._children[name]
        return {child.name: child.process.returncode for child in children}


def _for_its_owner(path: str, flags: int) -> int:
    """Open a new file that others cannot read: a source may be a URL with a password."""
    return os.open(path, flags, 0o600)


def _wait_or_kill(process: subprocess.Popen, deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Read the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


_LIBC = ctypes.CDLL(None)  # loaded before a fork, after which a child should do little


def end_with_parent() -> None:
    """Let a child, before it runs its program, get SIGINT when this process is gone."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
