"""Part 15: frames a second in each way that a tracker can run, and what a prompt holds up."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from sam2s_model.bench.timing import Spread
from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.gpu_check.part import WARN, Check, Setting, judged, some_boxes
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.tracker import Tracker

WARM = 40  # frames until memory is full and everything is captured
STALL = 0.2  # s
UNCOMPILED = "leave compile at false"


def speeds(setting: Setting) -> Iterator[Check]:
    """For each model at its own size, in bf16, 1 and 8 objects."""
    for name in setting.networks:
        began = time.perf_counter()
        side = setting.networks[name](setting.side).config.image_size if setting.side == Setting.side else setting.side
        model = setting.model(name, side, torch.bfloat16)
        yield _first_mask(setting, model, name, began)
        medians: dict[tuple[str, int], float] = {}
        for objects in (1, 8):
            for way, config, queued in (
                ("eager", TrackerConfig(cuda_graphs=False), False),
                ("graphs", TrackerConfig(), False),
                ("graphs, look-ahead", TrackerConfig(), True),
            ):
                spread, stalls = _times(setting, model, objects, config, queued)
                medians[way, objects] = spread.median
                yield _speed_check(
                    f"{name} at {side} px, {objects} objects, {way}",
                    spread,
                    spread.p99 <= 2 * spread.median,
                    "p99 at most twice the median",
                    "end what else uses the GPU; fix its clock (nvidia-smi -lgc)",
                )
                if way == "graphs":
                    longest = max(stalls)
                    yield judged(
                        longest <= STALL,
                        f"{name}, {objects} objects: longest step of the 40 after a prompt",
                        f"at most {STALL * 1e3:g} ms",
                        f"{longest * 1e3:.0f} ms",
                        "captures stall: raise the camera's queue, or set cuda_graphs to false",
                        WARN,
                    )
            gain = medians["eager", objects] / medians["graphs", objects]
            yield judged(
                gain >= 1.3,
                f"{name}, {objects} objects: gain of graphs",
                "1.3 times",
                f"{gain:.2f} times",
                "the GPU is the limit, not the launches",
                WARN,
            )
        try:
            model.compile_encoder()
        except ConfigError as problem:
            yield Check(WARN, f"{name}, compiled", "compiled", str(problem), UNCOMPILED)
        else:
            spread, _ = _times(setting, model, 1, TrackerConfig(), False)
            uncompiled = medians["graphs", 1]
            yield _speed_check(
                f"{name} at {side} px, 1 object, compiled, graphs",
                spread,
                spread.median <= 1.05 * uncompiled,
                f"median at most 1.05 times the {uncompiled:.2f} ms without compilation",
                UNCOMPILED,
            )
        yield _kernels(setting, model, name)


def _speed_check(what: str, spread: Spread, good: bool, expected: str, advice: str) -> Check:
    got = f"{1e3 / spread.median:.0f} FPS, median {spread.median:.2f} ms, p99 {spread.p99:.2f} ms"
    return judged(good, what, expected, got, advice, WARN)


def _first_mask(setting: Setting, model: Sam2Model, name: str, began: float) -> Check:
    tracker, image = Tracker(model), setting.images(1)[0]
    tracker.step(1, image)
    tracker.prompt(0, some_boxes(image, 1))
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(setting.device)
    return judged(
        seconds <= 20,
        f"{name}: first mask",
        "20 s after its file is opened",
        f"{seconds:.1f} s, peak {peak >> 20} MiB",
        level=WARN,
    )


def _times(
    setting: Setting, model: Sam2Model, objects: int, config: TrackerConfig, queued: bool
) -> tuple[Spread, list[float]]:
    """Of steps once everything is captured, ms, and of those after the prompts, s."""
    images, tracker, seconds = setting.images(), Tracker(model, config=config), []
    for i in range(WARM + 1 + setting.timed):
        began = time.perf_counter()
        tracker.step(i + 1, images[i % len(images)], images[(i + 1) % len(images)] if queued else None)
        seconds.append(time.perf_counter() - began)
        if i == 0:
            tracker.prompt(0, some_boxes(images[0], objects))
    return Spread.of([1e3 * s for s in seconds[WARM + 1 :]]), seconds[1 : WARM + 1]


def _kernels(setting: Setting, model: Sam2Model, name: str) -> Check:
    """How many kernels a step launches, and those of its attention."""
    from torch.profiler import ProfilerActivity, profile

    tracker, images = Tracker(model, config=TrackerConfig(cuda_graphs=False)), setting.images(3)
    for i in range(4):
        tracker.step(i + 1, images[i % 3])
        if i == 0:
            tracker.prompt(0, some_boxes(images[0], 1))
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        tracker.step(5, images[0])
        torch.cuda.synchronize(setting.device)
    kernels = [event.name for event in recorded.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    of_attention = sorted(
        {kernel for kernel in kernels if any(word in kernel.lower() for word in ("flash", "fmha", "attention", "sdpa"))}
    )
    return judged(
        bool(of_attention),
        f"{name}: kernels of a step",
        "attention by a kernel of its own",
        f"{len(kernels)}; {', '.join(of_attention) or 'no attention'}",
        level=WARN,
    )
