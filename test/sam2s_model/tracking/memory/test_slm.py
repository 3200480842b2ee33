"""Short and long memory: what the second attention sees, and who can have it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam2s_model.checkpoint import load_model
from sam2s_model.config import PICO
from sam2s_model.errors import ConfigError
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.layers import place_tokens
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.memory import BankView, ShortLong
from sam2s_model.tracking.tracker import Tracker

KEYS = Path(__file__).resolve().parents[5] / "shared" / "keys" / "sam2.1_t.tsv"


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


def test_the_newest_frame_of_a_restored_object_is_the_newest_of_an_earlier_run(script, small):
    """Such frames have numbers below that of an empty slot, which is no memory."""
    run = script(ShortLong(replace(small, short_attention=True)))
    run.prompt(-3), run.prompt(-2)
    assert newest(run, 0) == [(-2, 6)]
    run.track(0)
    assert newest(run, 1) == [(0, 0)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = Sam2Model(replace(PICO, short_attention=True), image_size=64).eval().requires_grad_(False)
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)  # the object is always there
    for block in network.recent_memory_fuser.layers:
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


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """SAM 2.1's names and shapes, and those of the two groups that SLM-SAM2 adds, with small random numbers."""
    if not KEYS.is_file():
        pytest.skip(reason=f"no list of published keys at {KEYS}")
    rows = [line.split("\t") for line in KEYS.read_text().splitlines()]
    shapes = {key: tuple(json.loads(shape)) for key, shape, _ in rows}
    first = {key: shape for key, shape in shapes.items() if key.startswith("memory_attention.")}
    shapes |= {f"recent_{key}": shape for key, shape in first.items()}
    block = {
        "dwconv.weight": (256, 1, 7, 7), "dwconv.bias": (256,), "norm.weight": (256,), "norm.bias": (256,),
        "pwconv1.weight": (1024, 256), "pwconv1.bias": (1024,), "pwconv2.weight": (256, 1024), "pwconv2.bias": (256,),
        "gamma": (256,),
    }  # fmt: skip
    shapes |= {f"recent_memory_fuser.layers.{i}.{key}": shape for i in (0, 1) for key, shape in block.items()}
    random = torch.Generator().manual_seed(0)
    state = {
        key: torch.randn(shape, generator=random) * (0.5 if len(shape) == 1 else 0.06) for key, shape in shapes.items()
    }
    path = tmp_path_factory.mktemp("slm") / "slm_sam2.pt"
    torch.save({"model": state}, path)
    return path, state


def test_published_names_load_strictly(published):
    path, state = published
    loaded = load_model(path, image_size=64, device="cpu", precision="fp32")
    assert loaded.name == "sam2.1_hiera_tiny" and loaded.config.short_attention and loaded.missing == ()
    assert {key: tuple(value.shape) for key, value in loaded.state_dict().items()} == {
        key: tuple(value.shape) for key, value in state.items()
    }
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in state.items())


def test_a_forward_pass_is_the_formula(published):
    """The short attention's result is added to the long one's, and two ConvNeXt blocks fuse the sum."""
    path, state = published
    network = load_model(path, image_size=64, device="cpu", precision="fp32")
    random, (h, w) = torch.Generator().manual_seed(1), network.grid
    coarse = torch.randn(1, 256, h, w, generator=random)
    memory = torch.randn(2, 3, h * w, 64, generator=random)
    codes = torch.tensor([[6, 0, 1], [6, 1, 2]])
    features = ImageFeatures(coarse, coarse, coarse)
    with torch.inference_mode():
        found = network.with_memory(
            features, memory, codes, torch.zeros(2, 0, 256), torch.zeros(2, 0), None, (memory[:, 1:2], codes[:, 1:2])
        ).features
    x, place = coarse.flatten(2).mT, place_tokens(256, h, w, torch.float32)
    time, memory_place = state["maskmem_tpos_enc"].flatten(1), place_tokens(64, h, w, torch.float32)

    def attended(prefix: str, chosen: slice) -> torch.Tensor:
        values = memory[:, chosen].flatten(1, 2)
        position = (memory_place[None, None] + time[codes[:, chosen]][:, :, None]).flatten(1, 2)
        return reference_attention(state, prefix, x + 0.1 * place, values, values + position, (h, w))

    both = attended("memory_attention.", slice(None)) + attended("recent_memory_attention.", slice(1, 2))
    y = both.mT.unflatten(2, (h, w))
    for i in (0, 1):
        part = {
            key.split(f"fuser.layers.{i}.")[1]: v
            for key, v in state.items()
            if f"recent_memory_fuser.layers.{i}." in key
        }
        z = F.conv2d(y, part["dwconv.weight"], part["dwconv.bias"], padding=3, groups=256).permute(0, 2, 3, 1)
        z = F.layer_norm(z, (256,), part["norm.weight"], part["norm.bias"], eps=1e-6)
        z = (
            F.gelu(z @ part["pwconv1.weight"].T + part["pwconv1.bias"]) @ part["pwconv2.weight"].T
            + part["pwconv2.bias"]
        )
        y = y + (part["gamma"] * z).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, y, atol=2e-3, rtol=2e-3)
    assert (found - both.mT.unflatten(2, (h, w))).abs().max() > 0.1, "the blocks do something"


def reference_attention(state, prefix: str, x, values, keys, grid) -> torch.Tensor:
    """SAM2's memory attention as its paper has it: pre-norm, one head, rotary positions on queries and keys."""

    def linear(name: str, y):
        return y @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, y):
        return F.layer_norm(y, (256,), state[f"{name}.weight"], state[f"{name}.bias"])

    def turned(y):
        frequency = 10000.0 ** -(torch.arange(0, 256, 4) / 256)
        place = torch.arange(y.shape[1]) % (grid[0] * grid[1])
        angle = torch.cat(((place % grid[1])[:, None] * frequency, (place // grid[1])[:, None] * frequency), 1)
        pairs = torch.view_as_complex(y.unflatten(2, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(2)

    def attend(name: str, q, k, v):
        q, k, v = turned(linear(f"{name}.q_proj", q)), turned(linear(f"{name}.k_proj", k)), linear(f"{name}.v_proj", v)
        return linear(f"{name}.out_proj", (q @ k.mT / 16).softmax(-1) @ v)

    for i in range(4):
        layer = f"{prefix}layers.{i}."
        y = norm(f"{layer}norm1", x)
        x = x + attend(f"{layer}self_attn", y, y, y)
        x = x + attend(f"{layer}cross_attn_image", norm(f"{layer}norm2", x), keys, values)
        x = x + linear(f"{layer}linear2", linear(f"{layer}linear1", norm(f"{layer}norm3", x)).relu())
    return norm(f"{prefix}norm", x)


def test_another_checkpoint_is_refused(small):
    with pytest.raises(
        ConfigError, match="has no second memory attention: expected a checkpoint with recent_memory_attention"
    ):
        ShortLong(small)


def test_half_a_second_attention_is_no_checkpoint(model, tmp_path):
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("recent_memory_fuser.")}
    torch.save(state, tmp_path / "half.pt")
    with pytest.raises(ValueError, match="missing: recent_memory_fuser"):
        load_model(tmp_path / "half.pt", device="cpu")
