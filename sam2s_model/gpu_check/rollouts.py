"""Parts 6 to 11: whole rollouts: GPU beside CPU, graphs beside single launches, and what may happen to graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam2s_model.config import POLICY_NAMES, TrackerConfig
from sam2s_model.device import use_deterministic_algorithms
from sam2s_model.gpu_check.part import FAIL, OK, WARN, Check, Setting, exact_products, iou, judged
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import Tracks

POLICIES = [name for name in POLICY_NAMES if name != "slm"]  # which needs a model of its own
FRAME = 33_000_000  # ns
GRAPHS_HELP = "set cuda_graphs to false until a newer torch or driver captures, and report it with the JSON file"


@dataclass(frozen=True)
class CheckedStep:
    """The results of a step. logits: (N, 1, h, w) on the CPU, or None without objects"""

    logits: Tensor | None
    label_map: np.ndarray
    states: list


def follow(
    tracker: Tracker, images: list[np.ndarray], frames: int, queued: bool = False, prompts: bool = True
) -> list[CheckedStep]:
    """Track a stream with two objects.

    The first is corrected and, towards the end, removed; the second is corrected late, and named.
    queued: each step is given the next image, too; prompts: False: only track what there is
    """
    height, width = images[0].shape[:2]
    box, other = (
        np.array(b, np.float32) * [width, height, width, height] for b in ((0.2, 0.2, 0.6, 0.7), (0.5, 0.4, 0.9, 0.9))
    )
    points, positive = np.array([[0.4 * width, 0.4 * height]], np.float32), np.array([1])
    newest = tracker.newest.stamp if tracker.newest else 0
    found: list[CheckedStep] = []
    ids: list[int] = []
    for i in range(frames):
        after = images[(i + 1) % len(images)] if queued and i + 1 < frames else None
        tracks = tracker.step(newest + (i + 1) * FRAME, images[i % len(images)], after)
        if prompts:
            if i in (1, 4):
                made = tracker.prompt(0, [Prompt(box=(box if i == 1 else other).astype(np.float32))])
                ids.extend(made.object_ids)
                tracks = made.tracks
            if i == 8:
                tracks = tracker.prompt(0, [Prompt(ids[0], points=points, point_labels=positive)]).tracks
            if i == 11:
                tracker.prompt(tracks.stamp - 2 * FRAME, [Prompt(ids[1], points=points, point_labels=positive)])
                tracks = newest_tracks(tracker)
            if i == 14:
                tracks = tracker.prompt(
                    0, [Prompt(object_id=ids[1], class_name=tracker.label_set.classes[1].name)]
                ).tracks
            if i == max(15, frames - 3):
                tracker.remove(ids[:1])
                tracks = newest_tracks(tracker)
        logits = tracker.outputs.logits.float().cpu() if tracker.outputs is not None else None
        found.append(CheckedStep(logits, tracks.label_map, list(tracks.states)))
    return found


def newest_tracks(tracker: Tracker) -> Tracks:
    """Return the newest frame's tracks. Raises RuntimeError before the first frame."""
    if tracker.newest is None:
        raise RuntimeError("the tracker has had no frame: expected at least one")
    return tracker.newest


def agreement(got: list[CheckedStep], expected: list[CheckedStep]) -> tuple[float, float, float]:
    """Compare two rollouts: the worst and the mean IoU of their frames, and the share of frames with equal states."""
    pairs = list(zip(got, expected, strict=True))
    ious = [iou(a.label_map, b.label_map) for a, b in pairs]
    return min(ious), float(np.mean(ious)), float(np.mean([a.states == b.states for a, b in pairs]))


def beside_the_cpu(setting: Setting) -> Iterator[Check]:
    """Part 6."""
    images = setting.images()
    plain, model = setting.model_on_cpu(), setting.model(dtype=torch.float32)
    for policy in POLICIES:
        with exact_products():
            expected = follow(Tracker(plain, policy), images, setting.frames)
            got = follow(Tracker(model, policy, TrackerConfig(cuda_graphs=False)), images, setting.frames)
        worst, mean, states = agreement(got, expected)
        yield judged(
            worst >= 0.99 and mean >= 0.995 and states >= 0.95,
            f"{policy}: CPU fp32 and CUDA fp32",
            "IoU 0.99, mean 0.995, states 95 %",
            f"IoU {worst:.4f}, mean {mean:.4f}, states {states:.0%}",
        )


def graphs(setting: Setting) -> Iterator[Check]:
    """Part 7."""
    for dtype in (torch.float32, torch.bfloat16):
        model = setting.model(dtype=dtype)
        for policy in POLICIES:
            yield _as_graphs(setting, model, policy, queued=policy in ("match", "fifo"))


def _as_graphs(setting: Setting, model: Sam2Model, policy: str, queued: bool) -> Check:
    images, exact = setting.images(), model.dtype == torch.float32
    with exact_products():
        expected = follow(Tracker(model, policy, TrackerConfig(cuda_graphs=False)), images, setting.frames)
        tracker = Tracker(model, policy)
        got = follow(tracker, images, setting.frames, queued)
    what = f"{policy}: graphs{' with look-ahead' if queued else ''} and single launches, {str(model.dtype)[6:]}"
    if tracker.refused or tracker.captured < 4:
        return Check(
            FAIL, what, "at least 4 graphs, none refused", f"{tracker.captured} graphs; {tracker.refused}", GRAPHS_HELP
        )
    worst, _, states = agreement(got, expected)
    pairs = [
        (a.logits, b.logits)
        for a, b in zip(got, expected, strict=True)
        if a.logits is not None and b.logits is not None
    ]
    error = max((a - b).abs().max().item() if a.shape == b.shape else torch.inf for a, b in pairs)
    good = (error <= 1e-3 if exact else worst >= 0.999) and states == 1
    wanted = "logits within 1e-3" if exact else "IoU 0.999"
    return judged(
        good, what, f"{wanted}, states equal", f"logits {error:.1e}, IoU {worst:.4f}, states {states:.0%}", GRAPHS_HELP
    )


