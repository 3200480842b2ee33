"""The evaluator against a tracker that is run by hand, and its table."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import NANO, NANO_CLASSES
from sam2s_model.errors import ConfigError
from sam2s_model.metrics import boundary_f, iou
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.recording import Truth
from sam2s_model.recordings.scene import SceneConfig
from sam2s_model.recordings.scene_recording import SceneRecording
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.training.batches import batch
from sam2s_model.training.data_config import NO_AUGMENTATION, DataConfig, SourceConfig
from sam2s_model.training.datasets import TrainingRecording, scene_recording
from sam2s_model.training.evaluate import Score, open_annotated, score_recordings, score_table
from sam2s_ros.commands.cli import main

CONFIG = SceneConfig(width=160, height=128, frames=8, seed=2)


class Changed(SceneRecording):
    """A scene with other labels: some frames have none, an object appears late."""

    def __init__(self, config, change):
        super().__init__(config, "changed")
        self._change = change

    def frame(self, index):
        frame = super().frame(index)
        labels = self._change(index, frame.truth.labels.copy())
        return replace(frame, truth=None if labels is None else Truth.of_labels(labels))


@pytest.fixture(scope="module")
def pico():
    return load_model(resolve_checkpoint("sam2s_pico"), device="cpu")


@pytest.mark.parametrize("prompt", ["mask", "box"])
def test_scores_are_those_of_a_tracker_run_by_hand(pico, prompt):
    recording = scene_recording(CONFIG)
    (score,) = score_recordings(pico, [recording], prompt, "fifo")
    tracker, j, f = Tracker(pico, "fifo"), [], []
    for index in range(8):
        image, labels = recording.frame(index)
        tracks = tracker.step(index + 1, np.ascontiguousarray(image))
        if index == 0:
            given = []
            for label in (1, 2):
                ys, xs = np.nonzero(labels == label)
                box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
                given.append(Prompt(mask=labels == label) if prompt == "mask" else Prompt(box=box))
            tracker.prompt(0, given)
        elif index < 7:
            both = [(tracks.mask(label), labels == label, labels == 255) for label in (1, 2)]
            j.append([iou(*masks) for masks in both])
            f.append([boundary_f(*masks) for masks in both])
    assert (score.name, score.frames, score.objects) == ("scene 2", 6, 2)
    assert score.j == pytest.approx(np.mean(j)) and score.f == pytest.approx(np.mean(f))
    assert score.jf == pytest.approx((score.j + score.f) / 2) and 0.2 < score.jf < 1


def test_objects_that_appear_late_are_prompted_then_and_frames_without_masks_are_not_scored(pico):
    def change(index, labels):
        labels[(labels == 2) & (index < 3)] = 0
        return None if index == 4 else labels

    (score,) = score_recordings(pico, [TrainingRecording(Changed(CONFIG, change), {})], "mask", "fifo")
    assert score.objects == 2 and score.frames == 5 and np.isfinite(score.jf)


def test_a_class_token_is_scored():
    torch.manual_seed(0)
    model = Sam2Model(NANO, image_size=64).eval().requires_grad_(False)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(9.0)
    recording = scene_recording(CONFIG, NANO_CLASSES)
    (score,) = score_recordings(model, [recording], policy="fifo", max_frames=4)
    assert sum(score.predicted.values()) == pytest.approx(1) and score.frames == 2
    right = sum(score.predicted.get(NANO_CLASSES[row], 0) for row in recording.classes.values())
    assert 0 <= score.class_accuracy <= right + 1e-9


def test_classes_are_compared_by_the_names_that_the_model_gives_its_rows():
    torch.manual_seed(0)
    model = Sam2Model(NANO, image_size=64).eval().requires_grad_(False)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(9.0)
    recording, names = scene_recording(CONFIG, NANO_CLASSES), list(NANO_CLASSES)
    (plain,) = score_recordings(model, [recording], policy="fifo", max_frames=4)
    row = names.index(next(iter(plain.predicted)))  # what it says most
    other = (row + 1) % len(names)
    recording.classes = dict.fromkeys(recording.classes, other)
    names[row], names[other] = names[other], names[row]
    model.class_names = tuple(names)
    (score,) = score_recordings(model, [recording], policy="fifo", max_frames=4)
    share = plain.predicted[NANO_CLASSES[row]]
    assert score.predicted[NANO_CLASSES[other]] == score.class_accuracy == pytest.approx(share)
    (silent,) = score_recordings(model, [recording], policy="none", max_frames=4)
    assert silent.predicted == {} and silent.class_accuracy is None, "without a memory there is no class token"


def test_a_table_has_a_column_for_each_run_and_a_mean():
    runs = {"ours": [Score("a", 5, 1, 0.5, 0.7), Score("b", 6, 1, 0.9, 0.9)], "none": [Score("a", 5, 1, 0.2, 0.4, 0.5)]}
    lines = score_table(runs).splitlines()
    assert lines[0] == "| recording | frames | ours | none |"
    assert lines[2] == "| a | 5 | 60.0 (J 50.0, F 70.0) | 30.0 (J 20.0, F 40.0) |"
    assert lines[3] == "| b | 6 | 90.0 (J 90.0, F 90.0) |  |"
    assert lines[4:] == ["| mean | | **75.0** | **30.0** |", "| class right | |  | 50.0 % |"]


def clip(folder) -> None:
    for part in ("frames", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(3):
        mask = np.zeros((64, 64), np.uint8)
        mask[16:48, 16:48] = 1
        cv2.imwrite(str(folder / "frames" / f"{i}.png"), np.dstack([mask * 200] * 3))
        cv2.imwrite(str(folder / "masks" / f"{i}.png"), mask)


def test_recordings_and_checkpoints_of_one_name_are_told_apart(tmp_path, capsys):
    """Also a checkpoint beside itself at another size, and a recording that is given twice."""
    for site in "ab":
        clip(tmp_path / site / "test" / "c1")
    given = [str(tmp_path / site / "test") for site in "ab"]
    options = [f"--recordings={path}" for path in (*given, given[0])]
    figures = tmp_path / "figures.json"
    main([
        "train", "evaluate", "sam2s_pico", *options, "--policy", "none", "--beside", "sam2s_pico", "--image-size", "64",
        "--beside-size", "128", "--device", "cpu", "--out", str(figures),
    ])  # fmt: skip
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| recording | frames | sam2s_pico/none | sam2s_pico/none, 128 px |"
    rows = [line.split(" | ")[0] for line in table[2:]]
    assert rows[:3] == [f"| {given[0]}/c1", f"| {given[1]}/c1", f"| {given[0]}/c1 (2)"] and rows[3] == "| mean"
    assert [len(run) for run in json.loads(figures.read_text())["runs"].values()] == [3, 3]
    opened = open_annotated([SourceConfig("folder", path) for path in given])
    assert [r.name for r in opened] == [f"{path}/c1" for path in given]


def test_sources_are_opened_for_evaluation(tmp_path):
    sources = [SourceConfig("scene", scenes=3, height=64, first_seed=40)]
    opened = open_annotated(sources, limit=2)
    assert [r.name for r in opened] == ["scene 40", "scene 41"]
    one = SourceConfig("scene", scenes=1, height=64, first_seed=40)
    trained = batch(DataConfig(sources=(one,), size=64, length=1, frames=1, augment=NO_AUGMENTATION), 0, 0)
    frames = (cv2.resize(opened[0].frame(i)[0], (64, 64), interpolation=cv2.INTER_AREA) for i in range(600))
    assert min(np.abs(trained[0].images[0].astype(int) - frame).mean() for frame in frames) < 4  # the same scene


def test_another_prompt_is_refused(pico):
    with pytest.raises(ConfigError, match="prompt is 'point': expected mask or box"):
        score_recordings(pico, [], "point")


def test_the_command_prints_a_table_and_writes_figures(tmp_path, capsys):
    options = ["--scene", "2", "--scene-frames", "3", "--policy", "none", "--device", "cpu"]
    assert main(["train", "evaluate", "sam2s_pico", *options, "--out", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    assert "| scene 2 | 1 |" in printed and "sam2s_pico/none" in printed
    (score,) = json.loads((tmp_path / "out.json").read_text())["runs"]["sam2s_pico/none"]
    assert score["jf"] == pytest.approx((score["j"] + score["f"]) / 2)
