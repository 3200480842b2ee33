"""Discovery on the stand-in of a CUDA device: it finds what it finds on a CPU, and a grid of points is one batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stand_in import cuda, on_cuda

from sam2s_model.config import PICO, TrackerConfig
from sam2s_model.discovery.discover import Proposal
from sam2s_model.discovery.prototypes import BACKGROUND, PrototypeBank
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker

CONFIG = TrackerConfig(
    discovery_min_iou=0.0, discovery_min_stability=0.0, discovery_min_margin=-1.0, cuda_graphs=False, lost_after=0.0
)
IMAGE = np.random.default_rng(0).integers(0, 255, (72, 96, 3), dtype=np.uint8)


def network() -> Sam2Model:
    torch.manual_seed(0)
    made = Sam2Model(replace(PICO, num_classes=2), 64).eval().requires_grad_(False)
    made.class_names = ("instrument", "object")
    return made


def bank() -> PrototypeBank:
    torch.manual_seed(1)
    made = PrototypeBank(PICO.dim)
    made.add("instrument", torch.randn(3, PICO.dim))
    made.add(BACKGROUND, torch.randn(3, PICO.dim))
    return made


def everything(model: Sam2Model) -> tuple[list[Proposal], list[Proposal], tuple[int, ...]]:
    """Proposals by the class head and by prototypes, and the objects of a class prompt; all calls of discovery once."""
    tracker = Tracker(model, "fifo", CONFIG)
    tracker.step(1, IMAGE)
    by_head = tracker.discover()
    tracker.discovery.use(bank())
    by_prototypes = tracker.discover()
    taken = [Prompt(class_name="instrument", mask=one.mask) for one in by_prototypes[:2]]
    ids = tracker.prompt(0, taken).object_ids
    tracker.step(2, IMAGE)
    tracker.rediscover()
    tracker.step(3, IMAGE)
    return by_head, by_prototypes, ids


def test_it_finds_what_it_finds_on_a_cpu():
    expected = everything(network())
    with cuda() as device:
        found = everything(on_cuda(network()))
        assert not device.faults
    assert found[2] == expected[2]
    for these, those in zip(found[:2], expected[:2], strict=True):
        assert len(these) == len(those) > 0
        for one, other in zip(these, those, strict=True):
            assert one.class_name == other.class_name
            assert one.score == pytest.approx(other.score, abs=1e-3)
            assert (one.mask ^ other.mask).mean() < 0.01


def test_a_grid_launches_hardly_more_than_one_point():
    """64 points are one batch, not 64 passes of the mask decoder."""
    counted = {}
    with cuda() as device:
        model = on_cuda(network())
        for side in (1, 8):
            tracker = Tracker(model, "fifo", replace(CONFIG, discovery_grid=side, discovery_min_iou=1.0))
            for _ in range(2):  # the first makes what is kept
                tracker.reset()
                tracker.step(1, IMAGE)
                before = device.counts.copy()
                assert tracker.discover() == []
                counted[side] = device.counts - before
            del tracker
    assert counted[8]["kernels"] <= counted[1]["kernels"] * 1.2
