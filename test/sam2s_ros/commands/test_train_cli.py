"""`sam2s train`: a run from the command line, and one sentence for what is wrong."""

from __future__ import annotations

import json

import yaml

from sam2s_ros.commands.cli import main

SMALL = """
model: sam2s_pico
device: cpu
log_every: 1
phases: [{steps: 2}]
data: {size: 64, length: 2, frames: 2, scene_pool: 1, sources: [{kind: scene, height: 64, frames: 6, scenes: 1}]}
prompts: {clicks: 0}
"""


def test_a_run(tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(SMALL)
    command = ["train", str(tmp_path / "small.yaml"), "--output", str(tmp_path / "run"), "--set", "seed=3"]
    assert main(command) == 0
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()] == [1, 2]
    assert "model.safetensors: 2 steps" in capsys.readouterr().out
    assert (tmp_path / "run" / "config.yaml").read_text().count("seed: 3") == 1


def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(SMALL)
    assert main(["train", str(tmp_path / "small.yaml"), "--set", "optimizer.speed=1"]) == 2
    assert capsys.readouterr().err.startswith("optimizer.speed is not known: expected one of lr, ")
    assert main(["train", str(tmp_path / "nothing.yaml")]) == 2
    assert "nothing.yaml does not exist: expected a YAML file, or one of the package's: " in capsys.readouterr().err
    assert main(["train", "fintune"]) == 2
    assert "fintune does not exist (did you mean finetune?)" in capsys.readouterr().err
    for folder in ("", ".", "/", str(tmp_path)):
        assert main(["train", folder]) == 2
        assert " is a folder: expected a YAML file, or one of the package's: " in capsys.readouterr().err


def test_the_packages_configurations_are_found_from_any_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ("finetune", "config/train/finetune.yaml"):
        assert main(["train", given, "--set", "data.sources.0.path=nowhere"]) == 2
        said = capsys.readouterr()
        assert said.out.startswith(f"{given} is not here: using the package's, ") and "nowhere" in said.err


def test_one_s_own_data_is_held_out_in_part_and_scored_before_and_after(tmp_path, capsys):
    annotated = str(tmp_path / "clip")
    small = ["--checkpoint", "sam2s_pico", "--image-size", "64", "--device", "cpu"]
    scene = "scene:?width=96&height=64&frames=7&seed=0"
    assert main(["annotate", scene, "--from-masks", "all", "--output", annotated, "--export", "davis", *small]) == 0
    recipe = yaml.safe_load(SMALL)
    del recipe["data"]["sources"]
    recipe |= {"model": "auto", "init": "sam2s_pico"}
    recipe["data"]["classes"] = ["hook"]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    command = ["train", str(tmp_path / "own.yaml"), "--data", annotated, "--output", str(tmp_path / "run")]
    capsys.readouterr()
    assert main(command) == 2
    assert "of the class scissors, bipolar, and data.classes is hook: expected all" in capsys.readouterr().err
    assert main([*command, "--set", "data.classes=[hook,scissors,bipolar]"]) == 0
    said = capsys.readouterr().out
    assert "held out: frames 4 to 6 of clip" in said and "step 0: J&F" in said and "step 2: J&F" in said
    assert "| recording | frames | before | after" in said and "to compare it: sam2s train compare" in said
