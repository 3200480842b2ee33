"""The report as one HTML file that needs nothing else: style, charts (SVG) and pictures (base64) are in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np

from sam2s_model.metrics import j_and_f
from sam2s_ros.evaluation.overlap import summary_ms
from sam2s_ros.evaluation.task import overlay_of, table_of

TEMPLATE = "report.html.jinja"
WIDTH, HEIGHT = 600, 120  # of a chart, in its own units
BINS = 40
BIN_END = 99.5  # percentile; what takes longer is counted in the last bin
COLUMNS = {
    "J": "j", "F": "f", "J&F": "jf", "Dice": "dice", "CIoU": "ciou", "mcIoU": "mciou", "mIoU": "miou",
    "presence F1": "presence_f1", "false presence": "false_presence",
}  # fmt: skip
LATENCIES = {
    "Latency: image published to masks arrived": "sent_to_arrival_ms",
    "In the node: image received to masks ready": "receive_to_finished_ms",
}


def render(report: dict[str, Any], results: Sequence[dict[str, Any]]) -> str:
    """report: of `make_report`; results: of `evaluate`, with rows, pictures and times."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["percent"] = lambda value: "" if value is None else f"{100 * value:.1f}"
    environment.filters["megabytes"] = lambda value: "" if value is None else f"{value / 1e6:.1f}"
    environment.filters["number"] = lambda value: "" if value is None else f"{value:.1f}"
    environment.filters["flat"] = _flat
    if report["live"]:
        times = {title: [ms for r in results for ms in r["live"][name]] for title, name in LATENCIES.items()}
    else:
        times = {"Time of a step": [ms for r in results for ms in r["timing"]["steps_ms"][2:]]}
    return environment.get_template(TEMPLATE).render(
        report=report,
        columns=COLUMNS,
        details=[
            dict(result=result, key=key, last=_last(result), lines=_lines(result), files=_files(report, key))
            for result in results
            for key in (f"{result['data_set']}/{result['name']}",)
        ],
        histograms=[
            dict(title=title, percentiles=summary_ms(values), **_histogram(values))
            for title, values in times.items()
            if values
        ],
        width=WIDTH,
        height=HEIGHT,
    )


def _flat(facts: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Name what lies in mappings by its path: {"a": {"b": 1}, "c": [2, 3]} is a.b = 1 and c = 2, 3."""
    if isinstance(facts, dict):
        for key, value in facts.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(facts, (list, tuple)) and not any(isinstance(value, dict) for value in facts):
        yield name, ", ".join(map(str, facts))
    elif isinstance(facts, (list, tuple)):
        for i, value in enumerate(facts):
            yield from _flat(value, f"{name}.{i}")
    else:
        yield name, facts


def _files(report: dict[str, Any], key: str) -> dict[str, str]:
    """Addresses, from the report, of the files that were written of a recording."""
    kinds = {"table of what was tracked": table_of(key)}
    if report["configuration"].get("overlay"):
        kinds["video with the masks"] = overlay_of(key)
    return {kind: quote(path) for kind, path in kinds.items()}


def _lines(result: dict[str, Any]) -> list[dict[str, str]]:
    """Draw a polyline of J&F over the recording for each object; frame 0 is on the left, 100 % on top."""
    last = _last(result)
    out = []
    for own in result["objects"]:
        rows = [row for row in result["rows"] if row["object"] == own["object"] and row["scored"]]
        points = [(WIDTH * row["frame"] / last, HEIGHT * (1 - j_and_f(row["j"], row["f"]))) for row in rows]
        title = f"{own['object']} {own['class_name']}".strip()
        out.append(dict(title=title, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points)))
    return out


def _last(result: dict[str, Any]) -> int:
    """Return the frame on the right of the chart."""
    return max((1, *(row["frame"] for row in result["rows"])))


def _histogram(steps: Sequence[float]) -> dict[str, Any]:
    """Bars of times in ms, at least one."""
    end = float(np.percentile(steps, BIN_END)) or 1.0
    counts, _ = np.histogram(np.minimum(steps, end), bins=BINS, range=(0.0, end))
    wide, top = WIDTH / BINS, counts.max()
    bars = [dict(x=i * wide, h=float(HEIGHT * count / top), w=wide - 1) for i, count in enumerate(counts)]
    return dict(end=end, bars=bars, most=int(top))
