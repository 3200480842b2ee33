"""What a benchmark tells: a JSON file, tables on the terminal, a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from sam2s_model.bench.floor import PARTS
from sam2s_model.bench.run import REST
from sam2s_model.errors import ConfigError
from sam2s_model.paths import write_result

DIGITS = 4  # that are kept of a figure
COLOURS = ("#2060a0", "#8050a0", "#c04020", "#e0a030", "#508050", "#a0a0a0")
TIMES = ("step", "ms", "p90", "p99", "max", "steps", "FPS", "each more")
FLOORS = ("step", "GFLOP", "least", "least MB", "floor ms")
COSTS = (*FLOORS, "reached", "peak MB")
PARTS_ON_CUDA = (
    "The parts are those of steps whose kernels are launched one by one, which takes longer than a captured step."
)
UNTIMED = "Not timed: operations and floors alone; as many memories as a tracker holds that has followed small images."
OF_FLOOR = "least GFLOP (floor ms)"
QUEUED = ("queued ms", "queued FPS")
QUEUED_MEANS = "Queued: the next image is there already, and its encoding is begun while this one is tracked."
PEER = ("step", "ours ms", "peer", "ms", "p90", "p99", "ratio")

Sheet = tuple[tuple[str, ...], list[list[str]]]
"""Titles and rows."""


def write(report: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_result(path, json.dumps(_rounded(report), indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a report. Raises ConfigError when the file is none."""
    try:
        report = json.loads(path.read_text())
        assert {"machine", "timed", "cases"} <= report.keys()
    except (OSError, ValueError, AttributeError, AssertionError) as error:
        raise ConfigError(
            f"{path} is not a report of `sam2s bench`: {error or 'it has no machine, timed or cases'}"
        ) from error
    return report


def machine_line(report: dict[str, Any]) -> str:
    """Name, versions and rates."""
    machine = report["machine"]
    rates = ", ".join(f"{precision} {_short(rate / 1e9)} GFLOP/s" for precision, rate in machine["matmul"].items())
    threads = f", threads: {machine['threads']}" if report["device"] == "cpu" else ""
    copies = f"copies {_short(machine['bandwidth'] / 1e9)} GB/s"
    return f"{machine['name']}{threads}; torch {machine['torch']}; {rates}, {copies}"


def tables(report: dict[str, Any]) -> Group:
    """For a terminal."""
    shown = []
    for titles, rows in sheets(report):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column(titles[0], min_width=16)
        for title in titles[1:]:
            table.add_column(title.replace(" ", "\n"), no_wrap=True, justify="right")
        for row in rows:
            table.add_row(*row)
        shown.append(table)
    return Group(machine_line(report), *(shown + timed_lines(report) if report["cases"] else []))


