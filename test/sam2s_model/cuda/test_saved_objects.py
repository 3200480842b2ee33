"""Saved objects on the stand-in of a CUDA device: they go on through captured steps as through others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stand_in import SMALL, cuda, on_cuda

from sam2s_model.acceleration import graphs
from sam2s_model.acceleration.graphs import CudaCapture
from sam2s_model.config import TrackerConfig
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker

BOXES = [np.array(box, np.float32) for box in ([20, 30, 60, 60], [5, 5, 30, 40])]


@pytest.mark.parametrize("policy, steps", [pytest.param("fifo", 20, marks=pytest.mark.full), ("fifo", 4), ("match", 4)])
def test_restored_objects_go_on_through_captured_steps(policy, steps, monkeypatch):
    """20 steps: until the windows of memories and pointers are full, and nothing is masked in a captured step."""
    monkeypatch.setattr(graphs, "_free_streams", {})
    monkeypatch.setattr(CudaCapture, "refused", "")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (72, 96, 3), dtype=np.uint8) for _ in range(3)]
    with cuda() as device:
        torch.manual_seed(0)
        model = on_cuda(Sam2Model(SMALL, 64).eval().requires_grad_(False))
        before = Tracker(model, policy)
        before.step(1, images[0])
        before.prompt(0, [Prompt(box=box) for box in BOXES])
        saved = before.saved_objects()
        assert all(value.device.type == "cpu" for one in saved.objects for value in one.tensors.values())
        found = []
        for captured in (True, False):
            tracker = Tracker(model, policy, TrackerConfig(cuda_graphs=captured, reidentification=False))
            tracker.step(1, images[1])
            tracker.restore_objects(saved)
            logits = [tracker.outputs.logits.cpu()]
            for i in range(steps):
                tracker.step(2 + i, images[i % 3])
                logits.append(tracker.outputs.logits.cpu())
            assert tracker.refused == "" and (tracker.captured > 0) == captured
            found.append(logits)
        for i, (mine, theirs) in enumerate(zip(*found, strict=True)):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3, msg=lambda m, i=i: f"step {i}: {m}")
        assert not device.faults
