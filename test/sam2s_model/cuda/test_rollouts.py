"""Whole rollouts on the stand-in of a CUDA device: every policy, precision and model, step by step and as graphs.

Nothing mixes devices, nothing races, no pinned buffer is misused, nothing is asked in what is captured, and graphs lead
to what single launches do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stand_in import SMALL, cuda, on_cuda

from sam2s_model.acceleration import graphs
from sam2s_model.acceleration.graphs import CudaCapture
from sam2s_model.config import MODELS, POLICY_NAMES, TrackerConfig
from sam2s_model.network.image_encoder import size_step
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker

SIDE = 64
BOX, OTHER = np.array([20, 30, 60, 60], np.float32), np.array([50, 10, 90, 50], np.float32)
CLICK = dict(points=np.array([[40, 40]], np.float32), point_labels=np.array([1]))
FOLLOWING = {
    "fifo": "efp",
    "match": "fifo",
    "none": "match",
    "slm": "fifo",
}  # a policy that takes over; "distractor" from others
QUICK = ("fifo", "divemem+efp", "fifo+match")  # with those that follow, what the others are made of
LIKE_OTHERS = {
    "sam2_hiera_small",
    "sam2_hiera_base_plus",
    "sam2_hiera_large",
    "sam2.1_hiera_large",
    "efficienttam_s",
    "sam3",
}  # more of the same layers
OPTIONS = dict(long_term_min_iou=0.0, lost_after=0.1, min_similarity=-1.0, prompt_history=6)


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    monkeypatch.setattr(graphs, "_free_streams", {})
    monkeypatch.setattr(CudaCapture, "refused", "")


def images(height: int = 72, width: int = 96) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, 255, (height, width, 3), dtype=np.uint8) for i in range(3)]


def life(tracker: Tracker, frames: list[np.ndarray], queued: bool, following: str) -> list[tuple]:
    """A stream with all that changes. Returns the logits and label map of each step."""
    said, size = [], frames[0].shape[:2]
    mask = np.zeros(size, bool)
    mask[10:40, 10:50] = True
    for i in range(12):
        after = frames[(i + 1) % len(frames)] if queued else None
        tracks = tracker.step((i + 1) * 33_000_000, frames[i % len(frames)], after)
        said.append((tracker.outputs and tracker.outputs.logits.cpu(), tracks.label_map))
        if i == 0:
            tracker.prompt(0, [Prompt(box=BOX)])
        if i == 3:
            tracker.prompt(0, [Prompt(mask=mask), Prompt(box=OTHER)])
            shown = tracks.stamp
        if i == 5:
            tracker.prompt(
                shown, [Prompt(object_id=2, **CLICK), Prompt(object_id=1, class_name=tracker.label_set.classes[1].name)]
            )
        if i == 6:
            tracker.remove([1])
        if i == 8:
            tracker.set_policy(following)
    return said


def network_of(policy: str, precision: torch.dtype = torch.float32) -> Sam2Model:
    torch.manual_seed(0)
    model = Sam2Model(replace(SMALL, short_attention=policy == "slm"), SIDE).eval().requires_grad_(False)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
    return on_cuda(model, precision)


@pytest.mark.parametrize(
    "policy", [pytest.param(name, marks=() if name in QUICK else pytest.mark.full) for name in POLICY_NAMES]
)
def test_every_policy(policy):
    """Eager, and as graphs with the next image encoded meanwhile, on an allocator as of old torch."""
    following = FOLLOWING.get(policy, "distractor")
    with cuda(old=True) as device:
        model = network_of(policy)
        plain = Tracker(model, policy, TrackerConfig(cuda_graphs=False, **OPTIONS))
        expected = life(plain, images(), False, following)
        tracker = Tracker(model, policy, TrackerConfig(**OPTIONS))
        tracker.warm_up(SIDE, SIDE)
        got = life(tracker, images(), True, following)
        assert not tracker.refused
        assert tracker.captured >= 2 and not device.faults
    for i, ((mine, my_map), (logits, label_map)) in enumerate(zip(got, expected, strict=True)):
        assert (mine is None) == (logits is None)
        if mine is not None:
            torch.testing.assert_close(mine, logits, rtol=1e-3, atol=1e-3, msg=lambda m, i=i: f"frame {i}: {m}")
        assert (my_map != label_map).mean() < 1e-3


@pytest.mark.parametrize(
    "option", [dict(non_overlap_memory=True), dict(fill_holes=0, reidentification=False), dict(field_of_view="auto")]
)
def test_options(option):
    with cuda() as device:
        tracker = Tracker(network_of("fifo"), "fifo", TrackerConfig(**OPTIONS, **option))
        life(tracker, images(), False, "match")
        assert not tracker.refused and not device.faults


def test_cached_keys():
    """As graphs they lead to what single launches do without them, for a policy that moves memories, and another."""
    with cuda(old=True) as device:
        model = network_of("divemem")
        expected = life(Tracker(model, "divemem", TrackerConfig(cuda_graphs=False, **OPTIONS)), images(), False, "fifo")
        tracker = Tracker(model, "divemem", TrackerConfig(cache_keys=True, **OPTIONS))
        got = life(tracker, images(), True, "fifo")
        assert not tracker.refused and tracker.captured >= 2 and not device.faults
    for (mine, _), (logits, _) in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("policy", ["match", "fifo"])
def test_other_precisions_and_sizes(precision, policy):
    """A step launches and waits for the same whatever the size; another size, by reset, is captured anew."""
    with cuda() as device:
        tracker = Tracker(network_of(policy, precision), policy, TrackerConfig(**OPTIONS))
        found = []
        for height, width in ((72, 96), (60, 80)):
            for i, frame in enumerate(images(height, width) * 2):
                before = device.counts.copy()
                tracker.step(i + 1, frame)
                if i == 0:
                    tracker.prompt(0, [Prompt(box=BOX)])
            found.append(dict(device.counts - before, bytes=0))
            tracker.reset()
        assert found[0] == found[1] and found[0]["waits"] == 1, device.waited[-3:]
        assert not tracker.refused and not device.faults


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full if name in LIKE_OTHERS else ()) for name in MODELS]
)
def test_every_model(name):
    """Captured, and with one wait a step, for whose memory is trained and for whose is not."""
    with torch.device("meta"):
        model = Sam2Model(MODELS[name], SIDE + -SIDE % size_step(MODELS[name])).eval().requires_grad_(False)
    with cuda() as device:
        tracker = Tracker(on_cuda(model, torch.bfloat16), config=TrackerConfig(prompt_history=1))
        for i, frame in enumerate(images()):
            before = device.counts.copy()
            tracker.step(i + 1, frame)
            if i == 0:
                tracker.prompt(0, [Prompt(box=BOX)])
        assert tracker.captured == 2 and (device.counts - before)["waits"] <= 3 and not device.faults
