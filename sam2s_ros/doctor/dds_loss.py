"""Measure how many large images get from one process to another."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from sam2s_ros.processes.dds import free_domain, local_environment

SLACK = 40.0  # s for both ends to start, find one another and end


@dataclass(frozen=True)
class Measured:
    """sent, received: images. median_age_ms: from stamp to callback; None when none arrived."""

    sent: int
    received: int
    median_age_ms: float | None

    @property
    def loss(self) -> float:
        """Share of the images that did not arrive."""
        return 1.0 - self.received / self.sent


def measure_loss(seconds: float, *, profile: bool) -> Measured:
    """Run both ends of `dds_probe` in a domain of their own.

    profile: with the package's DDS profile and the allocator's variables, or as a process that nobody prepared
    Raises RuntimeError when one of them fails, or they do not find one another.
    """
    environment = local_environment(free_domain(), profile=profile)
    processes = {role: _start(role, seconds, environment) for role in ("receive", "send")}
    try:
        answers = {role: _answer(role, process, seconds + SLACK) for role, process in processes.items()}
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
    sent = answers["send"]["sent"]
    if not sent:
        raise RuntimeError("the two processes did not find one another")
    return Measured(sent, answers["receive"]["received"], answers["receive"]["median_age_ms"])


def _start(role: str, seconds: float, environment: dict[str, str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "sam2s_ros.doctor.dds_probe", role, str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _answer(role: str, process: subprocess.Popen, timeout: float) -> dict:
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"the process that should {role} did not end within {timeout:g} s") from error
    if process.returncode != 0:
        last = (err.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"the process that should {role} ended with exit code {process.returncode}: {last}")
    return json.loads(out.strip().splitlines()[-1])
