"""The comparison of policies: what is counted, on scripted masks, and one run on a small scene."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.config import NANO_CLASSES, TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.identities import GONE
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.recording import Truth
from sam2s_model.recordings.scene import SceneConfig
from sam2s_model.tracker_options import tracker_options
from sam2s_model.training import compare
from sam2s_model.training.compare import (
    Ledger,
    compared_groups,
    crossing_scenes,
    long_term_scenes,
    measure_policy,
    policy_table,
)
from sam2s_model.training.datasets import scene_recording
from sam2s_ros.commands.cli import main

ONE, TWO = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
ONE[2:10, 2:10] = 1
TWO[2:10, 12:20] = 2
BOTH, EMPTY = ONE + TWO, np.zeros((20, 20), bool)


def counted(steps) -> Ledger:
    """Object 1's ledger of (predicted, labels), each given with how many frames it lasts."""
    ledger = Ledger()
    for predicted, labels, frames in steps:
        for _ in range(frames):
            ledger.add(predicted, Truth.of_labels(labels), 1)
    ledger.close()
    return ledger


@pytest.mark.parametrize("steps, switches, recoveries", [
    ([(ONE == 1, BOTH, 5)], 0, []),
    ([(ONE == 1, BOTH, 2), (TWO == 2, BOTH, 3), (ONE == 1, BOTH, 2), (TWO == 2, BOTH, 1)], 2, []),
    ([(ONE == 1, BOTH, 2), (EMPTY, TWO, GONE), (EMPTY, BOTH, 4), (ONE == 1, BOTH, 2)], 0, [(4, True)]),
    ([(ONE == 1, BOTH, 2), (EMPTY, TWO, GONE - 1), (EMPTY, BOTH, 4), (ONE == 1, BOTH, 2)], 0, []),
    ([(ONE == 1, BOTH, 2), (EMPTY, TWO, GONE), (EMPTY, BOTH, 4)], 0, [(4, False)]),
    (
        [(ONE == 1, ONE, 2), (EMPTY, TWO, GONE), (EMPTY, ONE, 3), (EMPTY, TWO, GONE), (ONE == 1, ONE, 1)],
        0, [(3, False), (0, True)],
    ),
    ([(ONE == 1, BOTH, 2), (TWO == 2, TWO, GONE), (TWO == 2, BOTH, 2)], 1, [(2, False)]),
])  # fmt: skip
def test_switches_and_recoveries(steps, switches, recoveries):
    ledger = counted(steps)
    assert ledger.switches == switches and type(ledger.switches) is int and ledger.recoveries == recoveries


def test_outside_the_field_nothing_counts():
    labels = ONE.copy()
    labels[:, :6] = 255
    assert counted([(ONE == 1, labels, 1)]).jf == [1.0] and counted([((ONE == 1) & (labels == 1), labels, 1)]).jf == [
        1.0
    ]


def test_where_nothing_is_known_of_an_object_nothing_counts():
    ledger = Ledger()
    ledger.add(ONE == 1, Truth({2: TWO == 2}, complete=False), 1)
    assert ledger.jf == [] and ledger.switches == 0
    ledger.add(ONE == 1, Truth({2: TWO == 2}), 1)  # it is known not to be there
    assert ledger.jf == [0.0]


@pytest.fixture(scope="module")
def pico():
    return load_model(resolve_checkpoint("sam2s_pico"), image_size=64, device="cpu", precision="fp32")


def test_figures_of_a_small_scene(pico):
    scene = scene_recording(SceneConfig(width=96, height=80, frames=12, seed=2), NANO_CLASSES)
    fifo, efp, none = (measure_policy(pico, [scene], policy) for policy in ("fifo", "efp", "none"))
    tokens, split = 16, 3  # 4 x 4 places; a pointer of 96 is three tokens of 32
    # frames 1 to 11 have 1 prompted frame and 0 to 6 others, or 0 to 4, and 1 to 11 pointers; half of them is frame 6
    assert fifo.keys == 6 * tokens + 6 * split and efp.keys == 5 * tokens + 6 * split and none.keys == 0
    assert fifo.object_bytes == efp.object_bytes > none.object_bytes > 0
    assert 0 < fifo.jf <= 1 and fifo.returns == 0 and fifo.ms > 0
    lines = policy_table([fifo, none], "fifo").splitlines()
    assert len(lines) == 4 and lines[2].startswith("| **fifo** |") and len({line.count("|") for line in lines}) == 1


