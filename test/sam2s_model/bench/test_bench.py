"""`sam2s bench` from the command line to the page, on the smallest model, and what it measures with."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from sam2s_model.bench.floor import ATTENTION, DECODER, ENCODER, MATCHES, PARTS
from sam2s_model.bench.machine import describe, measure
from sam2s_model.bench.memory_costs import step, with_full_memory
from sam2s_model.bench.page import benchmarks_page
from sam2s_model.bench.peers import NEEDED, check_peer
from sam2s_model.bench.report import name, read
from sam2s_model.bench.run import REST, BenchOptions, cases, run, weights_of
from sam2s_model.bench.timing import PartTimer, Spread, peak_bytes
from sam2s_model.config import MODELS
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_ros.commands.cli import main

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
TINY = MODELS["sam2.1_hiera_tiny"]
COMMAND = [
    "bench",
    "--checkpoint",
    "sam2s_pico",
    "--size",
    "64",
    "--objects",
    "2",
    "--policy",
    "efp",
    "--policy",
    "none",
]
COMMAND += ["--threads", "1", "--steps", "3"]


@pytest.fixture(scope="module")
def report_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "small.json"
    assert main([*COMMAND, "--output", str(path)]) == 0
    return path


def test_the_command_writes_a_report_and_a_plot(report_path):
    report = read(report_path)
    assert report["command"] == " ".join(["sam2s", *COMMAND])
    assert report["machine"]["name"] == describe(CPU) and report["machine"]["threads"] == 1
    assert [(c["policy"], c["objects"], c["memories"], c["pointers"]) for c in report["cases"]] == [
        ("efp", 2, 5, 16), ("none", 2, 0, 0)
    ]  # fmt: skip
    for case in report["cases"]:
        parts = [part for part in PARTS if part != MATCHES] if case["memories"] else (ENCODER, DECODER)
        assert set(case["parts"]) == {*parts, REST} and set(case["work"]) == set(parts)
        assert case["step"]["steps"] == 3 and 0 < case["step"]["median"] <= case["step"]["p90"] <= case["step"]["p99"]
        assert 0 < case["floor_ms"] < case["step"]["median"], "nothing is faster than its floor"
        assert case["peak_bytes"] > 50e6 and case["launched"] is None and case["peer"] is None
    assert report_path.with_suffix(".png").stat().st_size > 10_000


def test_the_page_of_a_gpu_has_also_what_only_a_gpu_has(report_path, tmp_path):
    report = json.loads(report_path.read_text())
    for case in report["cases"]:
        case.update(queued={**case["step"], "median": 4.0}, launched=dict(kernels=321, attention={"fmha_x": 4}))
    (tmp_path / "gpu.json").write_text(json.dumps({**report, "device": "cuda"}))
    page = benchmarks_page(tmp_path)
    assert page.count("| 4.00 | 250 |") == 2 and page.count("| 321 |") == 2 and "Kernels of attention: fmha_x." in page


def test_the_page_is_made_of_the_reports(report_path):
    page = benchmarks_page(report_path.parent)
    report = json.loads(report_path.read_text())
    assert report["command"] in page and report["timed"] in page and report["machine"]["name"] in page
    assert f"![small]({report_path.parent.name}/small.png)" in page
    assert page.count("| sam2s_pico 64 fp32 efp, 2 objects |") == 3, "times, costs and parts"
    report_path.with_name("other.json").write_text("{}")
    with pytest.raises(ConfigError, match="other.json is not a report"):
        benchmarks_page(report_path.parent)


def test_floors_alone_are_those_of_a_timed_run(report_path, tmp_path, capsys):
    """Of the same command but for its steps; the memory is then filled with an input of another size."""
    path = tmp_path / "floors.json"
    assert main([*COMMAND[:-1], "0", "--output", str(path)]) == 0
    assert "operations and floors alone" in capsys.readouterr().out
    timed, floors = read(report_path), read(path)
    assert floors["command"] == " ".join(["sam2s", *COMMAND[:-1], "0"]) and not path.with_suffix(".png").exists()
    same = ("model", "weights", "size", "objects", "precision", "policy", "memories", "pointers", "matched")
    for one, other in zip(timed["cases"], floors["cases"], strict=True):
        assert [one[key] for key in same] == [other[key] for key in same]
        assert other["step"] is other["peer"] is None and other["floor_ms"] > 0
        for part, work in one["work"].items():
            assert [work[key] for key in ("flops", "least_flops", "least_bytes")] == [
                other["work"][part][key] for key in ("flops", "least_flops", "least_bytes")
            ]
    page = benchmarks_page(tmp_path)
    assert page.count("| sam2s_pico 64 fp32 efp, 2 objects |") == 2 and "nothing is timed" in page
    assert "| least GFLOP (floor ms) | image encoder | memory attention |" in page and ".png" not in page


def test_the_page_in_docs_is_that_of_its_reports():
    page = benchmarks_page(ROOT / "docs" / "benchmarks")
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page, "run sam2s bench page > docs/benchmarks.md"


def test_all_combinations_are_run():
    asked = cases([Path("a.pt")], ["b"], [512, 1024], [1, 2], ["fp32", "bf16"], ["fifo"])
    assert len(set(asked)) == len(asked) == 16
    assert {(c.checkpoint, c.model) for c in asked} == {(Path("a.pt"), "auto"), (None, "b")}
    assert not any(c.compiled for c in asked)
    assert all(c.compiled for c in cases([], ["b"], [512], [1, 2], ["bf16"], ["fifo"], compiled=True))


@pytest.mark.parametrize(
    "checkpoints, expected",
    [
        (["sam2.1_hiera_tiny", "sam2.1_hiera_large"], ["sam2.1_hiera_tiny", "sam2.1_hiera_large"]),
        (["runs/a/best.pt", "runs/b/best.pt", "c.pt"], ["a/best.pt", "b/best.pt", "c"]),
        (["best.pt", "best.safetensors", "b/best.pt"], ["best.pt", "best.safetensors", "b/best.pt"]),
        (["/runs/a.b.pt"], ["a.b"]),
    ],
)
def test_checkpoints_are_told_apart(checkpoints, expected):
    """Of `sam2.1_hiera_tiny` the name was `sam2`, and the time of one model with one object was taken for another's."""
    asked = cases([Path(one) for one in checkpoints], ["m"], [64], [1], ["fp32"], ["fifo"])
    assert [weights_of(case, asked) for case in asked] == [*expected, "random"]


