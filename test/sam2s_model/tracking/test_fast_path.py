"""The fast path through the model, which inference takes, against training's plain one, which reads like the paper.

Both follow the same stream with the same tracker: what differs grows through the memory.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2s_model.config import MODELS, NANO, POLICY_NAMES, ModelConfig, TrackerConfig
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker

SIDE = 96  # px, so that no stage is a whole number of windows
EVERYTHING = replace(NANO, backbone="hiera", num_heads=1, stages=(1, 1, 2, 1), global_blocks=(3,), short_attention=True)
BOXES = [np.array(box, np.float32) for box in ([20, 30, 60, 60], [90, 70, 140, 110])]


def narrow(config: ModelConfig) -> Sam2Model:
    """The same layers, of few channels."""
    torch.manual_seed(0)
    config = replace(
        config,
        embed_dim=16 * config.num_heads,
        dim=64,
        memory_dim=32,
        decoder_dim=0,
        decoder_mlp=64,
        decoder_heads=4,
        memory_ffn=64,
        mlp_dim=64,
    )
    side = SIDE if SIDE % config.stride == 0 else 7 * config.stride
    model = Sam2Model(config, side).eval().requires_grad_(False)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
    for name, parameter in model.named_parameters():
        if name.endswith("proj.bias") or "tpos_enc" in name:
            parameter.normal_()  # which what is folded must not lose
    return model


def follow(model: Sam2Model, frames: list[np.ndarray], policy: str, plainly: bool) -> list[torch.Tensor]:
    """Mask logits (N, 1, h, w) of each frame from the prompted one on."""
    gating = policy != "match"  # random features match so badly that no object would be there
    tracker, found = Tracker(model, policy, TrackerConfig(long_term_min_iou=0.0, object_score_gating=gating)), []
    step, prompt = (
        getattr(Tracker, name).__wrapped__ if plainly else getattr(Tracker, name) for name in ("step", "prompt")
    )
    with torch.set_grad_enabled(plainly):
        for i, image in enumerate(frames):
            step(tracker, i + 1, image)
            if i in (0, 3):
                prompt(tracker, 0, [Prompt(box=BOXES[i // 3])])
            found.append(tracker.outputs.logits.float())
    return found


def check(model: Sam2Model, frames: list[np.ndarray], policy: str = "fifo") -> None:
    """In fp32 they are equal to 1e-4; in bf16 the fast one is no further off than the plain one, but for matches."""
    plain, fast = (follow(model, frames, policy, plainly) for plainly in (True, False))
    for own, expected in zip(fast, plain, strict=True):
        assert (own - expected).abs().max() < 1e-4 * expected.abs().max() and expected.std() > 0.01
    if "match" in policy:  # which places are most similar, and so all that follows, turns over by little
        return
    model.to(torch.bfloat16)
    errors = []
    for plainly in (True, False):
        pairs = zip(follow(model, frames, policy, plainly), plain, strict=True)
        errors.append(sum((own - expected).abs().mean() for own, expected in pairs))
    assert 0 < errors[1] < 1.5 * errors[0]


MORE_LAYERS = ("small", "base_plus", "large", "efficienttam_s", "sam3")  # of the kinds that smaller ones have


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.full if name.endswith(MORE_LAYERS) else ()) for name in MODELS]
)
def test_of_every_configuration(name, frames):
    check(narrow(MODELS[name]), frames[:6])


# The others attend to as many memories, or to fewer, by the same code.
QUICK = ("fifo", "divemem", "slm", "match", "none")


@pytest.mark.parametrize(
    "policy", [pytest.param(name, marks=() if name in QUICK else pytest.mark.full) for name in POLICY_NAMES]
)
def test_of_every_policy(policy, frames):
    check(narrow(EVERYTHING), frames[:10], policy)
