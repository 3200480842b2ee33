"""Parts 12 to 14 and 16: trackers in threads, want of memory, long streams, and each GPU of the machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.compiling import pays_off
from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.gpu_check.part import FAIL, REPORT, WARN, Check, Setting, judged, some_boxes
from sam2s_model.gpu_check.rollouts import GRAPHS_HELP, agreement, follow, newest_tracks
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.tracker import Tracker

SETTLED = 25  # frames after which all windows are full, and what is captured then was captured


def two_threads(setting: Setting) -> Iterator[Check]:
    """Part 12: findings L3 and L5: two trackers of one model start together, and one is set up again and again."""
    images = setting.images()
    alone = follow(Tracker(setting.model(dtype=torch.float32), "fifo"), images, 4 * setting.frames)
    model = setting.model(dtype=torch.float32)  # anew: what is made once is made by both at the same time
    found: dict[str, list] = {}
    problems: list[BaseException] = []
    begin = threading.Barrier(2)

    def once() -> None:
        begin.wait()
        found["one"] = follow(Tracker(model, "fifo"), images, 4 * setting.frames)

    def again() -> None:
        begin.wait()
        for _ in range(setting.frames):
            found["again"] = follow(Tracker(model, "fifo"), images, 6)

    threads = [threading.Thread(target=_caught, args=(run, problems)) for run in (once, again)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield judged(not problems, "two trackers in two threads", "no error", "; ".join(map(repr, problems)) or "none")
    for name, answers in found.items():
        worst, _, _ = agreement(answers[: len(alone)], alone[: len(answers)])
        if name == "again":
            worst, _, _ = agreement(answers[:3], alone[:3])  # its object is removed in another frame
        yield judged(worst >= 0.999, f"two threads, {name}", "as alone, IoU 0.999", f"IoU {worst:.4f}")


def _caught(run, problems: list[BaseException]) -> None:
    try:
        run()
    except BaseException as problem:
        problems.append(problem)


def want_of_memory(setting: Setting) -> Iterator[Check]:
    """Part 13."""
    tracker, images = Tracker(setting.model()), setting.images()
    follow(tracker, images, 8)
    newest = newest_tracks(tracker).stamp
    _, total = torch.cuda.mem_get_info(setting.device)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(
        max(1e-6, torch.cuda.memory_allocated(setting.device) / total), setting.device
    )
    try:
        tracker.reset()
        tracker.step(newest + 1, np.zeros((2160, 3840, 3), np.uint8))  # whose image alone does not fit
        raised = "nothing"
    except torch.OutOfMemoryError:
        raised = "OutOfMemoryError"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, setting.device)
    yield judged(raised == "OutOfMemoryError", "a step without memory", "OutOfMemoryError", raised, level=WARN)
    tracker.reset()
    follow(tracker, images, 4)
    yield judged(tracker.newest is not None, "the steps after it", "tracked", "tracked")


def long_streams(setting: Setting) -> Iterator[Check]:
    """Part 14."""
    images = setting.images()
    model = setting.model()
    settled = max(setting.long // 10, SETTLED)
    for objects in (1, TrackerConfig().max_objects):
        tracker, used = Tracker(model), []
        frames = setting.long if objects == 1 else max(setting.long // 4, settled + 1)
        for i in range(frames):
            tracker.step(i + 1, images[i % len(images)])
            if i == 0:
                tracker.prompt(0, some_boxes(images[0], objects))
            if i + 1 in (settled, frames):
                used.append(
                    (
                        torch.cuda.memory_allocated(setting.device),
                        torch.cuda.memory_reserved(setting.device),
                        *_of_process(),
                    )
                )
        first, last = used[0], used[-1]
        got = (
            f"{first[0] >> 20} and {last[0] >> 20} MiB allocated, {first[1] >> 20} and {last[1] >> 20} reserved, "
            f"{last[2]} threads, {last[3]} files"
        )
        yield judged(
            last[:2] <= first[:2] and last[2:] == first[2:],
            f"{objects} objects, {frames} frames",
            f"what frame {settled} has",
            got,
            "memory grows: report it with the JSON file",
        )


def _of_process() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def each_gpu(setting: Setting) -> Iterator[Check]:
    """Part 16: with the first GPU as the current one."""
    for index in range(torch.cuda.device_count()):
        here = replace(setting, device=torch.device("cuda", index))
        before = torch.cuda.memory_allocated(0)
        model = here.model()
        if pays_off(here.device):
            yield _compiled(model)
        tracker = Tracker(model)
        follow(tracker, here.images(3), 10)
        got = f"{tracker.captured} graphs; {tracker.refused}" if tracker.refused else f"{tracker.captured} graphs"
        yield judged(not tracker.refused, f"cuda:{index}, 10 frames", "tracked, captured", got, GRAPHS_HELP)
        if index:
            more = torch.cuda.memory_allocated(0) - before
            yield judged(more <= 0, f"cuda:{index}: allocated on cuda:0", "nothing", f"{more} bytes")
        del tracker, model


def _compiled(model: Sam2Model) -> Check:
    """Compile its encoder, and try the project's own kernels, as every start does."""
    what, expected = f"{model.device}, compiled, own kernels", "compiled, served"
    try:
        model.compile_encoder()
    except ConfigError as problem:
        return Check(FAIL, what, expected, str(problem), REPORT)
    with torch.inference_mode():
        served = kernels.serves(model.no_mem_embed)
    return judged(served, what, expected, expected if served else "compiled, Triton does not serve it")
