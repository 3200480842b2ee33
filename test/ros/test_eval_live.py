"""`sam2s eval live` end to end: real processes over DDS, a recording to its end, the next one until Ctrl-C."""

from __future__ import annotations

import csv
import json
import signal
import sys
from pathlib import Path

import pytest

from sam2s_ros.commands.cli import main

WHOLE = "scene:?width=96&height=80&frames=10&seed=2&fps=4"
LONG = "scene:?width=96&height=80&frames=100&seed=3&fps=5"
SMALL = ["--checkpoint", "sam2s_pico", "--image-size", "64", "--device", "cpu"]


def rows(output: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    found = csv.DictReader((output / "frames.csv").open())
    return {(r["recording"], r["frame"], r["object"]): r for r in found if r["scored"] == "1"}


@pytest.fixture(scope="module")
def interrupted(start, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("live")
    command = [
        sys.executable,
        "-m",
        "sam2s_ros.commands.cli",
        "eval",
        "live",
        WHOLE,
        LONG,
        *SMALL,
        "--output",
        str(output),
    ]
    process = start([*command, "--overlay", "--masks", "--threads", "1"], COLUMNS="160")
    process.wait_for_output("frames100_seed3_fps5 at 1x, the first masks came", 120)
    code, seconds = process.stop(signal.SIGINT, 30)
    assert code == 130 and "Traceback" not in process.output and "interrupted" in process.output, process.output
    return output / "1x"


def test_report(interrupted):
    found = json.loads((interrupted / "report.json").read_text())
    whole, part = found["recordings"]
    assert found["configuration"]["mode"] == "live" and found["configuration"]["rate"] == 1.0 and found["interrupted"]
    assert whole["frames_read"] == whole["annotated"] == 10 and 1 <= part["frames_read"] < 100
    assert len(whole["objects"]) == 2 and not whole["unprompted"]
    for own, live in zip((whole, part), found["live"]["recordings"].values(), strict=True):
        assert live["sent"] == own["frames_read"] and 1 <= live["delivered"] <= live["sent"]
        assert live["dropped"] == pytest.approx(1 - live["delivered"] / live["sent"])
        assert live["sent_to_arrival_ms"]["count"] == live["receive_to_finished_ms"]["count"] == live["delivered"]
        assert live["sent_to_arrival_ms"]["p50"] > live["receive_to_finished_ms"]["p50"] > 0
    live = next(iter(found["live"]["recordings"].values()))
    counts = live["counts"]
    dropped = sum(count for name, count in counts.items() if name.startswith("dropped_"))
    assert counts["received"] == counts["published"] + dropped and counts["published"] == live["delivered"]
    assert live["prompt_ms"]["count"] == 2 and 0 <= live["streaming"]["jf"] <= 1


def test_files(interrupted):
    found = json.loads((interrupted / "report.json").read_text())
    page = (interrupted / "report.html").read_text()
    assert "Live evaluation at 1x" in page and "streaming J&amp;F" in page and "Interrupted" in page
    whole = found["recordings"][0]
    key = f"{whole['data_set']}/{whole['name']}"
    assert len(list((interrupted / "masks" / key).glob("*.png"))) == found["live"]["recordings"][key]["delivered"]
    assert (interrupted / "overlay" / f"{key}.mp4").stat().st_size > 0
    finished = [path.stem for path in (interrupted / "recordings").rglob("*.json")]
    assert finished == [whole["name"]], "the one that was interrupted is evaluated anew when it goes on"


def test_delivered_masks_are_those_of_an_offline_evaluation(interrupted, tmp_path, capsys):
    """Late prompts are as if they had come in time: up to the first frame that was dropped all is equal."""
    assert main(["eval", WHOLE, *SMALL, "--output", str(tmp_path / "offline")]) == 0
    live, offline = rows(interrupted), rows(tmp_path / "offline")
    name = next(iter(offline))[0]
    came = {int(path.stem) for path in (interrupted / "masks" / name / name).iterdir()}
    unbroken = next(i for i in range(11) if i not in came)
    same = [key for key in offline if key in live and int(key[1]) < unbroken]
    assert same, came
    assert all(float(live[key]["j"]) == pytest.approx(float(offline[key]["j"]), abs=1e-6) for key in same)
    assert main(["eval", "compare", str(tmp_path / "offline"), str(interrupted)]) == 0
    assert "mode: offline and live" in capsys.readouterr().out
