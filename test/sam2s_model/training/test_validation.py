"""What a run is told of itself: before, the best, the end, and the comparison afterwards."""

from __future__ import annotations

import dataclasses
import json

import pytest
from safetensors import safe_open

from sam2s_model.errors import ConfigError
from sam2s_model.training import validation
from sam2s_model.training.config import EvaluationConfig, LossConfig, OptimizerConfig, Phase, PromptConfig, TrainConfig
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.evaluate import Score
from sam2s_model.training.log import Log, TrainingProgress, plot_log, smoothed
from sam2s_model.training.loop import run_training
from sam2s_model.training.summary import closing_lines, compare_run
from sam2s_ros.commands.cli import main

SCENE = SourceConfig("scene", height=64, scenes=1, frames=6)
CONFIG = TrainConfig(
    model="auto",
    init="sam2s_pico",
    device="cpu",
    save_every=100,
    log_every=2,
    phases=(Phase(steps=4),),
    data=DataConfig(sources=(SCENE,), size=64, length=2, frames=2, scene_pool=1),
    optimizer=OptimizerConfig(lr=1e-3, warmup=0, ema=0.0),
    loss=LossConfig(stride=2),
    prompts=PromptConfig(clicks=0),
    evaluation=EvaluationConfig(sources=(SCENE,), every=1, frames=4, before=True, best=True),
)


def scored(monkeypatch, *figures: float | None):
    """Have evaluations find these, one after the other."""
    left = list(figures)

    def score(*_, **__) -> list[Score]:
        found = left.pop(0)
        return [Score("clip", 2 if found else 0, 1, *([found or float("nan")] * 2))]

    monkeypatch.setattr(validation, "score_recordings", score)


def steps_of(path) -> str:
    with safe_open(path, "pt") as file:
        return file.metadata()["steps"]


def test_the_best_weights_are_kept_whatever_stops_the_run(tmp_path, monkeypatch, capsys):
    config = dataclasses.replace(CONFIG, output=str(tmp_path))
    scored(monkeypatch, 0.5, None, 0.7, 0.6, 0.65)
    assert run_training(config, lambda step: step >= 2, quiet=True).checkpoint == tmp_path / "best.safetensors"
    outcome = run_training(config, quiet=True)
    assert outcome.steps == 4 and outcome.checkpoint == tmp_path / "best.safetensors"
    assert steps_of(outcome.checkpoint) == "2" and steps_of(tmp_path / "model.safetensors") == "4"
    told = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["jf"] for line in told if "scores" in line] == [50.0, None, 70.0, 60.0, 65.0]
    text = "\n".join(closing_lines(config))
    assert "| clip | 2 | 50.0 (J 50.0, F 50.0) | 70.0 (J 70.0, F 70.0) | 65.0 (J 65.0, F 65.0) |" in text
    assert f"J&F 50.0 before, 70.0 after 2 steps: {tmp_path}/best.safetensors has these" in text
    assert f"sam2s track VIDEO --checkpoint {tmp_path}/best.safetensors --image-size 64" in text
    assert f"sam2s train compare {tmp_path}" in text


def test_the_best_with_other_options_is_kept_under_another_name(tmp_path, monkeypatch, capsys):
    config = dataclasses.replace(CONFIG, output=str(tmp_path))
    scored(monkeypatch, 0.5, 0.9, 0.6, 0.65, 0.5)
    run_training(config, lambda step: step >= 1, quiet=True)
    other = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, policy="none"))
    assert run_training(other).checkpoint == tmp_path / "best.safetensors"
    assert steps_of(tmp_path / "best.safetensors") == "3" and steps_of(tmp_path / "best_1.safetensors") == "1"
    said = "the weights after 1 steps, the best with other options of the evaluation, are in best_1.safetensors now"
    assert said in capsys.readouterr().out and not (tmp_path / "best_2.safetensors").exists()


def test_a_run_that_has_made_nothing_better_says_so(tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, output=str(tmp_path), phases=(Phase(steps=1),))
    (tmp_path / "best.safetensors").write_bytes(b"of another run")
    scored(monkeypatch, 0.5, 0.4)
    assert run_training(config, quiet=True).checkpoint == tmp_path / "model.safetensors"
    text = "\n".join(closing_lines(config))
    assert "no step was better than before (J&F 50.0)" in text and "--checkpoint sam2s_pico --image-size 64" in text
    assert not (tmp_path / "best.safetensors").exists()


def test_a_run_in_which_nothing_was_scored_says_why(tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, output=str(tmp_path), phases=(Phase(steps=1),))
    scored(monkeypatch, None, None)
    run_training(config, quiet=True)
    (said,) = closing_lines(config)
    assert "nothing was scored in 2 evaluations" in said and "the first 4 frames (evaluation.frames)" in said


def test_what_was_learnt_is_compared_with_before(tmp_path, capsys):
    tmp_path /= "case #7"  # which YAML would read as "case"
    config = dataclasses.replace(CONFIG, output=str(tmp_path), phases=(Phase(steps=1),))
    run_training(config, quiet=True)
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    jf = [line["jf"] for line in logged if "scores" in line]
    columns = compare_run(tmp_path, policies=[], frames=4, device="cpu")
    assert list(columns) == ["before, fifo", "after, fifo"]
    assert 100 * columns["before, fifo"][0].jf == pytest.approx(jf[0], abs=0.01)
    assert 100 * columns["after, fifo"][0].jf == pytest.approx(jf[-1] if jf[-1] > jf[0] else jf[-1], abs=0.5)  # fp16
    written = tmp_path / "figures.json"
    command = ["train", "compare", str(tmp_path), "--frames", "3", "--policy", "none", "--device", "cpu"]
    assert main([*command, "--out", str(written)]) == 0
    assert "| recording | frames | before, none | after, none |" in capsys.readouterr().out
    assert list(json.loads(written.read_text())["runs"]) == ["before, none", "after, none"]
    with pytest.raises(ConfigError, match="has no run: expected a folder that `sam2s train` has written"):
        compare_run(tmp_path / "nothing", policies=[])


def test_curves_are_smoothed_without_a_delay():
    values = [float(i) for i in range(100)]
    assert smoothed(values) == pytest.approx(values)
    rough = [value + (-1) ** i for i, value in enumerate(values)]
    assert max(abs(a - b) for a, b in zip(smoothed(rough)[2:-2], values[2:-2], strict=True)) < 0.5
    assert smoothed([1.0, 5.0]) == [1.0, 5.0] and smoothed([]) == []


def test_a_plot_is_drawn_of_what_there_is(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    log.write({"step": 0, "jf": 50.0})
    for step in range(1, 50):
        log.write({"step": step, "loss": 1.0 / step, "iou_seen": None if step < 3 else 0.5})
    assert plot_log(log, tmp_path / "plot.png") == "" and (tmp_path / "plot.png").stat().st_size > 5000


def test_lines_say_the_time_that_is_left(capsys):
    with TrainingProgress(steps=100, first=40) as shown:
        shown._began -= 30.0
        shown.step(50)  # 10 steps in 30 s
        shown.line({"step": 50, "loss": 1.0, "seconds": 90.0})
    assert "step 50: loss 1, 90 s, 0:02:30 left" in capsys.readouterr().out
