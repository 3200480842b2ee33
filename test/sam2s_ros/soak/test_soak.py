"""The soak's report: which figures agree, and the exit code when they do not."""

from __future__ import annotations

from array import array
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.commands import cli
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.processes.counting import passed
from sam2s_ros.soak import run as soak
from sam2s_ros.soak.camera import picture_at
from sam2s_ros.soak.client import SoakLog
from sam2s_ros.soak.report import percentiles, soak_report
from sam2s_ros.soak.run import SoakOptions, size_of

MS = 10**6
MODEL = dict(what="", checkpoint=None)
OPTIONS = SoakOptions(minutes=0.1, size=(64, 48), rate=30.0)


def made(
    *, codes: int = 0, sent: int = 104, gaps: int = 0, unbalanced: int = 0, waiting: int = 0, **counted: int
) -> dict:
    """Report a run of 10 s with 100 masks, each 7 ms after its image arrived, which took 2 ms; 3 images replaced."""
    stamps = np.arange(1, 101) * 33 * MS
    status = TrackerStatus(
        **{**dict(received=103, published=100, dropped_overload=3, waiting=waiting, objects=1), **counted}
    )
    log = SoakLog(
        stamps=array("q", stamps), received=array("q", stamps + 2 * MS), published=array("q", stamps + 9 * MS),
        gaps=gaps, unbalanced=unbalanced,
        times=array("d", np.arange(0, 10, 0.1)), resident=array("q", [10**8] * 50 + [2 * 10**8] * 50),
        began=0.0, ended=10.0, cpu=dict(camera=1.0, tracker=5.0), sent=sent, status=status,
    )  # fmt: skip
    return soak_report(OPTIONS, MODEL, log, dict(tracker=codes))


def test_the_figures():
    found = made()
    assert passed(found) and found["counts"]["lost_before_node"] == 1 and found["camera"]["reached"] == 10.4
    assert found["added_latency_ms"] == dict(count=100, p50=7.0, p90=7.0, p99=7.0, **{"p99.9": 7.0}, max=7.0)
    assert found["age_ms"]["p99.9"] == 9.0
    series = found["memory"].pop("series")
    assert len(series) == 40 and series == sorted(series) and (series[0], series[-1]) == (10**8, 2 * 10**8)
    assert found["memory"] == dict(after_s=2.5, warm=10**8, end=2 * 10**8, growth_percent=100.0)
    assert found["cpu_percent_of_a_core"] == dict(camera=10.0, tracker=50.0)


def test_percentiles_are_of_all_values():
    found = percentiles(np.arange(10001))
    assert found == dict(count=10001, p50=5000.0, p90=9000.0, p99=9900.0, **{"p99.9": 9990.0}, max=10000.0)
    assert percentiles(np.empty(0)) == dict(count=0)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(sent=102), dict(received=104), dict(dropped_late=1), dict(published=99, dropped_late=1),
        dict(waiting=1, received=104), dict(gaps=1), dict(unbalanced=1), dict(codes=1),
    ],
    ids=str,
)  # fmt: skip
def test_counters_that_disagree_by_one_image_are_an_exit_code(wrong, monkeypatch, capsys):
    monkeypatch.setattr(soak, "run_soak", lambda options: made(**wrong))
    assert cli.main(["soak"]) == cli.FAILED and capsys.readouterr().out.count("FAIL") == 1


def test_the_report_names_the_checkpoint_or_that_there_is_none():
    engine = EngineOptions(Path("sam2s_pico"), image_size=96, device="cpu")
    options, found = soak._with_model(replace(OPTIONS, engine=engine))
    assert str(options.engine.checkpoint) == found["checkpoint"]
    assert (found["what"], found["image_size"], found["dtype"], len(found["sha256"])) == (
        "sam2s_pico",
        96,
        "float32",
        64,
    )
    what = soak._with_model(replace(OPTIONS, model_time=0.005))[1]["what"]
    assert what.startswith("no model: each step sleeps 5 ms")


def test_a_report_that_cannot_be_written_is_found_out_at_once(capsys):
    assert cli.main(["soak", "--model-time", "0.01", "--output", "/proc/no/report.json"]) == cli.BAD_INPUT
    assert "/proc/no/report.json cannot be written to" in capsys.readouterr().err


def test_a_camera_goes_through_its_pictures_and_back():
    shown = [picture_at(second * 10**9, 1.0, 4) for second in range(13)]
    assert shown == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0] and picture_at(10**18, 30.0, 1) == 0


@pytest.mark.parametrize("text", ["640", "640x", "x480", "-1x5", "4000x3000", "axb", "0x480", "640x8", "²x480"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match=f"size is '{text}': expected WIDTHxHEIGHT"):
        size_of(text)
    assert size_of("1920x1080") == (1920, 1080)