def test_a_plot_does_not_take_the_place_of_the_figures(tmp_path, capsys):
    assert main(["bench", "--machine", "--output", str(tmp_path / "figures.png")]) == 2
    assert "expected a name that ends in .json" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_a_compiled_case_says_so():
    case = dict(model="m", weights="random", size=512, precision="bf16", policy="fifo", objects=1)
    assert [name(case | extra) for extra in ({}, dict(compiled=False), dict(compiled=True))] == [
        "m 512 bf16 fifo, 1 object", "m 512 bf16 fifo, 1 object", "m 512 bf16 fifo compiled, 1 object"
    ]  # fmt: skip


def test_p41_figures_and_plot_of_an_earlier_run_stay(tmp_path, capsys):
    measured = ["bench", "--machine", "--threads", "1", "--output", str(tmp_path / "small.json")]
    for earlier in ("small.json", "small.png"):
        (tmp_path / earlier).write_text("earlier\n")
        assert main(measured) == 2
        assert f"{earlier} exists already (8 bytes): give another name, or --overwrite" in capsys.readouterr().err
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {earlier: "earlier\n"}
        (tmp_path / earlier).unlink()


def test_figures_of_an_earlier_run_stay_when_one_that_may_replace_them_fails(tmp_path):
    path = tmp_path / "small.json"
    path.write_text("earlier\n")
    assert main(["bench", "--model", "sam4", "--output", str(path), "--overwrite"]) == 2
    assert path.read_text() == "earlier\n"
    path.unlink()
    assert main(["bench", "--model", "sam4", "--output", str(path)]) == 2 and not path.exists()
    assert main(["bench", "--model", "sam4", "--output", "."]) == 2, "a folder"


