"""Discovery: a grid as one batch, what is sure left out of the finer one, no region twice, and names by prototypes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.device import as_tensor
from sam2s_model.discovery import regions as regions_module
from sam2s_model.discovery.build import build_bank, open_confirmed
from sam2s_model.discovery.class_head import class_scores
from sam2s_model.discovery.discover import discover
from sam2s_model.discovery.regions import Regions, distinct, grid_points, propose, propose_like
from sam2s_model.network.model import Sam2Model

ALL = TrackerConfig(discovery_min_iou=0.0, discovery_min_stability=0.0)
SCENE = "scene:?width=160&height=128&frames=8&seed={}"


@pytest.fixture(scope="module")
def features(model, frames):
    with torch.inference_mode():
        return model.encode_image(model.prepare_image(as_tensor(frames[0])))


def decoded(monkeypatch, model) -> list[int]:
    """The sizes of the batches that are decoded from now on."""
    batches: list[int] = []
    forward = model.sam_mask_decoder.candidates

    def counted(features, *others):
        batches.append(len(features))
        return forward(features, *others)

    monkeypatch.setattr(model.sam_mask_decoder, "candidates", counted)
    return batches


def test_the_coarse_grid_is_one_batch(model, features, monkeypatch):
    batches = decoded(monkeypatch, model)
    with torch.inference_mode():
        propose(model, features, ALL)
    assert batches == [64]


def test_the_finer_grid_is_decoded_where_nothing_is_sure(model, features, monkeypatch):
    batches = decoded(monkeypatch, model)
    config = replace(ALL, discovery_fine_grid=16)
    monkeypatch.setattr(regions_module, "SURE_LOGIT", 1e9)
    with torch.inference_mode():
        propose(model, features, config)
    assert sum(batches) == 64 + 256 and max(batches) == 64
    batches.clear()
    with torch.inference_mode():
        masks = propose(model, features, ALL).masks
        monkeypatch.setattr(regions_module, "SURE_LOGIT", 0.0)
        batches.clear()
        propose(model, features, config)
    x, y = (grid_points(16, 128).round().long() * 32 // 128).T
    assert sum(batches) == 64 + int((~masks.any(0)[y, x]).sum()) < 64 + 256


def test_grid_points_are_the_middles_of_cells():
    assert grid_points(2, 64).tolist() == [[15.5, 15.5], [47.5, 15.5], [15.5, 47.5], [47.5, 47.5]]


def test_what_is_not_good_is_left_out(model, features):
    with torch.inference_mode():
        everything = propose(model, features, ALL)
        least = float(everything.iou.median())
        good = propose(model, features, replace(ALL, discovery_min_iou=least))
    assert 0 < len(good) < len(everything) and (good.iou >= least).all()


def squares(*corners: tuple[int, int, int, int]) -> torch.Tensor:
    masks = torch.zeros(len(corners), 16, 16, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def test_of_two_that_overlap_the_worse_goes():
    masks = squares((0, 0, 8, 8), (0, 0, 8, 7), (8, 8, 16, 16), (0, 0, 2, 8))
    order = torch.tensor([0.6, 0.9, 0.5, 0.8])
    assert distinct(masks, order, 0.6) == [1, 3, 2]
    assert distinct(masks, order, 0.6, inside=0.7) == [1, 2]
    assert distinct(masks[:0], order[:0], 0.6) == []


def test_masks_of_a_map_are_those_of_its_parts(model, features):
    likeness = torch.zeros(8, 8)
    likeness[1:4, 1:4], likeness[6, 5:8] = 1.0, 0.9
    with torch.inference_mode():
        found = propose_like(model, features, likeness)
        assert len(found) == 2 and isinstance(found, Regions)
        assert len(propose_like(model, features, torch.zeros(8, 8))) == 0


@pytest.fixture(scope="module")
def pico() -> Sam2Model:
    """The smallest trained model: it makes masks of the procedural scene."""
    return load_model("sam2s_pico", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def bank(pico):
    confirmed = [one for seed in (1, 2, 3) for one in open_confirmed(SCENE.format(seed))]
    return build_bank(pico, confirmed, frames=4, class_name="instrument").bank


def test_instruments_are_found_and_named_by_prototypes(pico, bank):
    [scene] = open_confirmed(SCENE.format(11))
    frame = scene.recording.frame(2)
    found = discover(pico, frame.image, bank)
    named = [one for one in found if one.class_name == "instrument"]
    truth = frame.truth.masks
    assert truth and named
    for mask in truth.values():
        overlaps = [(one.mask & mask).sum() / (one.mask | mask).sum() for one in named]
        assert max(overlaps) > 0.5
    for one in found:
        x0, y0, x1, y1 = one.box
        assert one.mask.shape == frame.image.shape[:2] and one.mask[y0:y1, x0:x1].sum() == one.area > 0
        assert (one.margin >= 0.5) == bool(one.class_name)


def test_without_prototypes_or_class_head_nothing_is_named(model, frames):
    found = discover(model, frames[0], config=ALL)
    assert found and all(one.class_name == "" and np.isnan(one.class_score) for one in found)


def test_where_nothing_is_good_enough_nothing_is_proposed(pico, bank, frames):
    nothing = TrackerConfig(discovery_min_iou=1.0)
    assert discover(pico, frames[0], bank, nothing) == discover(pico, frames[0], None, nothing) == []


def test_the_class_head_names_what_it_is_sure_of(model, frames):
    torch.manual_seed(1)
    network = Sam2Model(replace(model.config, num_classes=3), image_size=128).eval().requires_grad_(False)
    network.load_state_dict(model.state_dict(), strict=False)
    assert discover(network, frames[0], config=ALL)[0].class_name == ""  # its rows have no names
    network.class_names = ("hook", "scissors", "suction")
    found = discover(network, frames[0], config=replace(ALL, min_class_score=0.0))
    assert found and {one.class_name for one in found} <= set(network.class_names)
    assert all(0 < one.class_score <= 1 and np.isnan(one.margin) for one in found)
    unsure = discover(network, frames[0], config=replace(ALL, min_class_score=1.0))
    assert {one.class_name for one in unsure if one.class_score < 1} <= {""}


def test_the_class_head_is_asked_in_batches(model, features):
    torch.manual_seed(1)
    network = Sam2Model(replace(model.config, num_classes=3), image_size=128).eval().requires_grad_(False)
    network.load_state_dict(model.state_dict(), strict=False)
    network.class_names = ("hook", "scissors", "suction")
    with torch.inference_mode():
        found = propose(network, features, ALL)
        found = found.taken(torch.arange(20))
        together = class_scores(network, features, found.logits, found.tokens)
        alone = class_scores(network, features, found.logits[17:18], found.tokens[17:18])
    assert together.shape == (20, 3) and torch.allclose(together.sum(1), torch.ones(20))
    assert torch.allclose(together[17:18], alone, atol=1e-4)
