"""What each memory policy costs when its memory is full: keys of memory attention a frame, and bytes of an object.

    python -m sam2s_model.memory.costs sam2.1_hiera_tiny --size 512 --size 1024

Neither depends on weights, so that any model by name can be asked about: its weights are random.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, List

import numpy as np
import torch
import typer

from sam2s_model.config import POLICY_NAMES, ModelConfig, TrackerConfig
from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_model.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracker import Tracker

BF16 = 2  # bytes of a number, as a memory bank has them on CUDA
EAGER = TrackerConfig(long_term_min_iou=0.0, long_term_buffer=1)  # every frame may be kept: the kept slots are full soon


@dataclass(frozen=True)
class Cost:
    """keys: of an object's memory attention; object_bytes: of its row of the bank, in bf16"""

    policy: str
    keys: int
    object_bytes: int


def costs(model: Sam2Model) -> Iterator[Cost]:
    """Of every policy that the model can run, on an object that was prompted once and tracked until its memory is full."""
    side = model.image_size
    image = np.zeros((side, side, 3), np.uint8)
    box = Prompt(box=np.array([side / 4, side / 4, side / 2, side / 2], np.float32))
    for policy in POLICY_NAMES:
        try:
            tracker = Tracker(model, policy, EAGER)
        except ConfigError:
            continue
        tracker.step(1, image)
        tracker.prompt(0, [box])
        for stamp in range(2, model.config.max_pointers + 3):
            tracker.step(stamp, image)
        yield Cost(policy, tracker.keys_attended, tracker.bytes_per_object(BF16))


def published_growth(model: Sam2Model) -> int:
    """Bytes that the published SAM2 keeps of every frame and object for ever: a bf16 memory and fp32 mask logits."""
    h, w = model.grid
    return 2 * h * w * model.config.memory_dim + 4 * 16 * h * w


def main(
    name: Annotated[str, typer.Argument(help="of a model")] = "sam2.1_hiera_tiny",
    size: Annotated[List[int], typer.Option(help="side of the input, px; repeatable")] = [512, 1024],
) -> None:
    """Print a table of keys and bytes."""
    torch.manual_seed(0)
    model = Sam2Model(ModelConfig.from_name(name)).eval().requires_grad_(False)
    found: dict[str, list[Cost]] = {}
    grown = []
    for side in size:
        model.set_image_size(side)
        for cost in costs(model):
            found.setdefault(cost.policy, []).append(cost)
        grown.append(f"{published_growth(model) / 1024:.0f} KiB at {side} px")
    print("| policy | " + " | ".join(f"keys at {side} px | MB an object" for side in size) + " |\n" + "|---" * (1 + 2 * len(size)) + "|")
    for policy, own in found.items():
        print(f"| {policy} | " + " | ".join(f"{cost.keys} | {cost.object_bytes / 1e6:.2f}" for cost in own) + " |")
    print(f"\nThe published SAM2 keeps, of every frame and object for ever, {', '.join(grown)}.")


if __name__ == "__main__":
    try:
        typer.run(main)
    except Sam2sError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