def timed_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cases with times; the others have their operations and floors alone."""
    return [case for case in report["cases"] if case["step"]]


def timed_lines(report: dict[str, Any]) -> list[str]:
    """Say what was timed, of this project and of each peer."""
    timed = timed_of(report)
    if not timed:
        return [UNTIMED]
    peers = {
        f"{peer['name']} {peer['version']} ({peer['how']})": None for case in report["cases"] if (peer := case["peer"])
    }
    lines = [f"Timed: {report['timed']}.", *(f"Timed of {peer}: {report['timed_peer']}." for peer in peers)]
    if report["device"] != "cuda":
        return lines
    attention = [case["launched"]["attention"] for case in timed]
    kernels = sorted({kernel for of_step in attention for kernel in of_step})
    return [*lines, QUEUED_MEANS, PARTS_ON_CUDA, f"Kernels of attention: {', '.join(kernels) or 'none by that name'}."]


def sheets(report: dict[str, Any]) -> list[Sheet]:
    """Make the tables: times, the costs behind them, peers, and the parts of a step; where nothing was timed the costs
    and those of the parts.
    """
    cases, on_cuda = report["cases"], report["device"] == "cuda"
    if not timed_of(report):
        shown = [part for part in PARTS if any(part in case["work"] for case in cases)]
        return [
            (FLOORS, [[name(case), *_floor(case)] for case in cases]),
            ((OF_FLOOR, *shown), [[name(case), *_floor_parts(case, shown)] for case in cases]),
        ]
    times = (
        TIMES + (QUEUED if on_cuda else ()),
        [[name(case), *_times(case), _each_more(case, cases), *_queued(case, on_cuda)] for case in cases],
    )
    costs = (COSTS + (("kernels",) if on_cuda else ()), [[name(case), *_costs(case, on_cuda)] for case in cases])
    peers = (PEER, [[name(case), *_beside_peer(case)] for case in cases if case["peer"]])
    shown = [part for part in (*PARTS, REST) if any(part in case["parts"] for case in cases)]
    parts = (("median ms", *shown), [[name(case), *_parts(case, shown)] for case in cases])
    return [times, costs, *([peers] if peers[1] else []), parts]


def _times(case: dict[str, Any]) -> list[str]:
    step = case["step"]
    return [
        *(_short(step[key]) for key in ("median", "p90", "p99", "max")),
        str(step["steps"]),
        _short(1e3 / step["median"]),
    ]


def _queued(case: dict[str, Any], on_cuda: bool) -> list[str]:
    return [_short(case["queued"]["median"]), _short(1e3 / case["queued"]["median"])] if on_cuda else []


def _each_more(case: dict[str, Any], cases: list[dict[str, Any]]) -> str:
    """Compare with the same case with one object: the share of its time that each further object adds."""

    def kind(of: dict[str, Any]) -> list:
        return [of[key] for key in ("model", "weights", "size", "precision", "policy")]

    one = next(
        (other["step"]["median"] for other in cases if other["objects"] == 1 and kind(other) == kind(case)), None
    )
    if one is None or case["objects"] == 1:
        return ""
    return _share((case["step"]["median"] - one) / (case["objects"] - 1), one)


def _beside_peer(case: dict[str, Any]) -> list[str]:
    peer = case["peer"]
    times = (_short(peer["step"][key]) for key in ("median", "p90", "p99"))
    return [_short(case["step"]["median"]), peer["name"], *times, f"{peer['ratio']:.2f}x"]


def _costs(case: dict[str, Any], on_cuda: bool) -> list[str]:
    cells = [
        *_floor(case),
        _share(case["floor_ms"], case["step"]["median"]),
        _short(case["peak_bytes"] / 1e6) if case["peak_bytes"] else "",
    ]
    return cells + ([str(case["launched"]["kernels"])] if on_cuda else [])


def _floor(case: dict[str, Any]) -> list[str]:
    done, least, moved = (
        sum(part[key] for part in case["work"].values()) for key in ("flops", "least_flops", "least_bytes")
    )
    return [_short(done / 1e9), _short(least / 1e9), _short(moved / 1e6), _short(case["floor_ms"])]


def _floor_parts(case: dict[str, Any], shown: list[str]) -> list[str]:
    works = [case["work"].get(part) for part in shown]
    return [f"{_short(work['least_flops'] / 1e9)} ({_short(work['floor_ms'])})" if work else "" for work in works]


def _parts(case: dict[str, Any], shown: list[str]) -> list[str]:
    """Of each part its median, and how much of the floor that reaches."""
    cells = []
    for part in shown:
        ms, floor = case["parts"].get(part, {}).get("median"), case["work"].get(part, {}).get("floor_ms")
        cells.append("" if ms is None else _short(ms) + (f" ({_share(floor, ms)})" if floor else ""))
    return cells


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %"


def name(case: dict[str, Any]) -> str:
    weights = "" if case["weights"] in ("random", case["model"]) else f" ({case['weights']})"
    objects = "1 object" if case["objects"] == 1 else f"{case['objects']} objects"
    compiled = " compiled" if case.get("compiled") else ""  # which reports of earlier versions do not say
    return f"{case['model']}{weights} {case['size']} {case['precision']} {case['policy']}{compiled}, {objects}"


def plot(report: dict[str, Any], path: Path) -> None:
    """Bars of a step's parts, with its floor and its peer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = report["cases"]
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.45 * len(cases)), layout="constrained")
    rows, ends = range(len(cases)), [0.0] * len(cases)
    for part, colour in zip((*PARTS, REST), COLOURS, strict=True):
        ms = [case["parts"].get(part, {}).get("median", 0.0) for case in cases]
        axes.barh(rows, ms, left=ends, color=colour, label=part, height=0.6)
        ends = [end + own for end, own in zip(ends, ms, strict=True)]
    axes.plot([case["floor_ms"] for case in cases], rows, "|", color="black", markersize=16, label="floor")
    peers = [(case["peer"]["step"]["median"], row) for row, case in enumerate(cases) if case["peer"]]
    if peers:
        axes.plot(*zip(*peers, strict=True), "D", color="black", markersize=5, label=cases[0]["peer"]["name"])
    axes.set(xlabel="median ms a step", yticks=rows, yticklabels=[name(case) for case in cases], xlim=(0, None))
    axes.invert_yaxis()
    axes.set_title(report["machine"]["name"], fontsize=9)
    figure.legend(loc="outside lower center", ncols=len(PARTS) + 3, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _short(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
