"""The command that learns from an annotation, and from those beside it."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml

from sam2s_model.training.config import load_config
from sam2s_model.training.holdout import with_own_data
from sam2s_ros.annotate.learn import learning_command

ODD = ["needle, curved", "no", "a: b #1", "ciseaux \U0001f52a"]


@pytest.fixture
def annotated(tmp_path):
    """Makes folders as an annotation leaves them, of which the last is being annotated: annotated(classes, ...)."""

    def make(*classes: dict[int, str], checkpoint: str = "sam2s_pico") -> SimpleNamespace:
        for number, names in enumerate(classes):
            folder = tmp_path / f"clip{number}"
            for below in ("frames", "masks"):
                (folder / below).mkdir(parents=True)
            for i in range(6):
                mask = np.zeros((64, 64), np.uint8)
                for value in names:
                    mask[10 * value : 10 * value + 8, 10:50] = value
                cv2.imwrite(str(folder / "frames" / f"{i:06d}.png"), np.full((64, 64, 3), 90, np.uint8))
                cv2.imwrite(str(folder / "masks" / f"{i:06d}.png"), mask)
            (folder / "classes.yaml").write_text(yaml.safe_dump(names))
        objects = {value: SimpleNamespace(class_name=name) for value, name in classes[-1].items()}
        return SimpleNamespace(folder=folder, objects=objects, checkpoint=checkpoint, flush=lambda: None)

    return make


def learnt(project: SimpleNamespace):
    """Return the configuration that the command trains with, and its folder."""
    command, said = learning_command(project)
    words = shlex.split(command)
    asked = load_config(words[2], [words[i + 1] for i, word in enumerate(words) if word == "--set"])
    folder = words[words.index("--data") + 1]
    assert with_own_data(asked, folder)[1] == said
    return asked, Path(folder)


def test_classes_of_annotations_beside_this_one_are_learnt_too(annotated, tmp_path):
    asked, folder = learnt(annotated({1: "stapler"}, {1: "trocar"}))
    assert {"stapler", "trocar", "scissors"} <= set(asked.data.classes) and folder == tmp_path


def test_names_and_paths_arrive_as_they_are(annotated):
    checkpoint = "/data/case #7/x: y.pt"
    asked, _ = learnt(annotated(dict(enumerate(ODD, 1)), checkpoint=checkpoint))
    assert asked.init == checkpoint and set(ODD) <= set(asked.data.classes)


def test_the_folder_above_this_one_is_found_however_it_is_given(annotated, tmp_path, monkeypatch):
    project = annotated({1: "hook"}, {1: "hook"})
    monkeypatch.chdir(project.folder)
    project.folder = Path(".")
    assert learnt(project)[1].resolve() == tmp_path
