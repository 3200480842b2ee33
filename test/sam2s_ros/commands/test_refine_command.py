"""`sam2s refine`: maps in, maps out, figures before and after, and nothing written over."""

from __future__ import annotations

import json

import pytest

from sam2s_model.recordings.image_files import read_labels
from sam2s_model.results.label_png import write_label_png
from sam2s_ros.commands.cli import main

SCENE = "scene:?width=96&height=80&frames=5&seed=1&fps=20"


@pytest.fixture
def refine(pico_checkpoint, tmp_path):
    options = ["--checkpoint", pico_checkpoint, "--model", "sam2s_pico", "--image-size", 64, "--device", "cpu"]
    options += ["--option", "discovery_min_iou=0", "--option", "discovery_min_stability=0", "--window", 3, "--grid", 4]

    def run(*arguments: object) -> int:
        return main([str(part) for part in ("refine", *arguments, *options, "--output", tmp_path / "out")])

    return run


def test_noisy_maps_of_a_scene_are_scored_before_and_after(refine, tmp_path, capsys):
    assert refine("noisy:2", SCENE, "--frames", 4) == 0
    said = " ".join(capsys.readouterr().out.split())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 4 and summary["grid"] == 4 and len(summary["masklets"]) == 2
    assert 0 < summary["mean_iou"]["before"] < 1 and 0 < summary["flicker"]["before"] < 1
    assert f"mIoU {summary['mean_iou']['before']:.3f} before" in said
    masks = sorted((tmp_path / "out" / "masks").iterdir())
    assert [path.name for path in masks] == [f"{i:06d}.png" for i in range(4)]
    assert read_labels(masks[0]).shape == (80, 96)
    assert refine("noisy:2", SCENE) == 2 and "give another --output" in " ".join(capsys.readouterr().err.split())
    assert refine("noisy:2", SCENE, "--overwrite", "--frames", 1) == 0
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 1


def test_a_folder_of_maps_and_one_with_the_truth(refine, tmp_path, capsys):
    maps = tmp_path / "maps"
    maps.mkdir()
    for i in range(5):
        write_label_png(maps / f"{i:06d}.png", read_map(i), {3: (1, 2, 3)})
    assert refine(maps, SCENE, "--truth", maps) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["mean_iou"]["before"] == 1 and summary["flicker"]["before"] == 0
    assert refine(tmp_path / "out" / "masks", SCENE, "--overwrite") == 2, "it would remove what it reads"
    assert "--overwrite would remove" in " ".join(capsys.readouterr().err.split())
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 5
    (maps / "000002.png").unlink()
    assert refine(maps, SCENE, "--overwrite") == 2
    assert "has no class image 000002.png" in " ".join(capsys.readouterr().err.split())


def test_a_true_map_of_another_size_is_said_before_its_window_is_tracked(refine, tmp_path, capsys):
    truth = tmp_path / "truth"
    truth.mkdir()
    for i in range(5):
        write_label_png(truth / f"{i:06d}.png", read_map(i)[: 60 if i == 2 else 80], {3: (1, 2, 3)})
    assert refine("noisy:2", SCENE, "--truth", truth) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "the true map of 000002 is 96x60: expected 96x80, as its image" in said
    assert not list((tmp_path / "out" / "masks").iterdir())


def test_maps_for_which_there_is_no_room_are_one_sentence(refine, tmp_path, monkeypatch, capsys):
    def full(path, *_):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("sam2s_model.results.label_png.write_label_png", full)
    assert refine("noisy:2", SCENE, "--frames", 1) == 2
    assert "cannot be written to (No space left on device): give another" in " ".join(capsys.readouterr().err.split())


def read_map(index: int):
    import numpy as np

    found = np.zeros((80, 96), np.uint8)
    found[10 : 40 + index, 20:60] = 3
    return found


def test_masks_of_a_data_set_are_never_replaced(refine, tmp_path, capsys):
    (tmp_path / "out" / "masks").mkdir(parents=True)
    write_label_png(tmp_path / "out" / "masks" / "a.png", read_map(0), {})
    assert refine("noisy", SCENE, "--overwrite") == 2
    assert (tmp_path / "out" / "masks" / "a.png").exists()
