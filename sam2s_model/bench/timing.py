"""Times of steps and of their parts, and what a process needs at most."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from sam2s_model.acceleration.allocator import give_back
from sam2s_model.bench.floor import ATTENTION, DECODER, ENCODER, MATCHES, MEMORY
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.correspondence import Correspondence

OF_ATTENTION = ("flash", "fmha", "attention", "sdpa")  # in the names of kernels
METHODS = {
    ENCODER: ("encode_image",),
    ATTENTION: ("with_memory",),
    DECODER: ("decode", "candidates", "pointer"),
    MEMORY: ("encode_memory",),
}
"""Of `Sam2Model`, in which the parts of a step are. The rest of a step is what surrounds them."""
OF_MATCHES = ("propagate", "remember")
"""Of `Correspondence`. What it asks of the mask decoder is the mask decoder's part."""


@dataclass(frozen=True)
class Spread:
    """Times in ms. steps: how many there were."""

    median: float
    p90: float
    p99: float
    max: float
    steps: int

    @classmethod
    def of(cls, ms: Sequence[float]) -> Spread:
        median, p90, p99 = np.percentile(ms, (50, 90, 99)).tolist()
        return cls(median, p90, p99, max(ms), len(ms))


class PartTimer:
    """Within ``with PartTimer(model) as parts:``, the parts of the model's steps are timed. `take` after each step.

    matches: of a tracker that has them, timed as well
    """

    def __init__(self, model: Sam2Model, matches: Correspondence | None = None):
        self._model = model
        self._methods: list[tuple[Sam2Model | Correspondence, str, str]]
        self._methods = [(model, part, name) for part, names in METHODS.items() for name in names]
        if matches:
            self._methods += [(matches, MATCHES, name) for name in OF_MATCHES]
        self._on_cuda = model.device.type == "cuda"
        self._marks: list[tuple[str, object, object]] = []

    def __enter__(self) -> PartTimer:
        for owner, part, name in self._methods:
            setattr(owner, name, self._timed(part, getattr(owner, name)))
        return self

    def __exit__(self, *problem) -> None:
        for owner, _, name in self._methods:
            delattr(owner, name)

    def take(self) -> dict[str, float]:
        """Ms of each part since the last time this was asked."""
        spent = dict.fromkeys((part for _, part, _ in self._methods), 0.0)
        for part, begin, end in self._marks:
            spent[part] += self._between(begin, end)
        self._marks.clear()
        return spent

    def _timed(self, part: str, method: Callable) -> Callable:
        @functools.wraps(method)
        def timed(*arguments, **options):
            begin = self._mark()
            result = method(*arguments, **options)
            self._marks.append((part, begin, self._mark()))
            return result

        return timed

    def _mark(self) -> object:
        if not self._on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._model.device))
        return event

    def _between(self, begin, end) -> float:
        if not self._on_cuda:
            return 1e3 * (end - begin)
        end.synchronize()
        return begin.elapsed_time(end)


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """Measure the peak of memory in use while something runs: torch's on a GPU, the whole process's on a CPU.

    None where Linux does not tell, or not to this process.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
    give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        run()
        status = Path("/proc/self/status").read_text()
    except OSError:
        run()
        return None
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


@dataclass(frozen=True)
class Launched:
    """What a GPU was given. kernels: number of kernels and copies; attention: of each attention kernel, by name"""

    kernels: int
    attention: dict[str, int]


def launched(run: Callable[[], object], device: torch.device) -> Launched | None:
    """Count what a GPU is given while something runs; None on a CPU."""
    if device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize(device)
    names = [event.name for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    attention = Counter(name[:60] for name in names if any(word in name.lower() for word in OF_ATTENTION))
    return Launched(len(names), dict(attention))
