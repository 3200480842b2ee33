"""What a run from an image half calls "before", and an adapter over one: the file as it is used, no random memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sam2s_model.checkpoint import load_model
from sam2s_model.config import PICO
from sam2s_model.network.model import MEMORY_PARTS, Sam2Model
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.training import loop, validation
from sam2s_model.training.adapter_config import AdapterConfig
from sam2s_model.training.config import EvaluationConfig, OptimizerConfig, Phase, PromptConfig, TrainConfig
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.distributed import World
from sam2s_model.training.evaluate import Score
from sam2s_model.training.loop import Trainer
from sam2s_model.training.start import model_before, start_model

SCENE = SourceConfig("scene", height=64, scenes=1, frames=6)


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> Path:
    """An image half: of random weights, which are enough to see what is used."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("half") / "half.safetensors"
    save_file({k: v for k, v in Sam2Model(PICO).state_dict().items() if not k.startswith(MEMORY_PARTS)}, path)
    return path


def config(half: Path, folder: Path, **changes) -> TrainConfig:
    told = dict(
        model="auto", init=str(half), device="cpu", precision="fp32", output=str(folder), phases=(Phase(steps=1),),
        data=DataConfig(sources=(SCENE,), size=64, length=1, frames=1, scene_pool=1, image_share=1.0),
        optimizer=OptimizerConfig(lr=1e-3, warmup=0, ema=0.0), prompts=PromptConfig(clicks=0),
        evaluation=EvaluationConfig(sources=(SCENE,), frames=4, before=True),
    )  # fmt: skip
    return TrainConfig(**{**told, **changes})


def evaluated(monkeypatch, config: TrainConfig) -> list[tuple[bool, str]]:
    """Return what is evaluated before the first step, and afterwards: whether it has a memory, and its policy."""
    seen: list[Sam2Model] = []

    def score(model: Sam2Model, *_, **__) -> list[Score]:
        seen.append(model)
        return [Score("clip", 2, 1, 0.5, 0.5)]

    monkeypatch.setattr(validation, "score_recordings", score)
    monkeypatch.setattr(loop, "plot_log", lambda *_: "")  # takes longer than all else here
    trainer = Trainer(config, World(), True)
    trainer.run(lambda step: True)
    return [(model.has_memory, Tracker(model).policy_name) for model in (*seen, trainer.averaged_model())]


def test_what_an_image_half_lacks_is_not_used_before_it_is_trained(half, tmp_path, monkeypatch):
    used = Tracker(load_model(half, image_size=64, device="cpu")).policy_name
    assert evaluated(monkeypatch, config(half, tmp_path)) == [(False, used), (True, "fifo")]


def test_an_adapter_over_an_image_half_is_evaluated_as_it_is_used(half, tmp_path, monkeypatch):
    asked = config(half, tmp_path, adapter=AdapterConfig("dilated", blocks=1))
    model = load_model(half, image_size=64, device="cpu")
    assert start_model(asked, lambda text: None).missing == model.missing
    assert evaluated(monkeypatch, asked) == [(False, Tracker(model).policy_name)] * 2


def test_without_a_file_before_is_what_the_seed_says(half, tmp_path):
    asked = dataclasses.replace(config(half, tmp_path), model="sam2s_pico", init="")
    model = model_before(asked, 96, "cpu")
    assert model.image_size == 96 and not model.training
    state = start_model(asked).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