def test_bad_input_is_one_sentence_and_exit_code_2(capsys):
    for options, said in (
        (["--dtype", "fp16", "--device", "cpu"], "precision is 'fp16' on a CPU"),
        (
            ["--model", "sam2s_pico", "--peer", "transformers"],
            "peer transformers has no sam2s_pico: expected one of edgetam, ",
        ),
        (["--model", "sam2s_pico", "--policy", "slm", "--size", "64"], "policy is 'slm', but sam2s_pico has no "),
        (["--model", "sam4"], "model 'sam4' is not known"),
        (["--steps", "0", "--peer", "sam2"], "steps is 0, and peer is 'sam2': expected at least 1, or no peer"),
    ):
        assert main(["bench", *options]) == 2
        error = capsys.readouterr().err
        assert error.startswith(said) and error.count("\n") == 1, error


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(NEEDED, "sam2", (("torch", "no_such_module"), "pip install sam2"))
    with pytest.raises(ConfigError, match="peer sam2 needs no_such_module, not installed: pip install sam2"):
        check_peer("sam2", TINY)
    with pytest.raises(ConfigError, match="peer is 'sam4': expected one of transformers, sam2, "):
        check_peer("sam4", TINY)


def test_rates_of_the_machine():
    found = measure(CPU, ["fp32"])
    assert found.matmul["fp32"] > 1e9 and found.bandwidth > 1e8


def test_parts_are_timed_and_the_model_is_itself_again(model):
    tracker = with_full_memory(model, "fifo")
    with PartTimer(model) as timer:
        step(tracker)
        timer.take()
        ms, parts = 1e3 * step(tracker), timer.take()
    assert (
        set(parts) == {*PARTS} - {MATCHES} and all(spent > 0 for spent in parts.values()) and sum(parts.values()) < ms
    )
    assert not {"encode_image", "with_memory", "decode"} & set(vars(model))


def test_correspondences_are_timed_where_a_tracker_has_them(model):
    tracker = with_full_memory(model, "match")
    with PartTimer(model, tracker.matches) as timer:
        step(tracker)
        parts = timer.take()
    assert {part for part, spent in parts.items() if spent} == {ENCODER, MATCHES, DECODER}
    assert not {"propagate", "remember"} & set(vars(tracker.matches))


def test_time_is_booked_to_its_part(model, monkeypatch):
    tracker, attend = with_full_memory(model, "fifo"), Sam2Model.with_memory

    def slow(*arguments):
        time.sleep(0.2)
        return attend(*arguments)

    monkeypatch.setattr(Sam2Model, "with_memory", slow)
    with PartTimer(model) as timer:
        step(tracker)
        assert timer.take()[ATTENTION] >= 200


def test_spread():
    found = Spread.of(list(range(1, 102)))
    assert (found.median, found.p90, found.p99, found.max, found.steps) == (51, 91, 100, 101, 101)


def test_the_peak_is_that_of_what_runs():
    small, large = (peak_bytes(lambda n=n: torch.ones(n * 250_000).sum(), CPU) for n in (1, 200))
    if small is None:
        pytest.skip("the system does not tell the peak of a process's memory, or not to it")
    assert 150e6 < large - small < 400e6


@pytest.mark.full
@pytest.mark.parametrize("peer", ["transformers", "sam2"])
def test_peers_are_in_the_same_state(peer: str):
    """The same weights, image and prompts give the same label maps, but for holes and memories rounded to bf16."""
    try:
        check_peer(peer, TINY)
    except ConfigError as error:
        pytest.skip(str(error))
    asked = BenchOptions(cases([], [TINY.name], [64], [2], ["fp32"], ["fifo"]), "cpu", steps=2, peer=peer)
    *_, report = run(asked, lambda line: None)
    found = report["cases"][0]["peer"]
    assert found["same_pixels"] > 0.85 and 0.2 < found["labelled"] < 0.9, found
    assert found["ratio"] > 0 and "sdpa" in found["how"]


def test_what_a_look_of_discovery_costs(capsys):
    asked = ["bench", "discovery", "--checkpoint", "sam2s_pico", "--image-size", "64", "--device", "cpu"]
    assert main([*asked, "--repeats", "2"]) == 0
    assert "1 pass(es) of the mask decoder for 64 points; " in capsys.readouterr().out
    assert main([*asked, "--repeats", "1", "--option", "discovery_grid=9"]) == 0
    assert "2 pass(es) of the mask decoder for 64 + 17 points; " in capsys.readouterr().out
    assert main([*asked, "--repeats", "1", "--policy", "none"]) == 0
    assert "sam2s_pico/none at 64 px: 1 pass(es)" in capsys.readouterr().out
