"""A file that cannot be read in what is held out is left out of the evaluation and named: the run goes on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.network.model import Sam2Model
from sam2s_model.training.config import EvaluationConfig, TrainConfig
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.datasets import Still
from sam2s_model.training.evaluate import left_out_lines, open_annotated
from sam2s_model.training.log import Log
from sam2s_model.training.validation import Validation


@pytest.fixture(scope="module")
def model() -> Sam2Model:
    return load_model("sam2s_pico", image_size=64, device="cpu")


@pytest.fixture
def clip(tmp_path) -> Path:
    """Six frames with an object; the third cannot be read, the fifth is smaller, the fourth's mask cannot be read."""
    for name in ("frames", "masks"):
        (tmp_path / "clip" / name).mkdir(parents=True)
    for i in range(6):
        size = (32, 40) if i == 4 else (64, 80)
        labels = np.zeros(size, np.uint8)
        labels[8:28, 10:34] = 1
        cv2.imwrite(str(tmp_path / f"clip/frames/{i}.png"), np.dstack([labels * 200 + 30] * 3))
        cv2.imwrite(str(tmp_path / f"clip/masks/{i}.png"), labels)
    (tmp_path / "clip/frames/2.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "clip/masks/3.png").write_bytes(b"\x89PNG broken")
    return tmp_path / "clip"


def test_an_evaluation_leaves_out_what_cannot_be_read(clip, tmp_path, model):
    options = EvaluationConfig(sources=(SourceConfig("folder", str(clip), mask_values="labels"),), policy="none")
    validation = Validation(TrainConfig(evaluation=options), Log(tmp_path / "log.jsonl"))
    said, _ = validation.run(model, 0, 0.0, "none")
    *named, last = said.splitlines()
    assert last.startswith("step 0: J&F ") and len(named) == 3 and all(line.startswith("left out: ") for line in named)
    assert "2.png is not a readable image" in named[0] and "3.png" in named[1]
    assert "frame 4 of clip is 40x32, the first one is 80x64" in named[2]
    (score,) = validation.scores
    assert score.frames == 1, "of the frames 0, 1 and 5, after the prompt and before the last"


def test_frames_that_are_left_keep_their_places(clip):
    (recording,) = open_annotated([SourceConfig("folder", str(clip), mask_values="labels")])
    assert [frame.index for frame in recording.frames()] == [0, 1, 5]
    assert len([*recording.frames()]) == 3 and len(left_out_lines([recording])) == 3, "named once"


def test_a_still_that_cannot_be_read_has_no_frames(clip):
    still = Still("clip/2", clip / "frames" / "2.png")
    assert [*still.frames()] == [] and "2.png is not a readable image" in left_out_lines([still])[0]
