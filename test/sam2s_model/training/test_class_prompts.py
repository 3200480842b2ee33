"""Class prompts that `sam2s train` makes: they learn, go on where they stopped, and serve a tracker."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.discovery.build import Confirmation, spread
from sam2s_model.discovery.learnt import load_learnt
from sam2s_model.discovery.train import class_samples
from sam2s_model.errors import ConfigError, PrototypeError
from sam2s_model.training.adapter_config import AdapterConfig
from sam2s_model.training.class_prompt_config import ClassPromptConfig
from sam2s_model.training.class_prompts import confirmed
from sam2s_model.training.config import OptimizerConfig, Phase, TrainConfig
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.holdout import with_own_data
from sam2s_model.training.loop import run_training
from sam2s_model.training.state import save_recipe
from sam2s_model.training.summary import compare_run

SCENE = SourceConfig("scene", first_seed=1, scenes=2, frames=8, height=64, class_name="instrument")


def config(folder: Path, **changes) -> TrainConfig:
    told = dict(
        model="auto", init="sam2s_pico", output=str(folder), device="cpu", log_every=2, save_every=3,
        phases=(Phase(steps=12),), data=DataConfig(sources=(SCENE,), size=64),
        class_prompts=ClassPromptConfig(tokens=2, frames=2, batch=2),
        optimizer=OptimizerConfig(lr=3e-3, warmup=1, weight_decay=1e-4, clip=1.0),
    )  # fmt: skip
    return TrainConfig(**{**told, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    outcome = run_training(config(folder), quiet=True)
    assert outcome.steps == 12 and outcome.checkpoint == folder / "class_prompts.safetensors"
    return folder


def lines(folder: Path) -> list[dict]:
    found = [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in found]


def test_they_learn_and_come_back(whole):
    log = lines(whole)
    assert [line["step"] for line in log] == [2, 4, 6, 8, 10, 12]
    assert all(line["loss"] == pytest.approx(line["dice"] + line["contrast"], abs=1e-5) for line in log)
    assert log[-1]["loss"] < log[0]["loss"] and log[-1]["lr"] < log[0]["lr"]
    model = load_model("sam2s_pico", image_size=64, device="cpu")
    assert load_learnt(whole / "class_prompts.safetensors", model).names == ("instrument",)


def test_a_run_that_was_stopped_goes_on_to_the_same_result(whole, tmp_path):
    assert run_training(config(tmp_path), lambda step: step >= 5, quiet=True).steps == 5
    assert run_training(config(tmp_path), quiet=True).steps == 12
    assert lines(tmp_path) == lines(whole)
    model = load_model("sam2s_pico", image_size=64, device="cpu")
    found = [load_learnt(folder / "class_prompts.safetensors", model).prompts for folder in (whole, tmp_path)]
    for name, value in found[0].state_dict().items():
        assert torch.equal(value, found[1].state_dict()[name]), name


def test_classes_are_those_that_the_recordings_say(tmp_path):
    source = dataclasses.replace(SCENE, class_name="")
    short = (Phase(steps=1),)
    run_training(config(tmp_path, phases=short, data=DataConfig(sources=(source,), size=64)), quiet=True)
    model = load_model("sam2s_pico", image_size=64, device="cpu")
    assert len(load_learnt(tmp_path / "class_prompts.safetensors", model).names) > 1
    with pytest.raises(ConfigError, match="holds a run with data.sources.0.class_name"):
        run_training(config(tmp_path, phases=short), quiet=True)


def test_values_of_masks_are_classes_where_the_source_names_them(tmp_path):
    for part in ("frames", "masks"):
        (tmp_path / "clips" / "a" / part).mkdir(parents=True)
    labels = np.zeros((64, 64), np.uint8)
    labels[8:30, 8:30], labels[36:60, 30:60] = 1, 2
    cv2.imwrite(str(tmp_path / "clips" / "a" / "frames" / "0.png"), np.dstack([labels * 90] * 3))
    cv2.imwrite(str(tmp_path / "clips" / "a" / "masks" / "0.png"), labels)
    table = (
        "name: mine\nclasses:\n- {id: 1, name: hook, color: [1, 2, 3]}\n- {id: 2, name: scissors, color: [4, 5, 6]}\n"
    )
    (tmp_path / "mine.yaml").write_text(table)
    source = SourceConfig("folder", str(tmp_path / "clips"), label_set=str(tmp_path / "mine.yaml"))
    (one,) = confirmed(config(tmp_path, data=DataConfig(sources=(source,), size=64)))
    assert one.recording.classes == {1: "hook", 2: "scissors"}


def clip(folder: Path, frames: int = 8) -> Path:
    """Frames with one object each, masks of it with the value 1, and its box."""
    for part in ("frames", "masks", "boxes"):
        (folder / part).mkdir(parents=True)
    labels = np.zeros((64, 64), np.uint8)
    labels[16:48, 16:48] = 1
    for i in range(frames):
        cv2.imwrite(str(folder / "frames" / f"{i}.png"), np.dstack([labels * 200 + 30 + i] * 3))
        cv2.imwrite(str(folder / "masks" / f"{i}.png"), labels)
        (folder / "boxes" / f"{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    return folder


def confirmed_by(folder: Path, *sources: SourceConfig) -> list[Confirmation]:
    return [*confirmed(config(folder, data=DataConfig(sources=sources, size=64)))]


def test_frames_that_are_not_taken_are_not_learnt_from(tmp_path):
    clip(tmp_path / "one")
    (one,) = confirmed_by(tmp_path, SourceConfig("folder", str(tmp_path), class_name="hook", end=5))
    assert {frame.index for frame in spread(one, 12)} == {0, 1, 2, 3, 4}


def test_of_ones_own_data_nothing_is_held_out_that_would_not_be_scored(tmp_path):
    clip(tmp_path / "one")
    source = SourceConfig("folder", str(tmp_path), class_name="hook")
    asked = config(tmp_path / "run", data=DataConfig(sources=(source,), size=64))
    learnt, said = with_own_data(asked, tmp_path / "one")
    assert "nothing is held out, a run of class prompts has no J&F" in said and learnt.evaluation == asked.evaluation
    (one,) = confirmed(learnt)
    assert {frame.index for frame in spread(one, 12)} == set(range(8))


def test_what_has_no_j_and_f_is_not_compared(tmp_path):
    save_recipe(tmp_path, config(tmp_path))
    with pytest.raises(ConfigError, match="has made class prompts, which have no J&F"):
        compare_run(tmp_path, policies=[])


def test_stills_are_recordings_of_one_frame(tmp_path):
    clip(tmp_path / "one", frames=3)
    found = confirmed_by(tmp_path, SourceConfig("folder", str(tmp_path), stills=True, class_name="hook"))
    assert [[frame.index for frame in spread(one, 12)] for one in found] == [[0], [1], [2]]


def test_boxes_have_the_classes_of_their_label_set_and_some_are_held_out(tmp_path):
    for name in ("a", "b"):
        clip(tmp_path / "clips" / name, frames=2)
    (tmp_path / "mine.yaml").write_text("name: mine\nclasses:\n- {id: 1, name: hook, color: [1, 2, 3]}\n")
    source = SourceConfig(
        "boxes", str(tmp_path / "clips"), without=("a",), label_set=str(tmp_path / "mine.yaml"), class_name="scissors"
    )
    (one,) = confirmed_by(tmp_path, source)
    assert one.recording.name == "b" and set(one.boxes) == {"0", "1"}
    model = load_model("sam2s_pico", image_size=128, device="cpu")
    _, names = class_samples(model, [one], frames=2)
    assert names == ("hook",), "where the label set says more, class_name says nothing"
    with pytest.raises(ConfigError, match="no_such_file"):
        confirmed_by(tmp_path, dataclasses.replace(source, label_set=str(tmp_path / "no_such_file.yaml")))


@pytest.mark.parametrize("changes, why", [
    (dict(init="", model="sam2s_pico"), "expected an init"),
    (dict(freeze=("image_half",)), "no freeze"),
    (dict(adapter=AdapterConfig(kind="lora")), "no adapter"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(changes, why, tmp_path):
    with pytest.raises(ConfigError, match=why):
        config(tmp_path, **changes)


@pytest.mark.parametrize("source, why", [
    (dataclasses.replace(SCENE, scenes=0), "scenes is 0, ever new ones"),
    (SourceConfig("store", path="nowhere"), "kind is 'store', which has no recordings with classes"),
])  # fmt: skip
def test_sources_that_cannot_be_kept_are_refused(source, why, tmp_path):
    with pytest.raises(ConfigError, match=why):
        run_training(config(tmp_path, data=DataConfig(sources=(source,), size=64)), quiet=True)


def test_a_rate_that_is_too_high_is_said(tmp_path):
    wild = OptimizerConfig(lr=1.0, warmup=0, weight_decay=0.0, clip=1e30)
    with pytest.raises(PrototypeError, match="try a lower learning rate"):
        run_training(config(tmp_path, optimizer=wild, phases=(Phase(steps=400, lr=1000.0),)), quiet=True)
