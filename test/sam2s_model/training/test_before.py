"""What a run from an image half calls "before", and an adapter over one: the file as it is used, no random memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sam2s_model.checkpoint import load_model
from sam2s_model.checkpoint.reading import POLICY
from sam2s_model.config import PICO
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import MEMORY_PARTS, Sam2Model
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.training import loop, validation
from sam2s_model.training.adapter_config import AdapterConfig
from sam2s_model.training.config import EvaluationConfig, OptimizerConfig, Phase, PromptConfig, TrainConfig
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.distributed import World
from sam2s_model.training.evaluate import Score
from sam2s_model.training.log import Log
from sam2s_model.training.loop import Trainer
from sam2s_model.training.start import model_before, start_model
from sam2s_model.training.summary import closing_lines, compare_run

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


def evaluated(monkeypatch, config: TrainConfig, *figures: float, steps: int = 0) -> list[tuple[bool, str]]:
    """Run some steps; return of each evaluation whether the model has a memory, and the policy it is scored under.

    figures: that evaluations find, one after the other
    """
    seen: list[tuple[bool, str]] = []

    def score(model: Sam2Model, recordings, prompt: str, policy: str, **_) -> list[Score]:
        figure = figures[len(seen)] if figures else 0.5
        seen.append((model.has_memory, Tracker(model, policy).policy_name))
        return [Score("clip", 2, 1, figure, figure)]

    monkeypatch.setattr(validation, "score_recordings", score)
    monkeypatch.setattr(loop, "plot_log", lambda *_: "")  # takes longer than all else here
    trainer = Trainer(config, World(), True)
    trainer.run(lambda step: step >= steps)
    if not steps:
        seen.append((trainer.averaged_model().has_memory, Tracker(trainer.averaged_model()).policy_name))
    return seen


def test_what_an_image_half_lacks_is_not_used_before_it_is_trained(half, tmp_path, monkeypatch):
    used = Tracker(load_model(half, image_size=64, device="cpu")).policy_name
    assert evaluated(monkeypatch, config(half, tmp_path)) == [(False, used), (True, "fifo")]


def test_an_adapter_over_an_image_half_is_evaluated_as_it_is_used(half, tmp_path, monkeypatch):
    asked = config(half, tmp_path, adapter=AdapterConfig("dilated", blocks=1))
    model = load_model(half, image_size=64, device="cpu")
    assert start_model(asked, lambda text: None).missing == model.missing
    assert evaluated(monkeypatch, asked) == [(False, Tracker(model).policy_name)] * 2


def test_an_adapter_is_trained_under_the_policy_that_its_base_says(tmp_path):
    """As where a published checkpoint has one and was converted: the file is no longer known, and says it itself."""
    path = tmp_path / "converted.safetensors"
    save_file(Sam2Model(PICO).state_dict(), path, metadata={POLICY: "efp"})
    model = start_model(config(path, tmp_path, adapter=AdapterConfig("dilated", blocks=1)))
    assert model.config.policy == load_model(path, image_size=64, device="cpu").config.policy == "efp"
    assert PICO.policy != "efp" and start_model(config(path, tmp_path)).config.policy == PICO.policy


def test_figures_under_two_policies_are_no_series(half, tmp_path, monkeypatch):
    """What an image half cannot be scored under is said, and the best is one of what was learnt."""
    options = EvaluationConfig(sources=(SCENE,), frames=4, before=True, best=True)
    asked = config(half, tmp_path, evaluation=options)
    assert evaluated(monkeypatch, asked, 0.9, 0.5, steps=1) == [(False, "match"), (True, "fifo")]
    assert (tmp_path / "best.safetensors").is_file()
    text = "\n".join(closing_lines(asked))
    assert f"J&F 90.0 before with match, 50.0 after 1 steps with fifo: {tmp_path}/best.safetensors has these" in text
    assert "| before with match | after 1 steps with fifo |" in text and "no step was better" not in text
    told: list[str] = []
    assert list(compare_run(tmp_path, policies=[], frames=3, device="cpu", say=told.append)) == [
        "before, match", "after, fifo",
    ]  # fmt: skip
    assert told == ["before: scored with match, as it is used: it cannot run fifo, with which what is learnt is scored"]


def test_a_policy_that_the_start_cannot_run_does_not_end_the_run(half, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "plot_log", lambda *_: "")
    options = EvaluationConfig(sources=(SCENE,), frames=4, before=True, policy="fifo")
    trainer = Trainer(config(half, tmp_path, evaluation=options), World(), True)
    assert trainer.run(lambda step: True).scores, "scored as it is used"
    (line,) = Log(tmp_path / "log.jsonl").lines()
    assert (line["of"]["policy"], line["of"]["scored_under"], line["of"]["size"]) == ("fifo", "match", 64)


def test_before_is_scored_under_the_policy_of_after_where_it_can_be(tmp_path, monkeypatch):
    """As where a published checkpoint has a policy of its own, which its copy in a run has not."""
    model, seen = load_model("sam2s_pico", image_size=64, device="cpu"), []
    model.config = dataclasses.replace(model.config, policy="efp")
    monkeypatch.setattr(
        validation, "score_recordings", lambda *given, **_: seen.append(given[3]) or [Score("clip", 2, 1, 0.5, 0.5)]
    )
    told = validation.Validation(config(Path("half"), tmp_path), Log(tmp_path / "log.jsonl"))
    assert "cannot run" not in told.run(model, 0, 0.0, "fifo")[0] and seen == ["fifo"]
    assert "scored with efp, as it is used: it cannot run slm" in told.run(model, 0, 0.0, "slm")[0]


def test_a_policy_that_what_is_learnt_cannot_run_is_refused_before_the_first_step(half, tmp_path):
    options = EvaluationConfig(sources=(SCENE,), policy="slm")
    with pytest.raises(ConfigError, match="policy is 'slm', but sam2s_pico has no second memory attention"):
        Trainer(config(half, tmp_path, evaluation=options), World(), True)


def test_without_a_file_before_is_what_the_seed_says(half, tmp_path):
    asked = dataclasses.replace(config(half, tmp_path), model="sam2s_pico", init="")
    model = model_before(asked, 96, "cpu")
    assert model.image_size == 96 and not model.training
    state = start_model(asked).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
