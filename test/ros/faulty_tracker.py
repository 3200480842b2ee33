"""tracker_node with a real tracker whose steps do what the file $FAULT says, for as long as it exists.

It is empty, and a step begins and waits until the file is gone: a hang that a test can end. Or it holds one of
`FAULTS`, and how many steps have it: "raise", "oom 1".
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.tracker import Tracker
from sam2s_ros.tracker import node as tracker_node

FILE = Path(os.environ["FAULT"])
step, encode = Tracker.step, Sam2Model.encode_image


def hang(tracker, stamp, image):
    while FILE.exists():
        time.sleep(0.005)
    return step(tracker, stamp, image)


def slow(seconds):
    def slow_step(tracker, stamp, image):
        time.sleep(seconds)
        return step(tracker, stamp, image)

    return slow_step


def fail(tracker, stamp, image):
    raise RuntimeError("the test's")


def starve(tracker, stamp, image):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def lose_device(tracker, stamp, image):
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA`")


def no_numbers(tracker, stamp, image):
    """The network's features are NaN; all that follows is the tracker's own."""
    Sam2Model.encode_image = lambda model, pixels: _times_nan(encode(model, pixels))
    try:
        return step(tracker, stamp, image)
    finally:
        Sam2Model.encode_image = encode


def _times_nan(features):
    return replace(features, coarse=features.coarse * torch.nan, middle=features.middle * torch.nan)


def wrong_size(tracker, stamp, image):
    tracks = step(tracker, stamp, image)
    return replace(tracks, label_map=np.ascontiguousarray(tracks.label_map[::2, ::2]))


FAULTS = {"": hang, "slow": slow(0.02), "slower": slow(0.25), "raise": fail, "oom": starve, "nan": no_numbers,
          "size": wrong_size, "lost": lose_device}  # fmt: skip


def faulty_step(tracker, stamp, image, following=None):
    try:
        name, _, left = FILE.read_text().partition(" ")
    except FileNotFoundError:
        return step(tracker, stamp, image)
    if left == "1":
        FILE.unlink()
    elif left:
        FILE.write_text(f"{name} {int(left) - 1}")
    return FAULTS[name](tracker, stamp, image)


Tracker.step = faulty_step

if __name__ == "__main__":
    sys.exit(tracker_node.main())
