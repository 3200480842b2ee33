"""Discovery in the loop, measured: all variants on a small scene, and what the table and the file say."""

from __future__ import annotations

import json

import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.discovery.build import build_bank, open_confirmed
from sam2s_model.discovery.prototype_file import ModelIdentity, save_prototypes
from sam2s_model.evaluation.identities import Identities
from sam2s_ros.commands.cli import main
from sam2s_ros.evaluation.closed_loop import COLUMNS, VARIANTS, LoopFigures, loop_table
from sam2s_ros.evaluation.empty_start import FollowedRecording

SMALL = ("compare", "sam2s_pico", "--image-size", "64", "--device", "cpu", "--precision", "fp32", "--crossing")


@pytest.fixture(scope="module")
def prototypes(tmp_path_factory):
    model = load_model("sam2s_pico", image_size=64, device="cpu", precision="fp32")
    confirmed = open_confirmed("scene:?width=160&height=128&frames=20&seed=2")
    path = tmp_path_factory.mktemp("loop") / "prototypes.safetensors"
    save_prototypes(build_bank(model, confirmed, frames=2, class_name="instrument").bank, ModelIdentity.of(model), path)
    return path


def test_every_variant_is_measured(prototypes, tmp_path, capsys):
    out = tmp_path / "loop.json"
    asked = [*SMALL, "--closed-loop", "--prototypes", str(prototypes), "--discovery-every", "2", "--frames", "9"]
    assert main([*asked, "--auto-prompt-score", "0.3", "--every", "2", "--out", str(out)]) == 0
    (rows,) = json.loads(out.read_text()).values()
    assert [row["name"] for row in rows] == [one.name for one in VARIANTS]
    by_name = {row["name"]: row for row in rows}
    assert by_name["first mask"]["starts"] == 0 and by_name["no click, prototypes"]["starts"] > 0
    assert all(row["minutes"] == pytest.approx(10 * 0.04 / 60) for row in rows), "5 frames, each of two"
    assert by_name["first mask"]["mean_j"] > 0 and by_name["first mask"]["switches"] is not None
    assert "| no click, prototypes, refind, recondition |" in capsys.readouterr().out


def test_what_needs_prototypes_is_left_out_without_them(capsys):
    assert main([*SMALL, "--closed-loop", "--frames", "2"]) == 0
    told = capsys.readouterr().out
    assert told.count("| first mask") == 3 and "no click" not in told


def test_prototypes_are_of_the_closed_loop_alone(prototypes, capsys):
    assert main([*SMALL, "--prototypes", str(prototypes)]) == 2
    assert "give --closed-loop, too" in capsys.readouterr().err
    assert main([*SMALL, "--closed-loop", "--policy", "match", "--policy", "none"]) == 2
    assert "expected one with --closed-loop" in capsys.readouterr().err


def test_what_the_table_says():
    counted = Identities()
    counted.returns, counted.starts, counted.false_starts, counted.switches = [(4, True), (10, False)], 6, 2, 3
    told = FollowedRecording("a", 50, overlaps=[0.4, 0.8], identities=counted)
    row = LoopFigures.of("x", [told], 0.5)
    lines = loop_table([row]).splitlines()
    assert lines[2] == "| x | 0.50 | 0.60 | 1 of 2 | 7.0 |  | 6 | 2 | 4.0 |", "one object alone has no switches"
    counted.several = True
    assert LoopFigures.of("x", [told], 0.5).row[5] == "3" and len(row.row) == len(COLUMNS)
