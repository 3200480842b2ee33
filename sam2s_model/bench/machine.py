"""The machine: what it is called, and how fast it multiplies matrices and copies memory."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sam2s_model.device import resolve_dtype

BUDGET = 0.3  # s for each rate of each size
SIDES = {
    "cpu": (512, 1536),
    "cuda": (4096, 8192),
}  # of matrices; small ones are done before something else takes a core
FEATURES = (
    "avx512_bf16",
    "avx512_vnni",
    "amx_bf16",
    "amx_int8",
    "bf16",
    "i8mm",
)  # that decide how fast a CPU multiplies
COPIED = 256 * 2**20  # bytes, more than caches hold


@dataclass(frozen=True)
class Machine:
    """What a machine can do.

    name: of the CPU with its cores, or of the GPU; threads: of torch
    matmul: precision -> operations a second of a product of large matrices
    bandwidth: bytes a second of a copy, read and written together
    """

    name: str
    torch: str
    threads: int
    matmul: dict[str, float]
    bandwidth: float


def measure(device: torch.device, precisions: Sequence[str]) -> Machine:
    """Measure for some seconds. The best of several times counts, so that other load on the machine hardly matters."""
    matmul = {
        precision: max(_matmul(side, precision, device) for side in SIDES[device.type]) for precision in precisions
    }
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    bandwidth = 2 * COPIED / _best(lambda: target.copy_(source), device)
    return Machine(describe(device), torch.__version__, torch.get_num_threads(), matmul, bandwidth)


def describe(device: torch.device) -> str:
    """Name the device, such as "AMD EPYC, 2 cores, avx512_bf16 avx512_vnni" or "NVIDIA RTX A6000"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    said: dict[str, str] = {}
    if (listing := Path("/proc/cpuinfo")).is_file():
        lines = (line.partition(":") for line in listing.read_text().splitlines())
        said = {key.strip(): value.strip() for key, _, value in lines}
    words = said.get("flags", said.get("Features", "")).split()
    features = " ".join(feature for feature in FEATURES if feature in words)
    name = said.get("model name") or platform.processor() or platform.machine()
    return ", ".join(filter(None, (name, f"{len(os.sched_getaffinity(0))} cores", features)))


def wait_for(device: torch.device) -> None:
    """Until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _matmul(side: int, precision: str, device: torch.device) -> float:
    """Operations a second of the product of two square matrices."""
    a, b = (torch.randn(side, side, device=device).to(resolve_dtype(precision, device)) for _ in range(2))
    return 2 * side**3 / _best(lambda: a @ b, device)


def _best(run: Callable[[], object], device: torch.device) -> float:
    """S of the fastest run of as many as the budget allows, at least two after the first."""
    times: list[float] = []
    end = time.perf_counter() + BUDGET
    while len(times) < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        run()
        wait_for(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])