def test_every_policy_that_a_checkpoint_can_run_is_compared(pico):
    able = [name for name in compare.POLICY_NAMES if compare.can_run(pico, name)]
    assert able == [name for name in compare.POLICY_NAMES if name != "slm"]
    pruned = [name for name in able if compare.can_run(pico, name, TrackerConfig(pruning="efp"))]
    assert pruned == ["fifo", "efp", "divemem", "divemem+efp", "tsms", "fifo+match"]


@pytest.mark.parametrize("absence, step", [(30, 1), (100, 3), (300, 8)])
def test_instruments_stay_away_as_long_as_the_scene_says(absence, step):
    name = f"scene 1, {absence} frames away"
    (recording,) = (scene for scene in long_term_scenes([1], width=80, height=64) if scene.name == name)
    assert len(set(recording.classes.values())) == 1, "look-alikes"
    labels = [recording.frame(index)[1] for index in range(0, len(recording), step)]
    seen = ["".join("x" if (frame == label).any() else "." for frame in labels) for label in (1, 2)]
    gone = [step * len(run) for line in seen for run in line.split("x") if step * len(run) >= GONE]
    assert len(gone) == 2 and all(abs(frames - absence) <= step + 5 for frames in gone), f"away for {gone} frames"


def test_look_alike_instruments_cross_in_every_period():
    (recording,) = crossing_scenes([1], width=160, height=128)
    assert len(set(recording.classes.values())) == 1 and len(recording.classes) == compare.CROSSING
    for first in range(0, len(recording), compare.CROSSING_FRAMES):
        met = set()
        for index in range(first + 15, first + 26, 2):
            labels = recording.frame(index)[1]
            grown = {v: cv2.dilate((labels == v).astype(np.uint8), np.ones((3, 3))) > 0 for v in recording.classes}
            met |= {(a, b) for a in grown for b in grown if a < b and (grown[a] & grown[b]).sum() > 12}
        assert met, f"nobody met after frame {first}"


def test_the_command_needs_something_to_compare_on(capsys):
    assert main(["compare"]) == 2
    assert "give --recordings, --long-term or --crossing" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["scene:?width=96", "nowhere.mp4", "bag"])
def test_what_it_cannot_compare_on_is_said_with_what_can(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    assert main(["compare", "sam2s_pico", "--recordings", given]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"--recordings {given}: expected a folder") and "sam2s eval compare" in error


def test_the_command_prints_a_table_for_each_folder(tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    for group in ("one", "two"):
        for kind, picture in (("frames", image), ("masks", BOTH)):
            folder = tmp_path / group / "clip" / kind
            folder.mkdir(parents=True)
            for index in range(3):
                cv2.imwrite(str(folder / f"{index:05}.png"), picture)
    folders = [tmp_path / "one", tmp_path / "two"]
    out = tmp_path / "figures.json"
    small = ["compare", "sam2s_pico", "--image-size", "64", "--device", "cpu"]
    small += [word for folder in folders for word in ("--recordings", str(folder))]
    assert main([*small, "--policy", "efp", "--policy", "none", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| efp |") == printed.count("| none |") == 2 and "\none: clip\n" in printed
    groups = json.loads(out.read_text())["groups"]
    assert list(groups) == ["one", "two"] and [row["policy"] for row in groups["two"]["policies"]] == ["efp", "none"]
    assert main([*small, "--only", "other"]) == 2
    assert re.match("--only is other: there is no such recording in .*one", capsys.readouterr().err)


def test_options_of_the_tracker():
    config = TrackerConfig(**tracker_options(["long_term_min_iou=0.8", "pruning=tsms", "reidentification=false"]))
    assert (config.long_term_min_iou, config.pruning, config.reidentification) == (0.8, "tsms", False)
    with pytest.raises(ConfigError, match="option is 'min_iou' .*: expected one of .*long_term_min_iou"):
        tracker_options(["min_iou=0.8"])
    with pytest.raises(ConfigError, match="long_term_min_iou"):
        TrackerConfig(**tracker_options(["long_term_min_iou=2"]))


def test_folders_of_one_name_are_two_groups(tmp_path):
    for site in "ab":
        for part, value in (("frames", 90), ("masks", 1)):
            (tmp_path / site / "test" / "clip" / part).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / site / "test" / "clip" / part / "0.png"), np.full((32, 32), value, np.uint8))
    (tmp_path / "a" / "test").rename(tmp_path / "a" / "first")
    options = dict(only=(), long_term=False, crossing=False, absence=(), seed=())
    folders = [tmp_path / "a" / "first", tmp_path / "b" / "test"]
    assert list(compared_groups(folders, **options)) == ["first", "test"]
    (tmp_path / "a" / "first").rename(tmp_path / "a" / "test")
    folders = [tmp_path / site / "test" for site in "ab"]
    assert list(compared_groups(folders, **options)) == [str(folder) for folder in folders]
