"""Long runs: what is remembered, and what the process takes, does not grow with the video (`make test-full`)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2s_model.acceleration.allocator import resident_bytes
from sam2s_model.checkpoint import load_model
from sam2s_model.prompts import Prompt
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.tracker import Tracker

FRAMES, SETTLED = 5000, 500


@pytest.mark.full
@pytest.mark.parametrize("policy", ["fifo", "match", "none"])
def test_p25_memory_is_flat_over_5000_frames(policy):
    scene = Scene(SceneConfig(width=160, height=128, frames=250, seed=1))
    images = [np.ascontiguousarray(frame.image) for frame in scene]
    tracker = Tracker(load_model(resolve_checkpoint("sam2s_pico"), image_size=128, device="cpu"), policy)
    tracker.step(1, images[0])
    tracker.prompt(0, [Prompt(box=np.array(state.box, np.float32)) for state in scene[0].objects])
    settled = bank = 0
    for i in range(1, FRAMES):
        tracker.step(i + 1, images[i % len(images)])
        if i % 100 == 50:  # corrections, also on earlier frames, and an object that comes and goes
            tracker.prompt(i - 5, [Prompt(object_id=1, points=np.array([[80, 60]]), point_labels=np.array([1]))])
            added = tracker.prompt(0, [Prompt(box=np.array([20, 20, 60, 60], np.float32))]).object_ids
            tracker.remove(added)
        if i == SETTLED:
            settled, bank = resident_bytes(), tracker.memory_bytes()
    growth = resident_bytes() / settled - 1
    print(f"{policy}: resident {settled / 1e6:.0f} MB after frame {SETTLED}, {100 * growth:+.2f} % at frame {FRAMES}; "
          f"memory_bytes {bank} -> {tracker.memory_bytes()}")  # fmt: skip
    assert growth < 0.01
    assert tracker.memory_bytes() == bank


LONG, TURN = 100_000, 500


@pytest.mark.full
def test_p25_memory_is_flat_over_100000_frames():
    """Half an hour: a small image, 500 frames with one object, 500 with five, 500 with the most there may be; again."""
    scene = Scene(SceneConfig(width=64, height=64, frames=50, seed=1))
    images = [np.ascontiguousarray(frame.image) for frame in scene]
    tracker = Tracker(load_model(resolve_checkpoint("sam2s_pico"), image_size=64, device="cpu"), "fifo")
    counts = [1, 5, tracker.config.max_objects]
    settled, settles = 0, 2 * len(counts) * TURN
    for i in range(LONG):
        if i % TURN == 0:
            tracker.reset()
        tracker.step(i + 1, images[i % len(images)])
        if i % TURN == 0:
            tracker.prompt(
                0, [Prompt(box=np.array([5 + 2 * n, 5, 30 + 2 * n, 40], np.float32)) for n in range(counts[0])]
            )
            counts.append(counts.pop(0))
        if i + 1 == settles:
            settled, bank = resident_bytes(), tracker.memory_bytes()
    assert len(tracker.object_ids) == counts[-1]
    growth = resident_bytes() / settled - 1
    print(
        f"resident {settled / 1e6:.1f} MB after frame {settles}, {100 * growth:+.2f} % at frame {LONG}; "
        f"memory_bytes {bank}"
    )
    assert growth < 0.01
    assert tracker.memory_bytes() == bank


@pytest.mark.full
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_p25_device_memory_is_flat_over_20000_frames():
    scene = Scene(SceneConfig(width=160, height=128, frames=250, seed=1))
    images = [np.ascontiguousarray(frame.image) for frame in scene]
    tracker = Tracker(load_model(resolve_checkpoint("sam2s_nano"), device="cuda"), "divemem")
    tracker.step(1, images[0])
    before = torch.cuda.memory_allocated()
    tracker.prompt(0, [Prompt(box=np.array(state.box, np.float32)) for state in scene[0].objects])
    bank = tracker.memory_bytes()
    for i in range(1, 20_000):
        tracker.step(i + 1, images[i % len(images)])
        if i == SETTLED:
            allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    print(
        f"allocated {before} -> {allocated} -> {torch.cuda.memory_allocated()}, reserved {reserved}, "
        f"memory_bytes {bank}"
    )
    assert torch.cuda.memory_allocated() <= allocated and torch.cuda.memory_reserved() == reserved
    assert tracker.memory_bytes() == bank
