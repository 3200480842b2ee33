"""How much of an object is meant: UnSAMv2's token as published, and the choice by area of models without it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam2s_model.checkpoint import load_model
from sam2s_model.config import PICO
from sam2s_model.errors import CheckpointError, RequestError
from sam2s_model.network.mask_decoder import Candidates
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.part_choice import choose_part
from sam2s_model.tracking.tracker import Tracker

ENCODER, DECODER = "sam_prompt_encoder", "sam_mask_decoder"
CLICK = dict(points=np.array([[60.0, 50.0]], np.float32), point_labels=np.array([1]))


@pytest.fixture(scope="module")
def published() -> tuple[dict, dict]:
    """A state dict as UnSAMv2 names it, of the smallest model, and the same with its LoRA in the weights."""
    torch.manual_seed(7)
    whole = Sam2Model(dataclasses.replace(PICO, granularity=True)).state_dict()
    saved, merged = dict(whole), dict(whole)
    for name in [n for n in whole if n.startswith(f"{DECODER}.transformer") and n.endswith("_proj.weight")]:
        place, weight = name.removesuffix(".weight"), whole[name]
        a, b = torch.randn(8, weight.shape[1]) * 0.05, torch.randn(len(weight), 8) * 0.05
        saved |= {f"{place}.original_layer.{part}": saved.pop(f"{place}.{part}") for part in ("weight", "bias")}
        saved |= {f"{place}.lora_A": a, f"{place}.lora_B": b}
        merged[name] = weight + 16 / 8 * b @ a
    return saved, merged


def test_published_names_load_strictly_and_a_pass_is_the_papers_formula(published, tmp_path):
    saved, merged = published
    assert {name for name in saved if "granularity" in name or "fourier" in name or "gra_" in name} == {
        f"{ENCODER}.granularity_embedding.weight", f"{DECODER}.gra_token.weight",
        *(f"{ENCODER}.fourier_embedder.mlp.mlp.{i}.{part}" for i in (0, 3, 6) for part in ("weight", "bias")),
        *(f"{DECODER}.gra_output_token_mlp.layers.{i}.{part}" for i in range(3) for part in ("weight", "bias")),
    }  # fmt: skip
    assert saved[f"{ENCODER}.fourier_embedder.mlp.mlp.0.weight"].shape == (192, 128)
    torch.save({"model": saved}, tmp_path / "u.pt")
    model = load_model(tmp_path / "u.pt", image_size=64, device="cpu", precision="fp32")
    assert model.config.granularity and model.has_memory

    def layers(x, name, numbers):
        for i in numbers:
            x = F.linear(x, merged[f"{name}.{i}.weight"], merged[f"{name}.{i}.bias"])
            x = x if i == numbers[-1] else x.relu()
        return x

    g = 0.3
    code = torch.tensor([f(g * 100 ** (i / 64)) for i in range(64) for f in (math.sin, math.cos)])
    said = (
        layers(code, f"{ENCODER}.fourier_embedder.mlp.mlp", (0, 3, 6))
        + merged[f"{ENCODER}.granularity_embedding.weight"]
    )
    with torch.inference_mode():
        features = model.encode_image(torch.randn(1, 3, 64, 64))
        seen = model.without_memory(features, 1)
        point, label = torch.tensor([[[20.0, 30.0]]]), torch.tensor([[1]])
        sparse = torch.cat((model.sam_prompt_encoder.points(point, label, 64), said[None]), dim=1)
        names = ("obj_score_token", "iou_token", "mask_tokens", "gra_token")
        own = torch.cat([merged[f"{DECODER}.{name}.weight"] for name in names])
        dense = model.sam_prompt_encoder.mask(None, 1, features.grid)
        position = model.sam_prompt_encoder.grid_position(*features.grid).flatten(2).mT
        decoder = model.sam_mask_decoder
        tokens, image = decoder.transformer((seen + dense).flatten(2).mT, position, torch.cat((own[None], sparse), 1))
        kernel = layers(tokens[:, 6], f"{DECODER}.gra_output_token_mlp.layers", (0, 1, 2))
        upscaled = decoder._upscale(image.mT.unflatten(2, features.grid), features.high_res)
        ious = layers(tokens[:, 1], f"{DECODER}.iou_prediction_head.layers", (0, 1, 2)).sigmoid()
        found = model.decode(
            seen, features, points=point, point_labels=label, multimask=False, granularity=torch.tensor([g])
        )
    torch.testing.assert_close(
        found.logits, torch.einsum("bc,bchw->bhw", kernel, upscaled)[:, None], atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(found.iou, ious[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.token, tokens[:, 6], atol=1e-4, rtol=1e-4)
    lost = {name: value for name, value in saved.items() if name != f"{DECODER}.gra_token.weight"}
    torch.save({"model": lost}, tmp_path / "lost.pt")
    with pytest.raises(CheckpointError, match="1 missing: sam_mask_decoder.gra_token.weight"):
        load_model(tmp_path / "lost.pt", device="cpu")


def candidates() -> Candidates:
    """A tip of 16 px, a jaw of 64 that the tip is not connected with in the third mask, an instrument of 256."""
    logits = torch.full((1, 4, 32, 32), -5.0)
    logits[0, 1, 4:8, 4:8] = 3.0
    logits[0, 2, 4:12, 4:12] = 3.0
    logits[0, 3, 4:20, 4:20] = 3.0
    logits[0, 3, 28:31, 28:31] = 3.0  # somewhere else
    return Candidates(logits, torch.tensor([[0.1, 0.7, 0.8, 0.9]]), torch.arange(8.0).view(1, 4, 2), torch.ones(1))


@pytest.mark.parametrize(
    "granularity, area, token", [(0.05, 16, 1), (0.1, 16, 1), (0.4, 64, 2), (1.0, 265, 3), (0.97, 256, 3)]
)
def test_without_the_token_the_size_decides_and_the_click_must_be_on_it(granularity, area, token):
    decoded = choose_part(candidates(), granularity, np.array([[5, 5]]))
    assert int((decoded.logits > 0).sum()) == area
    assert decoded.token.tolist() == [[2.0 * token, 2.0 * token + 1]]


def test_a_part_elsewhere_is_taken_only_by_a_click_on_it_or_without_any():
    decoded = choose_part(candidates(), 0.1, np.array([[29, 29]]))
    assert int((decoded.logits > 0).sum()) == 9 and bool(decoded.logits[0, 0, 29, 29] > 0)
    assert int((choose_part(candidates(), 0.1, np.zeros((0, 2), np.int64)).logits > 0).sum()) == 9
    empty = dataclasses.replace(candidates(), logits=torch.full((1, 4, 8, 8), -1.0))
    assert not (choose_part(empty, 0.5, np.zeros((0, 2), np.int64)).logits > 0).any()


def test_the_tracker_says_that_it_is_approximate_and_larger_numbers_give_larger_masks(model, frames):
    areas = []
    for granularity in (0.1, 0.5, 1.0):
        tracker = Tracker(model, "none")
        tracker.step(1, frames[0])
        result = tracker.prompt(0, [Prompt(**CLICK, granularity=granularity), Prompt(**CLICK)])
        assert result.approximate == result.object_ids[:1]
        areas.append(int((tracker.outputs.logits[0] > 0).sum()))
    assert areas == sorted(areas) and areas[0] < areas[-1]


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_what_is_no_granularity_is_refused(value):
    with pytest.raises(RequestError, match=r"granularity is .*: expected 0 \(not given\) to 1"):
        Prompt(**CLICK, granularity=value).validated(100, 100)


def test_a_mask_says_itself_what_is_meant():
    with pytest.raises(RequestError, match="granularity is 0.5 without points and box"):
        Prompt(mask=np.ones((4, 4), bool), granularity=0.5).validated(4, 4)
    assert Prompt(**CLICK, granularity=0.25).validated(100, 100).granularity == 0.25