def captured_again(setting: Setting) -> Iterator[Check]:
    """Part 8: finding C1, a pool of graphs that lost all of them."""
    model = setting.model()
    tracker = Tracker(model)
    tracker.warm_up(model.image_size, model.image_size)
    for change, images in (
        ("a warm-up, then 720p", setting.images(3, 720, 1280)),
        ("another image size", setting.images(3)),
    ):
        follow(tracker, images, 5)
        yield judged(not tracker.refused, change, "captured", tracker.refused or "captured", GRAPHS_HELP)
        tracker.reset()
    follow(tracker, images, 4)
    for policy in ("efp", "match"):
        tracker.set_policy(policy)
        follow(tracker, images, 4, prompts=False)
    yield judged(not tracker.refused, "two other policies", "captured", tracker.refused or "captured", GRAPHS_HELP)
    yield _as_graphs(setting, model, "match", queued=False)


def a_capture_that_fails(setting: Setting) -> Iterator[Check]:
    """Part 9: finding C2."""
    model, images = setting.model(dtype=torch.float32), setting.images()
    with exact_products():
        expected = follow(Tracker(model, "fifo", TrackerConfig(cuda_graphs=False)), images, 8)
        before = torch.cuda.current_stream(setting.device)
        with _asking_during_capture(model):
            tracker = Tracker(model, "fifo")
            got = follow(tracker, images, 8)
    after = torch.cuda.current_stream(setting.device)
    yield judged(
        bool(tracker.refused),
        "a capture that asks for a value",
        "refused",
        tracker.refused or "captured",
        REPORT_CAPTURE,
    )
    yield judged(after == before, "the stream after it", "as before", "as before" if after == before else "another")
    worst, _, _ = agreement(got, expected)
    yield judged(worst >= 0.999, "the frames after it", "as single launches lead to, IoU 0.999", f"IoU {worst:.4f}")
    filled = torch.empty(256 << 20, dtype=torch.uint8, device=setting.device)
    del filled
    kept = torch.cuda.memory_reserved(setting.device)
    try:
        torch.cuda.empty_cache()
        got_back = kept - torch.cuda.memory_reserved(setting.device)
        reply = f"{got_back >> 20} MiB given back"
    except RuntimeError as problem:
        got_back, reply = 0, str(problem).splitlines()[0]
    advice = "this torch keeps what it has cached after a capture that failed: a newer one does not"
    yield judged(got_back >= 256 << 20, "the allocator after it", "gives back at least 256 MiB", reply, advice, WARN)


REPORT_CAPTURE = "this torch lets a capture ask for a value: report it with the JSON file"


@contextmanager
def _asking_during_capture(model: Sam2Model) -> Iterator[None]:
    """Make the image encoder ask the device for a value while it is captured."""

    def ask(encoder: torch.nn.Module, given: tuple, maps: Sequence[Tensor]) -> None:
        if torch.cuda.is_current_stream_capturing():
            maps[-1].sum().item()

    asks = model.image_encoder.trunk.register_forward_hook(ask)
    try:
        yield
    finally:
        asks.remove()


def deterministic(setting: Setting) -> Iterator[Check]:
    """Part 10: findings C3 and C4."""
    use_deterministic_algorithms(True)
    try:
        model, images = setting.model(), setting.images()
        for policy in POLICIES:
            first, second = (follow(Tracker(model, policy), images, 20) for _ in range(2))
            same = all(_same_bits(a, b) for a, b in zip(first, second, strict=True))
            yield judged(same, f"{policy}, deterministic, twice", "the same bits", "the same" if same else "others")
    finally:
        use_deterministic_algorithms(False)


def _same_bits(a: CheckedStep, b: CheckedStep) -> bool:
    if a.logits is None or b.logits is None:
        return a.logits is b.logits and np.array_equal(a.label_map, b.label_map)
    return torch.equal(a.logits, b.logits) and np.array_equal(a.label_map, b.label_map)


def waits(setting: Setting) -> Iterator[Check]:
    """Part 11: what a graphed step asks the device, besides waiting for it at its end."""
    model, images = setting.model(), setting.images()
    for policy in ("match", "fifo", "distractor"):
        tracker = Tracker(model, policy)
        follow(tracker, images, 30)
        newest = newest_tracks(tracker).stamp
        torch.cuda.set_sync_debug_mode("error")
        try:
            for i in range(5):
                tracker.step(newest + (i + 1) * FRAME, images[i % len(images)])
            yield Check(OK, f"{policy}: a graphed step", "asks for nothing", "asks for nothing")
        except RuntimeError as problem:
            reply = str(problem).splitlines()[0]
            yield Check(
                WARN,
                f"{policy}: a graphed step",
                "asks for nothing",
                reply,
                "steps are slower than need be: report it with the JSON file",
            )
        finally:
            torch.cuda.set_sync_debug_mode("default")
