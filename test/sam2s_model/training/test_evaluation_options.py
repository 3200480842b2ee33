"""A run that is resumed with other options of its evaluation: figures with different ones are not one series."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.network.model import Sam2Model
from sam2s_model.training import validation
from sam2s_model.training.config import EvaluationConfig, Phase, TrainConfig
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.evaluate import Score
from sam2s_model.training.log import Log
from sam2s_model.training.summary import closing_lines
from sam2s_model.training.validation import Validation, used_policy

SCENE = SourceConfig("scene", height=64, scenes=1, frames=6)
OPTIONS = EvaluationConfig(sources=(SCENE,), every=1, frames=4, before=True, best=True, policy="fifo")


@cache
def model() -> Sam2Model:
    return load_model("sam2s_pico", image_size=64, device="cpu")


def run(folder: Path, monkeypatch, steps: dict[int, float], options: EvaluationConfig) -> list[bool]:
    """Evaluate after some steps, with these figures; return after which the weights were the best."""
    config = TrainConfig(init="sam2s_pico", output=str(folder), phases=(Phase(steps=3),), evaluation=options)
    found = Validation(config, Log(folder / "log.jsonl"))
    best = []
    for step, jf in steps.items():
        monkeypatch.setattr(validation, "score_recordings", lambda *_, jf=jf, **__: [Score("clip", 2, 1, jf, jf)])
        best.append(found.run(model(), step, 0.0, used_policy(options.policy, model()))[1])
    return best


@pytest.mark.parametrize(
    "changes", [dict(policy="none"), dict(prompt="box"), dict(frames=5), dict(recordings=2), dict(sources=(SCENE,) * 2)]
)
def test_other_options_begin_another_series(tmp_path, monkeypatch, changes):
    assert run(tmp_path, monkeypatch, {0: 0.8, 1: 0.9}, OPTIONS) == [True, True]
    options = dataclasses.replace(OPTIONS, **changes)
    assert run(tmp_path, monkeypatch, {2: 0.5, 3: 0.4}, options) == [True, False], "of the figures that compare"
    config = TrainConfig(output=str(tmp_path), evaluation=options)
    (said,) = closing_lines(config)
    assert "have changed on the way" in said and f"sam2s train compare {tmp_path}" in said


def test_what_no_figure_depends_on_may_change(tmp_path, monkeypatch):
    assert run(tmp_path, monkeypatch, {0: 0.8, 1: 0.9}, OPTIONS) == [True, True]
    options = dataclasses.replace(OPTIONS, every=2)
    assert run(tmp_path, monkeypatch, {3: 0.85}, options) == [False]
    config = TrainConfig(init="sam2s_pico", output=str(tmp_path), phases=(Phase(steps=3),), evaluation=options)
    assert "J&F 80.0 before, 90.0 after 1 steps" in "\n".join(closing_lines(config))


def test_a_log_that_says_nothing_of_its_options_is_of_the_present_ones(tmp_path, monkeypatch):
    """As one of an older version: what it calls the best is no worse for that."""
    log = Log(tmp_path / "log.jsonl")
    for step, jf in ((0, 80.0), (1, 90.0)):
        log.write({"step": step, "jf": jf, "scores": [{"name": "clip", "frames": 2, "objects": 1, "j": 0.9, "f": 0.9}]})
    assert run(tmp_path, monkeypatch, {2: 0.85, 3: 0.95}, OPTIONS) == [False, True]
    config = TrainConfig(init="sam2s_pico", output=str(tmp_path), phases=(Phase(steps=3),), evaluation=OPTIONS)
    assert "J&F 80.0 before, 95.0 after 3 steps" in "\n".join(closing_lines(config))
