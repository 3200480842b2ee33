"""What each memory policy costs when its memory is full: keys of memory attention a frame, and bytes of an object.

    sam2s bench memory sam2.1_hiera_tiny --size 512 --size 1024

Neither depends on weights, so that any model by name can be asked about: its weights are random.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sam2s_model.config import POLICY_NAMES, ModelConfig, TrackerConfig
from sam2s_model.device import resolve_dtype
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.policy_plugins import check_policy_name
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import Tracks

BF16 = 2  # bytes of a number, as a memory bank has them on CUDA


@dataclass(frozen=True)
class Cost:
    """keys: of an object's memory attention; object_bytes: of its row of the bank, in bf16"""

    policy: str
    keys: int
    object_bytes: int


def costs(model: Sam2Model, policies: Sequence[str] = POLICY_NAMES) -> Iterator[Cost]:
    """Of every one of the policies that the model can run, on an object that was prompted once."""
    for policy, tracker in _that_can_run(model, policies):
        yield Cost(policy, tracker.keys_attended, tracker.bytes_per_object(BF16))


def with_full_memory(
    model: Sam2Model, policy: str, image: np.ndarray | None = None, objects: int = 1, cuda_graphs: bool = True
) -> Tracker:
    """Let a tracker follow objects until their memory is full, and return it.

    image: (S, S, 3) uint8 RGB, shown again and again; None: a black one
    Raises ConfigError when the model cannot run the policy.
    """
    side = model.image_size
    # every frame may be kept: the slots of long-term frames are full soon
    config = TrackerConfig(long_term_min_iou=0.0, long_term_buffer=1, cuda_graphs=cuda_graphs)
    tracker = Tracker(model, policy, config)
    tracker.step(1, np.zeros((side, side, 3), np.uint8) if image is None else image)
    tracker.prompt(0, [Prompt(box=box) for box in boxes(side, objects)])
    for _ in range(steps_to_fill(model)):
        step(tracker, image)
    return tracker


def boxes(side: int, objects: int) -> list[np.ndarray]:
    """Make a box x0 y0 x1 y1 in a square image for each object, all of one size."""
    corners = side * (0.25 + 0.4 * np.arange(objects) / objects)
    return [np.array([corner, corner, corner + side / 4, corner + side / 4], np.float32) for corner in corners]


def steps_to_fill(model: Sam2Model) -> int:
    """Frames after the prompted one until there is no room for another memory."""
    return model.config.max_pointers + 1


def step(tracker: Tracker, image: np.ndarray | None = None, following: np.ndarray | None = None) -> float:
    """Track one more image, None: a black one; the s it took. following: see `Tracker.step`"""
    newest = newest_of(tracker)
    if image is None:
        image = np.zeros((*newest.size, 3), np.uint8)
    began = time.perf_counter()
    tracker.step(newest.stamp + 1, image, following)
    return time.perf_counter() - began


def newest_of(tracker: Tracker) -> Tracks:
    """Return the tracks of a tracker that has seen a frame."""
    tracks = tracker.newest
    assert tracks is not None
    return tracks


def step_ms(model: Sam2Model, policies: Sequence[str], steps: int) -> dict[str, float]:
    """Median time of a step with each policy. They take turns, so that what else the machine does befalls all alike."""
    trackers = dict(_that_can_run(model, policies))
    spent: dict[str, list[float]] = {policy: [] for policy in trackers}
    for _ in range(steps):
        for policy, tracker in trackers.items():
            spent[policy].append(step(tracker))
    return {policy: 1e3 * float(np.median(seconds)) for policy, seconds in spent.items()}


def _that_can_run(model: Sam2Model, policies: Sequence[str]) -> Iterator[tuple[str, Tracker]]:
    for policy in policies:
        check_policy_name(policy)  # what is none is not one that the model cannot run
    for policy in policies:
        try:
            yield policy, with_full_memory(model, policy)
        except ConfigError:  # noqa: PERF203 (whether it can is known by trying)
            continue


def published_growth(model: Sam2Model) -> int:
    """Bytes that the published SAM2 keeps of every frame and object for ever: a bf16 memory and fp32 mask logits."""
    h, w = model.grid
    return 2 * h * w * model.config.memory_dim + 4 * 16 * h * w


def print_costs(model_name: str, sizes: Sequence[int], policies: Sequence[str], steps: int, precision: str) -> None:
    """Print a table of keys and bytes, and of times where they are asked for."""
    torch.manual_seed(0)
    model = (
        Sam2Model(ModelConfig.from_name(model_name))
        .to(resolve_dtype(precision, torch.device("cpu")))
        .eval()
        .requires_grad_(False)
    )
    cells: dict[str, list[str]] = {}
    grown = []
    for side in sizes:
        model.set_image_size(side)
        for cost in costs(model, policies):
            cells.setdefault(cost.policy, []).append(f"{cost.keys} | {cost.object_bytes / 1e6:.2f}")
        for name, ms in (step_ms(model, policies, steps) if steps else {}).items():
            cells[name][-1] += f" | {ms:.0f}"
        grown.append(f"{published_growth(model) / 1024:.0f} KiB at {side} px")
    left = [policy for policy in policies if policy not in cells]
    if not cells:
        raise ConfigError(f"{model_name} can run no policy of {', '.join(left)}: give others, or none for all")
    titles = [f"keys at {side} px | MB an object" + " | ms a step" * bool(steps) for side in sizes]
    print(f"| policy | {' | '.join(titles)} |\n" + "|---" * (1 + (3 if steps else 2) * len(sizes)) + "|")
    for name, own in cells.items():
        print(f"| {name} | {' | '.join(own)} |")
    if left:
        print(f"\nLeft out, as {model_name} cannot run them: {', '.join(left)}.")
    print(f"\nThe published SAM2 keeps, of every frame and object for ever, {', '.join(grown)}.")
