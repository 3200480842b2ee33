"""One's own data: what is held out, and one sentence for what cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.training.config import EvaluationConfig, Phase, TrainConfig
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.evaluate import open_annotated
from sam2s_model.training.holdout import with_own_data

CONFIG = TrainConfig(
    phases=(Phase(steps=95),), data=DataConfig(classes=("hook", "object"), sources=(SourceConfig(path="data/clips"),))
)


def clip(folder: Path, frames: int = 8, masked: range | None = None, shown: range | None = None, label="object"):
    """Write a clip: frames, masks of some of them, which show an object on some of those."""
    masked, shown = masked or range(frames), shown if shown is not None else range(frames)
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(frames):
        cv2.imwrite(str(folder / "frames" / f"{index:03d}.png"), np.full((32, 48, 3), index, np.uint8))
        if index in masked:
            mask = np.zeros((32, 48), np.uint8)
            mask[4:20, 6:30] = index in shown
            cv2.imwrite(str(folder / "masks" / f"{index:03d}.png"), mask)
    if label:
        (folder / "classes.yaml").write_text(f"1: {label}\n")


def sources(config: TrainConfig) -> tuple[SourceConfig, SourceConfig]:
    (learnt,), (held,) = config.data.sources, config.evaluation.sources
    return learnt, held


def test_a_fifth_of_the_clips_is_held_out(tmp_path):
    for name in range(10):
        clip(tmp_path / f"c{name}")
    found, said = with_own_data(CONFIG, tmp_path)
    learnt, held = sources(found)
    assert (
        len(held.only) == 2 and learnt.without == held.only and said == f"held out: {', '.join(held.only)}, of 10 clips"
    )
    assert learnt.path == held.path == str(tmp_path) and learnt.kind == "folder"
    assert (found.evaluation.before, found.evaluation.best, found.evaluation.every) == (True, True, 10)
    clip(tmp_path / "another")
    again, _ = with_own_data(CONFIG, tmp_path)
    assert set(sources(again)[1].only) & set(held.only)


def test_the_only_clip_with_a_class_is_learnt_from(tmp_path):
    for name in "abc":
        clip(tmp_path / name)
    held = sources(with_own_data(CONFIG, tmp_path)[0])[1].only[0]
    (tmp_path / held / "classes.yaml").write_text("1: hook\n")
    assert sources(with_own_data(CONFIG, tmp_path)[0])[1].only[0] != held


def test_a_clip_on_which_nothing_would_be_scored_is_not_held_out(tmp_path):
    for name in "abc":
        clip(tmp_path / name, shown=range(8) if name == "b" else range(6, 8))
    assert sources(with_own_data(CONFIG, tmp_path)[0])[1].only == ("b",)


def test_what_is_held_out_is_scored_within_the_frames_that_are_evaluated(tmp_path):
    """An object that only shows up later would never be scored."""
    config = dataclasses.replace(CONFIG, evaluation=EvaluationConfig(frames=5))
    for name in "abc":
        clip(tmp_path / "late" / name, shown=range(2 if name == "b" else 3, 8))
    assert sources(with_own_data(config, tmp_path / "late")[0])[1].only == ("b",)
    config = dataclasses.replace(CONFIG, evaluation=EvaluationConfig(frames=4))
    with pytest.raises(ConfigError, match=r"among its first 4 frames, which are evaluated \(evaluation.frames\)"):
        with_own_data(config, tmp_path / "late")
    clip(tmp_path / "one", frames=24, shown=range(12, 24))
    (held,) = with_own_data(config, tmp_path / "one")[0].evaluation.sources
    assert held.begin == 18, "of the last fourth, the first 4 frames"
    clip(tmp_path / "other", frames=24, shown=range(22, 24))
    with pytest.raises(ConfigError, match=r"the last or the first, of which 4 are evaluated"):
        with_own_data(config, tmp_path / "other")


@pytest.mark.parametrize(
    ("frames", "masked", "shown", "learnt", "held"),
    [
        (8, None, None, range(0, 5), range(5, 8)),
        (16, None, None, range(0, 12), range(12, 16)),
        (16, range(2, 14), None, range(0, 11), range(11, 16)),
        (16, None, range(8), range(4, 16), range(0, 4)),  # the last frames show nothing
    ],
)
def test_of_one_clip_a_stretch_is_held_out(tmp_path, frames, masked, shown, learnt, held):
    clip(tmp_path / "clip", frames, masked, shown)
    found, said = with_own_data(CONFIG, tmp_path / "clip")
    assert f"held out: frames {held.start} to {held.stop - 1} of clip" in said
    taken = [open_annotated([source], CONFIG.data.classes)[0] for source in sources(found)]
    for recording, expected in zip(taken, (learnt, held), strict=True):
        assert [int(recording.frame(i)[0][0, 0, 0]) for i in range(len(recording))] == list(expected)


def test_what_was_set_of_the_source_stays(tmp_path):
    clip(tmp_path / "clip", label="")
    scene = SourceConfig("scene", height=64)
    given = SourceConfig(path="data/clips", class_name="hook", mask_values="labels", weight=2.0)
    config = TrainConfig(data=DataConfig(classes=("hook", "object"), sources=(scene, given)))
    found, _ = with_own_data(config, tmp_path)
    assert found.data.sources[0] == scene
    own = found.data.sources[1]
    assert (own.class_name, own.mask_values, own.weight, own.path) == ("hook", "labels", 2.0, str(tmp_path))


def test_nothing_is_held_out_where_it_is_said_what_to_evaluate(tmp_path):
    clip(tmp_path / "clip")
    options = EvaluationConfig(sources=(SourceConfig("scene", height=64),))
    config = TrainConfig(data=CONFIG.data, evaluation=options)
    found, said = with_own_data(config, tmp_path)
    assert found.evaluation == options and found.data.sources[0].end == 0 and "nothing is held out" in said


@pytest.mark.parametrize(
    ("made", "error", "said"),
    [
        (dict(frames=1), ConfigError, "has 1 frames with masks: expected at least 6, or several recordings"),
        (dict(shown=range(0)), ConfigError, "shows an object, on 8 frames: expected one on at least one"),
        (dict(shown=range(3, 4)), ConfigError, "shows objects on 1 of 8 frames with masks: expected some both among"),
        (dict(masked=range(99, 100)), SourceError, "has no masks: expected masks/ beside frames/"),
        (
            dict(label="spoon"), ConfigError,
            "of the class spoon, and data.classes is hook, object: expected all of them, as by --set "
            r"'data.classes=\[hook, object, spoon\]'",
        ),
        (None, SourceError, "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(tmp_path, made, error, said):
    if made is not None:
        clip(tmp_path / "clip", **made)
    with pytest.raises(error, match=said):
        with_own_data(CONFIG, tmp_path / "clip")


def test_short_clips_are_told(tmp_path):
    for name in "ab":
        clip(tmp_path / name, frames=2)
    with pytest.raises(ConfigError, match="no recording of .* can be held out, the longest has 2 frames with masks"):
        with_own_data(CONFIG, tmp_path)


def test_a_stretch_ends_after_it_begins():
    with pytest.raises(ConfigError, match="has begin 5 and end 5: expected more"):
        DataConfig(sources=(SourceConfig(path="a", begin=5, end=5),))
