"""The prototype bank: it is bounded, it tells classes and background apart, and serves one model."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from sam2s_model.config import TrackerConfig
from sam2s_model.discovery.build import build_bank, open_confirmed
from sam2s_model.discovery.describe import describe_prototypes
from sam2s_model.discovery.features import background_features, masked_features, place_features
from sam2s_model.discovery.prototype_file import ModelIdentity, load_prototypes, read_prototypes, save_prototypes
from sam2s_model.discovery.prototypes import BACKGROUND, MOST_FRAMES, PrototypeBank
from sam2s_model.discovery.score import score_prototypes
from sam2s_model.errors import PrototypeError, SourceError
from sam2s_model.network.model import Sam2Model


def axis(*numbers: int, dim: int = 8) -> torch.Tensor:
    return torch.eye(dim)[list(numbers)]


def bank_of_two() -> PrototypeBank:
    bank = PrototypeBank(8)
    bank.add("hook", axis(0))
    bank.add("scissors", axis(1))
    bank.add(BACKGROUND, axis(2, 3))
    return bank


def test_a_region_is_of_the_class_of_its_nearest_prototype():
    asked = F.normalize(axis(0) + 0.2 * axis(2) + torch.zeros(1, 8), dim=1)
    told = bank_of_two().compare(torch.cat((asked, axis(1))))
    assert told.names == ("hook", "scissors")
    cosine = 1 / math.hypot(1, 0.2)
    assert told.scores.tolist() == pytest.approx([cosine, 1.0])
    assert told.margins.tolist() == pytest.approx([0.8 * cosine, 1.0])
    assert told.leads.tolist() == pytest.approx([cosine, 1.0])


def test_what_is_more_like_the_background_has_a_margin_below_zero():
    told = bank_of_two().compare(F.normalize(axis(0) + 2 * axis(3), dim=1))
    assert told.names == ("hook",) and told.margins[0] < 0


def test_margins_are_shares_of_the_way_from_background_to_class():
    """Features that are all much alike, as some encoders make them, give the same margins as features that are not."""
    common = 3 * axis(7)
    bank = PrototypeBank(8)
    bank.add("hook", axis(0) + common)
    bank.add(BACKGROUND, axis(2) + common)
    told = bank.compare(F.normalize(torch.cat((axis(0), axis(0) + axis(2), axis(2))) + common, dim=1))
    assert told.margins[0] == pytest.approx(1.0) and told.margins[2] == pytest.approx(-1.0, abs=1e-5)
    assert abs(told.margins[1]) < 0.01 and told.scores[2] > 0.89


def test_an_empty_bank_names_nothing():
    told = PrototypeBank(8).compare(axis(0, 1))
    assert told.names == ("", "") and told.scores.isnan().all() and told.margins.isnan().all()


def test_without_background_the_margin_is_the_score():
    bank = PrototypeBank(8)
    bank.add("hook", axis(0))
    told = bank.compare(axis(0, 1))
    assert told.margins.tolist() == told.scores.tolist() == told.leads.tolist() == [1.0, 0.0]


def test_a_full_class_makes_one_of_its_two_nearest():
    bank = PrototypeBank(8, per_class=2)
    near = F.normalize(axis(0) + 0.1 * axis(1), dim=1)
    bank.add("hook", torch.cat((axis(0), axis(4), near)))
    vectors, weights = bank.prototypes("hook")
    assert weights.tolist() == [1.0, 2.0]
    assert torch.equal(vectors[0], axis(4)[0])
    assert torch.allclose(vectors[1:], F.normalize(axis(0) + near, dim=1))


def test_a_bank_is_bounded_whatever_it_is_given():
    bank = PrototypeBank(16, per_class=4, of_background=8)
    torch.manual_seed(0)
    for _ in range(30):
        bank.add("hook", torch.randn(10, 16))
        bank.add(BACKGROUND, torch.randn(10, 16))
    assert len(bank) == 12 and bank.memory_bytes == 12 * 17 * 4
    vectors, weights = bank.prototypes("hook")
    assert torch.allclose(vectors.norm(dim=1), torch.ones(4), atol=1e-5) and weights.max() <= MOST_FRAMES


def test_what_says_nothing_is_not_taken_in():
    bank = PrototypeBank(8)
    bank.add("hook", torch.zeros(3, 8))
    assert bank.class_names == () and len(bank) == 0


@pytest.mark.parametrize(
    "features, why", [(torch.zeros(2, 7), r"\(2, 7\): expected \(N, 8\)"), (torch.full((1, 8), math.nan), "not finite")]
)
def test_features_that_do_not_fit_are_refused(features, why):
    with pytest.raises(PrototypeError, match=why):
        PrototypeBank(8).add("hook", features)


def test_the_most_classes_are_those_that_labels_can_tell():
    bank = PrototypeBank(2)
    for i in range(254):
        bank.add(f"class {i}", torch.ones(1, 2))
    with pytest.raises(PrototypeError, match="number 255: expected at most 254"):
        bank.add("one more", torch.ones(1, 2))


def test_masked_features_are_the_mean_of_the_places_inside():
    coarse = torch.zeros(1, 4, 2, 2)
    coarse[0, 0, 0, 0], coarse[0, 1, 0, 1], coarse[0, 2, 1] = 5.0, 0.5, 1.0
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :2, :2] = masks[1, :2] = True
    told = masked_features(coarse, masks)
    half = 0.5**0.5
    assert torch.allclose(told, torch.tensor([[1.0, 0, 0, 0], [half, half, 0, 0], [0, 0, 0, 0]]))
    assert torch.equal(place_features(coarse)[3], torch.tensor([0.0, 0, 1, 0]))


def test_background_is_told_tile_by_tile_and_without_objects():
    coarse = torch.zeros(1, 4, 8, 8)
    coarse[:, 0], coarse[:, 1, :, 4:] = 1.0, 1.0
    coarse[:, 2, 0, 0] = 100.0  # of an object
    objects = torch.zeros(16, 16, dtype=torch.bool)
    objects[:2, :2] = True
    told = background_features(coarse, objects)
    assert len(told) == 16 and (told[:, 2] == 0).all()
    assert {tuple(round(v, 3) for v in row) for row in told.tolist()} == {(1.0, 0, 0, 0), (0.707, 0.707, 0, 0)}
    assert len(background_features(coarse, torch.ones(16, 16, dtype=torch.bool))) == 0


def test_a_bank_comes_back_from_its_file(model, tmp_path):
    bank, path = PrototypeBank(model.config.dim, per_class=3), tmp_path / "bank.safetensors"
    torch.manual_seed(0)
    bank.add("hook, bent", torch.randn(5, model.config.dim))
    bank.add(BACKGROUND, torch.randn(2, model.config.dim))
    save_prototypes(bank, ModelIdentity.of(model), path)
    back = load_prototypes(path, model)
    assert back.names == bank.names and back.per_class == 3 and back.class_names == ("hook, bent",)
    for name in bank.names:
        for one, other in zip(back.prototypes(name), bank.prototypes(name), strict=True):
            assert torch.allclose(one, other, atol=1e-6)
    assert not list(tmp_path.glob("*.part"))


def test_prototypes_of_another_model_are_refused(model, tmp_path):
    path = tmp_path / "bank.safetensors"
    save_prototypes(PrototypeBank(model.config.dim), ModelIdentity.of(model), path)
    torch.manual_seed(5)
    other = Sam2Model(model.config, image_size=128).eval().requires_grad_(False)
    with pytest.raises(PrototypeError, match="other weights: .* cosine of .* at least 0.98"):
        load_prototypes(path, other)
    other.set_image_size(192)
    with pytest.raises(PrototypeError, match="at 128 px instead of 192 px"):
        load_prototypes(path, other)


def test_another_precision_is_the_same_model(model):
    other = Sam2Model(model.config, image_size=128).eval().requires_grad_(False)
    other.load_state_dict(model.state_dict())
    assert ModelIdentity.of(other.to(torch.bfloat16)).difference(ModelIdentity.of(model)) == ""


@pytest.mark.parametrize("content", ["nothing", "other", "broken", "counts"])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "bank.safetensors"
    tensors = dict(vectors=torch.ones(2, 4), weights=torch.ones(2), probe=torch.ones(3))
    table = json.dumps(
        dict(
            model="m", image_size=64, per_class=4, of_background=4, classes=[["hook", 3 if content == "counts" else 2]]
        )
    )
    if content == "broken":
        path.write_bytes(b"no safetensors")
    elif content != "nothing":
        metadata = {"format": "pt"} if content == "other" else {"format": "sam2s prototypes 1", "table": table}
        save_file(tensors, path, metadata=metadata)
    with pytest.raises(PrototypeError, match=str(path)):
        read_prototypes(path)


SCENE = "scene:?width=160&height=128&frames=6&seed=1"


def test_a_bank_is_built_of_a_recording(model):
    built = build_bank(model, open_confirmed(SCENE), frames=3)
    assert built.frames == 3 and sum(built.regions.values()) >= 4
    assert set(built.bank.class_names) == set(built.regions) and BACKGROUND in built.bank.names
    one = build_bank(model, open_confirmed(SCENE), frames=3, class_name="instrument")
    assert one.bank.class_names == ("instrument",)


def test_a_bank_is_built_of_boxes(model, frames, tmp_path):
    import cv2

    for folder in ("frames", "boxes"):
        (tmp_path / "clip" / folder).mkdir(parents=True)
    for i, image in enumerate(frames[:3]):
        cv2.imwrite(str(tmp_path / "clip" / "frames" / f"{i:03d}.png"), np.ascontiguousarray(image[..., ::-1]))
        (tmp_path / "clip" / "boxes" / f"{i:03d}.txt").write_text("1 0.3 0.4 0.25 0.25\n")
    confirmed = open_confirmed(str(tmp_path))
    built = build_bank(model, confirmed, box_classes={2: "hook"})
    assert built.frames == 3 and built.bank.class_names == ("hook",)
    with pytest.raises(PrototypeError, match="object 2 is: give the class"):
        build_bank(model, confirmed)


def test_boxes_are_found_of_images_whose_names_are_no_utf_8(model, frames, tmp_path):
    import cv2

    for folder in ("frames", "boxes"):
        (tmp_path / "clip" / folder).mkdir(parents=True)
    name = os.fsdecode(b"bild_\xe4")
    cv2.imwrite(str(tmp_path / "own.png"), np.ascontiguousarray(frames[0][..., ::-1]))
    (tmp_path / "own.png").rename(tmp_path / "clip" / "frames" / f"{name}.png")
    (tmp_path / "clip" / "boxes" / f"{name}.txt").write_text("1 0.3 0.4 0.25 0.25\n")
    confirmed = open_confirmed(str(tmp_path))
    built = build_bank(model, confirmed, box_classes={2: "hook"})
    assert built.frames == 1 and built.regions.total() + built.skipped == 1
    told = score_prototypes(model, built.bank, confirmed, config=TrackerConfig(), box_classes={2: "hook"})
    assert told.frames == told.objects == 1


def test_a_recording_that_confirms_nothing_is_refused(tmp_path, frames):
    import cv2

    cv2.imwrite(str(tmp_path / "0.png"), frames[0])
    with pytest.raises(SourceError, match="has no masks"):
        open_confirmed(str(tmp_path))


def test_a_file_is_described(tmp_path):
    bank, path = bank_of_two(), tmp_path / "bank.safetensors"
    bank.add("hook", F.normalize(axis(0) + axis(1), dim=1))
    save_prototypes(bank, ModelIdentity("sam2s_pico", 64, torch.ones(1)), path)
    told = describe_prototypes(path)
    assert (told["model"], told["image_size"], told["dim"], told["prototypes"]) == ("sam2s_pico", 64, 8, 5)
    hook, scissors, background = told["classes"]
    assert (hook["name"], hook["prototypes"], hook["nearest_class"]) == ("hook", 2, "scissors")
    assert hook["nearest_cosine"] == pytest.approx(0.5**0.5) and hook["background_cosine"] == 0.0
    assert scissors["regions"] == 1 and background["name"] == "" and background["nearest_class"] == ""
