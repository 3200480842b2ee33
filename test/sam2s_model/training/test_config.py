"""Configurations: strict keys, types and limits, overrides, and the files of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sam2s_model.errors import ConfigError
from sam2s_model.training.config import Phase, TrainConfig, as_table, load_config, override

FOLDER = Path(__file__).resolve().parents[3] / "config" / "train"


def write(tmp_path: Path, table) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(table))
    return path


def test_defaults_survive_a_round_trip(tmp_path):
    assert load_config(write(tmp_path, as_table(TrainConfig()))) == TrainConfig()
    assert load_config(write(tmp_path, {})) == TrainConfig()


@pytest.mark.parametrize("folder", ["2024-05-01", "20240501", "case #7", "no", "a: b", "1e3", "[x]", "runs/p1"])
def test_the_folder_of_a_run_is_a_name_and_no_yaml(tmp_path, folder):
    path = write(tmp_path, {"output": "elsewhere"})
    assert load_config(path, output=Path(folder)).output == folder and load_config(path).output == "elsewhere"


@pytest.mark.parametrize("text", ["case #7", "a, b", "no", "[", "2024-05-01", "hook", "ü: x"])
def test_a_text_is_quoted_for_an_override_where_that_is_needed(tmp_path, text):
    path = write(tmp_path, {"data": {"sources": [{"kind": "scene"}]}})
    found = load_config(path, [override("init", text), override("data.classes", [text, "other"])])
    assert (found.init, found.data.classes) == (text, (text, "other"))
    assert override("init", "hook") == "init=hook"


@pytest.mark.parametrize(
    "table, message",
    [
        ({"learning_rate": 1}, "learning_rate is not known: expected one of model, init"),
        ({"optimizer": {"rate": 1}}, "optimizer.rate is not known: expected one of lr"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr is 'fast': expected a number"),
        ({"optimizer": {"lr": 2.0}}, "optimizer.lr is 2.0: expected at most 1.0"),
        ({"optimizer": 3}, "optimizer is 3: expected a table"),
        ({"seed": 1.5}, "seed is 1.5: expected a whole number"),
        ({"seed": True}, "seed is True: expected a whole number"),
        ({"long_term": 1}, "long_term is 1: expected true or false"),
        ({"freeze": "image_encoder"}, "freeze is 'image_encoder': expected a list"),
        ({"phases": []}, "phases is empty: expected at least one"),
        ({"phases": [{"steps": 0}]}, "phases.0.steps is 0: expected at least 1"),
        ({"data": {"sources": [{"kind": "video"}]}}, "'video': expected one of"),
        ({"precision": "fp16"}, "precision is 'fp16': expected one of 'auto', 'bf16', 'fp32'"),
        ({"prompts": {"mask": 0.0, "box": 0.0, "point": 0.0}}, "expected odds that are not all 0"),
        ({"loss": {"arl": float("nan")}}, "loss.arl is nan: expected at least 0"),
        ([1], "the configuration is"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, table, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(").replace("[", r"\[")):
        load_config(write(tmp_path, table))


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    (tmp_path / "a.yaml").write_text("optimizer: {lr: 1e-4}\n")
    assert load_config(tmp_path / "a.yaml").optimizer.lr == 1e-4


def test_overrides_reach_every_depth(tmp_path):
    path = write(tmp_path, {"phases": [{"steps": 5}], "data": {"sources": [{"kind": "scene"}]}})
    changes = ["seed=3", "optimizer.lr=1e-4", "phases.0.steps=7", "data.sources.0.scenes=2", "freeze=[image_half]"]
    config = load_config(path, changes)
    assert (config.seed, config.optimizer.lr, config.phases[0].steps) == (3, 1e-4, 7)
    assert config.data.sources[0].scenes == 2 and config.freeze == ("image_half",)


@pytest.mark.parametrize(
    "change, message",
    [
        ("seed", "'seed' sets nothing: expected KEY=VALUE"),
        ("phases.3.steps=1", "phases.3 is not there: phases has 1 members"),
        ("seeds=1", "seeds is not known"),
        ("seed=[", "is not YAML"),
    ],
)
def test_bad_overrides_are_refused(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, {"phases": [{"steps": 5}]}), [change])


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a readable YAML file"):
        load_config(tmp_path / "nothing.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="is not a readable YAML file"):
        load_config(tmp_path / "bad.yaml")


def test_phases_follow_each_other_and_change_the_data():
    config = TrainConfig(
        phases=(Phase(steps=3, size=64, length=1), Phase(steps=2, frames=16, image_share=0.5, sampling="tsms"))
    )
    assert config.steps == 5
    assert [config.data_at(step).size for step in range(6)] == [64, 64, 64, 512, 512, 512]
    assert config.data_at(0).length == 1 and config.data_at(4).length == 8
    assert (config.data_at(4).frames, config.data_at(4).image_share, config.data_at(4).sampling) == (16, 0.5, "tsms")
    assert config.data_at(0).image_share == config.data.image_share


def test_the_model_gets_the_additions_of_sam2s():
    config = TrainConfig(model="sam2s_pico")
    assert config.model_config().long_term_embedding and config.model_config().num_classes == len(config.data.classes)
    plain = TrainConfig(model="sam2s_pico", long_term=False, class_token=False).model_config()
    assert not plain.long_term_embedding and plain.num_classes == 0


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_the_repository_can_be_read(path):
    assert load_config(path).steps > 0
