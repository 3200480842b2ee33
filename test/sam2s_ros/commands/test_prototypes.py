"""`sam2s prototypes` as a user sees it."""

from __future__ import annotations

import json

import pytest
import torch

from sam2s_model.config import PICO
from sam2s_model.network.model import Sam2Model
from sam2s_ros.commands.cli import main

SCENE = "scene:?width=160&height=128&frames=4&seed=1"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save({"model": Sam2Model(PICO, 64).state_dict()}, path)
    return path


def test_prototypes_are_built_and_shown(weights, tmp_path, capsys):
    path = tmp_path / "bank.safetensors"
    asked = ["prototypes", "build", SCENE, "--class", "instrument", "--output", str(path), "--checkpoint", str(weights)]
    asked += ["--image-size", "64", "--device", "cpu", "--frames", "2"]
    assert main(asked) == 0
    assert "prototypes from 2 frames: " in capsys.readouterr().out
    assert main(["prototypes", "show", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["model"], told["image_size"]) == ("sam2s_pico", 64)
    assert {row["name"] for row in told["classes"]} == {"instrument", ""}
    score = ["prototypes", "score", str(path), SCENE, "--class", "instrument", "--checkpoint", str(weights)]
    assert main([*score, "--image-size", "64", "--device", "cpu", "--frames", "2"]) == 0
    assert "2 images, " in capsys.readouterr().out
    assert main(["prototypes", "show", str(path)]) == 0
    assert "instrument" in capsys.readouterr().out
    assert main(asked) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_file_that_is_none_is_refused(tmp_path, capsys):
    assert main(["prototypes", "show", str(tmp_path / "nothing")]) == 2
    assert "do not exist: make them with" in capsys.readouterr().err


def test_class_prompts_are_trained_and_scored(weights, tmp_path, capsys):
    path = tmp_path / "learnt.safetensors"
    of_model = ["--class", "instrument", "--checkpoint", str(weights), "--image-size", "64", "--device", "cpu"]
    asked = ["prototypes", "train", SCENE, *of_model, "--output", str(path), "--frames", "2", "--steps", "2"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "2 images of instrument" in told and "step 2: loss " in told
    assert main(["prototypes", "score", str(path), SCENE, *of_model, "--frames", "1"]) == 0
    assert "1 images, " in capsys.readouterr().out
    assert main(["prototypes", "score", str(path), SCENE, *of_model[2:], "--frames", "1"]) == 2
    assert "give one of them as --class" in capsys.readouterr().err


def test_a_recording_is_followed_from_nothing(weights, tmp_path, capsys):
    path = tmp_path / "bank.safetensors"
    of_model = ["--checkpoint", str(weights), "--image-size", "64", "--device", "cpu"]
    build = ["prototypes", "build", SCENE, "--class", "hook", *of_model, "--output", str(path), "--frames", "1"]
    assert main(build) == 0
    capsys.readouterr()
    assert main(["prototypes", "follow", str(path), SCENE, *of_model, "--every", "2", "--from-mask"]) == 0
    assert ": 1 frames, J over 0.5 on " in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [["build"], ["train"], ["score", "none.safetensors"], ["follow", "none.safetensors"]]
)
def test_boxes_without_images_are_refused(command, tmp_path, capsys):
    for name in ("frames", "boxes"):
        (tmp_path / "clip" / name).mkdir(parents=True)
    (tmp_path / "clip" / "boxes" / "000000.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert main(["prototypes", *command, str(tmp_path / "clip")]) == 2
    assert "clip has boxes/, and no image in frames/: expected one for each file of boxes" in " ".join(
        capsys.readouterr().err.split()
    )
