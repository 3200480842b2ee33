"""Class prompts that are trained on a frozen model: they learn, find the class, and come back from their file."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import PICO
from sam2s_model.discovery.build import open_confirmed
from sam2s_model.discovery.learnt import LearntClasses, is_learnt, load_learnt, save_learnt
from sam2s_model.discovery.prototype_file import ModelIdentity
from sam2s_model.discovery.train import class_samples, nt_xent, train_class_prompts
from sam2s_model.errors import ErrorCode, PrototypeError, RequestError
from sam2s_model.network.class_prompts import ClassPrompts
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker

SCENE = "scene:?width=160&height=128&frames=8&seed={}"


@pytest.fixture(scope="module")
def pico():
    return load_model("sam2s_pico", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def trained(pico) -> tuple[LearntClasses, list[float]]:
    confirmed = [one for seed in (1, 2, 3) for one in open_confirmed(SCENE.format(seed))]
    samples, names = class_samples(pico, confirmed, frames=4, class_name="instrument")
    losses: list[float] = []
    before = {name: value.clone() for name, value in pico.state_dict().items()}
    made = train_class_prompts(
        pico, samples, names, steps=40, learning_rate=3e-3, on_step=lambda step, loss: losses.append(loss)
    )
    assert all(torch.equal(value, before[name]) for name, value in pico.state_dict().items()), "the model is frozen"
    return made, losses


def test_the_loss_falls_and_the_class_is_found(pico, trained):
    learnt, losses = trained
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
    tracker = Tracker(pico)
    tracker.discovery.learnt = learnt
    [scene] = open_confirmed(SCENE.format(11))
    frame = scene.recording.frame(0)
    tracker.step(1, frame.image)
    answer = tracker.prompt(0, [Prompt(class_name="instrument")])
    found, truth = answer.tracks.label_map > 0, frame.truth.labels % 255 > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.5
    with pytest.raises(RequestError, match="those of instrument") as told:
        tracker.prompt(0, [Prompt(class_name="object")])
    assert told.value.code == ErrorCode.NOT_FOUND


def test_they_come_back_from_their_file(pico, trained, tmp_path):
    learnt, _ = trained
    path = tmp_path / "learnt.safetensors"
    save_learnt(learnt, ModelIdentity.of(pico), path)
    back = load_learnt(path, pico)
    assert is_learnt(path) and back.names == learnt.names
    for name, value in learnt.prompts.state_dict().items():
        assert torch.equal(value, back.prompts.state_dict()[name])
    torch.manual_seed(5)
    other = Sam2Model(PICO, pico.image_size).eval().requires_grad_(False)
    with pytest.raises(PrototypeError, match="another model"):
        load_learnt(path, other)
    path.write_bytes(b"nothing")
    assert not is_learnt(path)
    with pytest.raises(PrototypeError, match="no file of class prompts"):
        load_learnt(path, pico)


@pytest.mark.parametrize(
    "shape, names, why",
    [
        (dict(classes=2, dim=PICO.dim, side=12), ["hook"], "of 2 classes have the names"),
        (dict(classes=1, dim=PICO.dim, side=64), ["hook"], "64 x 64 places of 96 features: expected 12 x 12"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(pico, shape, names, why):
    with pytest.raises(PrototypeError, match=why):
        LearntClasses(ClassPrompts(**shape), names, pico)


def test_nt_xent_is_the_cross_entropy_of_cosines():
    prototypes = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    cosines = [[1.0, 0.0], [math.sqrt(0.5), math.sqrt(0.5)]]
    expected = [
        math.log(sum(math.exp(c / 0.07) for c in row)) - row[k] / 0.07 for row, k in zip(cosines, (0, 1), strict=True)
    ]
    told = nt_xent(prototypes, features, torch.tensor([0, 1]))
    assert float(told) == pytest.approx(sum(expected) / 2, abs=1e-5)


def test_a_loss_that_is_no_number_is_said(pico):
    samples, names = class_samples(pico, open_confirmed(SCENE.format(1)), frames=1, class_name="instrument")
    with pytest.raises(PrototypeError, match="the loss is nan at step [12]"):
        train_class_prompts(pico, samples, names, steps=4, learning_rate=1e30)
