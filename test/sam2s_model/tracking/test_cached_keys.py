"""`cache_keys`: a tracker that keeps the keys of its memories does what one does that makes them on every frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2s_model.config import PICO, POLICY_NAMES, TrackerConfig
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker

BOX, OTHER = np.array([20, 30, 60, 60], np.float32), np.array([90, 70, 140, 110], np.float32)
CLICK = dict(points=np.array([[70, 60]], np.float32), point_labels=np.array([1]))
NEXT = {"fifo": "divemem", "none": "fifo"}  # the policy that takes over; "fifo" of the others
OPTIONS = dict(long_term_min_iou=0.0, long_term_buffer=1, prompt_history=5, min_similarity=-1.0)
QUICK = ("fifo", "divemem", "fifo+match")
POLICIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.full) for name in POLICY_NAMES]


def build(**changes) -> Sam2Model:
    torch.manual_seed(0)
    config = replace(PICO, stages=(1, 1, 2, 1), global_blocks=(3,), **changes)
    network = Sam2Model(config, 64).eval().requires_grad_(False)
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
    network.maskmem_tpos_enc.normal_()
    return network


@pytest.fixture(scope="module")
def model() -> Sam2Model:
    return build()


def life(model: Sam2Model, frames: list[np.ndarray], policy: str, **options) -> tuple[Tracker, list]:
    """Prompts in time and late, a mask, a removal, a new policy. Returns the tracker and the logits of each frame."""
    tracker, found = Tracker(model, policy, TrackerConfig(**OPTIONS, **options)), []
    mask = np.zeros(frames[0].shape[:2], bool)
    mask[30:60, 20:60] = True
    for i in range(18):
        tracker.step(i + 1, frames[i % len(frames)])
        if i == 0:
            tracker.prompt(0, [Prompt(box=BOX)])
        if i == 3:
            tracker.prompt(0, [Prompt(mask=mask), Prompt(box=OTHER)])
        if i == 6:
            tracker.prompt(4, [Prompt(object_id=2, **CLICK)])
        if i == 9:
            tracker.remove([1])
        if i == 13:
            tracker.set_policy(NEXT.get(policy, "fifo"))
        found.append(tracker.outputs.logits)
    return tracker, found


@pytest.mark.parametrize("policy", POLICIES)
def test_tracks_are_the_same(model, frames, policy):
    model = build(short_attention=True) if policy == "slm" else model
    plain, expected = life(model, frames, policy)
    tracker, got = life(model, frames, policy, cache_keys=True)
    for i, (mine, theirs) in enumerate(zip(got, expected, strict=True)):
        torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3, msg=lambda m, i=i: f"frame {i}: {m}")
    assert (tracker.newest.label_map == plain.newest.label_map).mean() > 0.999
    assert tracker.keys_attended == plain.keys_attended > 0


def test_a_kept_key_is_that_of_its_memory(model, frames):
    """In every slot that holds a frame, of rings, prompts and what the policy keeps, also after a removal."""
    tracker, _ = life(model, frames, "divemem", cache_keys=True)
    bank = tracker._segmenter.bank
    n = len(bank)
    held = (bank.frames[:n] >= 0).nonzero()
    assert len(held) > 20
    rows, slots = held.unbind(1)
    expected = model.memory_keys(bank.memories[rows, slots])
    torch.testing.assert_close(bank.keys[rows, slots], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("before, after", [(True, False), (False, True)])
def test_saved_objects_go_on_with_keys_and_without(model, frames, before, after):
    first, second = (Tracker(model, "fifo", TrackerConfig(cache_keys=on)) for on in (before, after))
    expected = Tracker(model, "fifo")
    for tracker in (first, second, expected):
        tracker.step(1, frames[0])
    first.prompt(0, [Prompt(box=BOX)])
    saved = first.saved_objects()
    assert saved.objects[0].spatial.shape[1:] == (model.memory_tokens, PICO.memory_dim)
    for tracker in (second, expected):
        tracker.restore_objects(saved)
        for i in (1, 2):
            tracker.step(i + 1, frames[i])
    torch.testing.assert_close(second.outputs.logits, expected.outputs.logits, atol=1e-4, rtol=1e-4)


def test_bytes_follow_the_formula(model):
    """Nothing more without the option, nor where nothing is remembered that has keys."""
    kept = {}
    for policy, on in (("fifo", False), ("fifo", True), ("match", False), ("match", True)):
        tracker = Tracker(model, policy, TrackerConfig(cache_keys=on, prompt_history=5))
        tracker.step(1, np.zeros((64, 64, 3), np.uint8))
        tracker.prompt(0, [Prompt(box=BOX)])
        kept[policy, on] = tracker.bytes_per_object(4)
        bank = tracker._segmenter.bank
        assert bank.memory_bytes() == bank.layout.bytes_per_object(4)
    slots = 4 + 6 + 5 + 1
    assert kept["fifo", True] - kept["fifo", False] == 4 * slots * model.memory_tokens * 2 * PICO.dim
    assert kept["match", True] == kept["match", False]
