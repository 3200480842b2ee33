"""Short and long memory: what the second attention sees, and who can have it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import PICO
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.memory import BankView, ShortLong
from sam2s_model.tracking.tracker import Tracker


def newest(run, now: int) -> list[tuple[int, int]]:
    """Frame and code of the short memory of each object."""
    short = run.policy.select(BankView(run.bank, slice(0, len(run.bank))), now).short
    assert short.columns.shape[1] == 1 and short.allowed is None
    frames = run.bank.frames.gather(1, short.columns)[:, 0].tolist()
    return list(zip(frames, short.codes[:, 0].tolist(), strict=True))


def test_the_newest_frame_is_the_short_memory(script, small):
    run = script(ShortLong(replace(small, short_attention=True)), objects=2)
    run.prompt(0, 0), run.prompt(0, 1)
    assert newest(run, 1) == [(0, 6), (0, 6)]
    for frame in (1, 2, 3):
        run.track(frame)
    run.prompt(3, 1)
    assert newest(run, 4) == [(3, 0), (3, 6)]
    assert newest(run, 3) == [(2, 0), (2, 0)], "as of an earlier frame"
    assert run.attended(4) == {0: 6, 3: 0, 2: 1, 1: 2}, "the long memory is FIFO's"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = Sam2Model(replace(PICO, short_attention=True), image_size=64).eval().requires_grad_(False)
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)  # the object is always there
    for block in network.memory_fusion.layers:
        block.gamma.uniform_(0.2, 0.6)
    return network


def test_a_checkpoint_with_the_second_attention_is_recognised_and_runs(model, frames, tmp_path):
    torch.save(model.state_dict(), tmp_path / "slm.pt")
    loaded = load_model(tmp_path / "slm.pt", image_size=64, device="cpu")
    assert loaded.config.short_attention and Tracker(loaded).policy_name == "slm"
    logits = []
    for policy in ("slm", "fifo"):
        tracker = Tracker(loaded, policy)
        tracker.step(1, frames[0])
        tracker.prompt(0, [Prompt(box=np.array([20, 30, 60, 60], np.float32))])
        for i in range(1, 4):
            tracker.step(i + 1, frames[i])
        logits.append(tracker.outputs.logits)
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_another_checkpoint_is_refused(small):
    with pytest.raises(
        ConfigError, match="has no second memory attention: expected a checkpoint with memory_attention_short"
    ):
        ShortLong(small)


def test_half_a_second_attention_is_no_checkpoint(model, tmp_path):
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("memory_fusion.")}
    torch.save(state, tmp_path / "half.pt")
    with pytest.raises(ValueError, match="missing: memory_fusion"):
        load_model(tmp_path / "half.pt", device="cpu")
