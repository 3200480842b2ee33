"""Parts of instruments that a granularity asks for: what is asked, what is said of it, and the picture."""

from __future__ import annotations

import cv2
import numpy as np

from sam2s_model.checkpoint import load_model
from sam2s_model.evaluation.parts import PARTS, PartAnswer, ask_for_parts, part_picture, part_table
from sam2s_model.recordings.scene import PartMasks, Scene, SceneConfig
from sam2s_ros.commands.cli import main

SCENE = SceneConfig(width=240, height=192, seed=3, instruments=1, classes="forceps")


def test_each_part_is_asked_for_with_the_same_click():
    model = load_model("sam2s_pico", device="cpu", precision="fp32")
    answers = list(ask_for_parts(model, [Scene(SCENE)], [0, 1]))
    assert [one.asked for one in answers] == ["", *PARTS] * 2
    for one in answers:
        assert one.truth.tip[one.point[1], one.point[0]] and one.mask.any()
        assert one.approximate == bool(one.asked) and set(one.overlaps) == set(PARTS)
    tip, _, whole = answers[1:4]
    assert tip.point == whole.point and tip.mask.sum() <= whole.mask.sum()
    picture = part_picture(answers, 160)
    assert picture.shape == (160, 480, 3) and (picture[:, :160] != picture[:, 320:]).any()


def test_the_table_says_how_well_each_part_is_met():
    truth = PartMasks(*(np.zeros((8, 8), bool) for _ in range(3)))
    truth.tip[:2], truth.jaw[:4], truth.whole[:8] = True, True, True

    def answer(asked, **overlaps):
        return PartAnswer(np.zeros((8, 8, 3), np.uint8), (1, 1), asked, truth.tip, truth, overlaps, True)

    rows = [answer("tip", tip=0.5, jaw=0.2, whole=0.1), answer("tip", tip=0.7, jaw=0.2, whole=0.1)]
    rows += [answer(asked, tip=0.1, jaw=0.2, whole=0.9) for asked in ("", "jaw", "whole")]
    lines = part_table(rows).splitlines()
    assert lines[2] == "| nothing |  | 0.10 | 0.20 | 0.90 |"
    assert lines[3] == "| tip | 0.1 | **0.60** | 0.20 | 0.10 |" and lines[5] == "| whole | 1 | 0.10 | 0.20 | **0.90** |"


def test_the_command_prints_the_table_and_writes_the_picture(tmp_path, capsys):
    path = tmp_path / "parts.webp"
    asked = ["eval", "granularity", "--checkpoint", "sam2s_pico", "--device", "cpu", "--seed", "1", "--frame", "0"]
    assert main([*asked, "--picture", str(path)]) == 0
    told = capsys.readouterr().out
    assert "approximate" in told and "| whole | 1 |" in told
    assert cv2.imread(str(path)).shape == (320, 960, 3)
    assert main([*asked, "--picture", str(path)]) == 2 and "exists" in capsys.readouterr().err
    assert main([*asked, "--picture", str(tmp_path / "a.jpg")]) == 2
    assert "expected a name that ends in .webp or .png" in capsys.readouterr().err
