"""The report of an evaluation as a dictionary and as files: report.json, frames.csv, report.html."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.evaluation.scores import data_set_figures, overall_figures
from sam2s_model.metrics import j_and_f
from sam2s_model.paths import write_whole
from sam2s_ros.evaluation.html import render
from sam2s_ros.evaluation.live_result import live_report
from sam2s_ros.evaluation.overlap import summary_ms

JSON, CSV, HTML = "report.json", "frames.csv", "report.html"
COLUMNS = (
    "data_set", "recording", "frame", "name", "object", "class", "j", "f", "jf", "dice", "present", "found", "track",
    "scored",
)  # fmt: skip
OF_A_RECORDING = ("fps", "step_ms", "memory_bytes", "device_peak_bytes")  # times and memory


def make_report(
    configuration: dict[str, Any],
    versions: dict[str, str | None],
    results: Sequence[dict[str, Any]],
    failed: dict[str, str],
    attempts: dict[str, int],
    *,
    checkpoint: str = "",
    interrupted: bool = False,
) -> dict[str, Any]:
    """Return figures overall, of data sets, recordings and objects.

    Of an offline evaluation, what depends on the machine's speed is under `timing` only, and `live` is None; otherwise
    it is that of `live_report`.

    results: of `evaluate_recording` or `live_result`; failed: recording -> reason
    attempts: of recordings that needed more than one; checkpoint: its name, for people: configuration has the SHA-256
    interrupted: whether Ctrl-C ended it before all recordings were evaluated
    """
    names = list(dict.fromkeys(result["data_set"] for result in results))
    data_sets = []
    for name in names:
        own = [result for result in results if result["data_set"] == name]
        data_sets.append(dict(name=name, recordings=len(own), **data_set_figures(own, [r["name"] for r in own])))
    return dict(
        command="eval",
        protocol="a file"
        if "prompts_sha256" in configuration
        else EvaluationProtocol(**configuration["protocol"]).name,
        checkpoint=checkpoint,
        classes=_classes(results),
        overall=overall_figures(data_sets),
        data_sets=data_sets,
        recordings=[_recording(result) for result in results],
        frames_read=sum(result["frames_read"] for result in results),
        live=live_report(results) if configuration["mode"] == "live" else None,
        interrupted=interrupted,
        unscored={
            f"{r['data_set']}/{r['name']}": why_nothing(r, configuration["protocol"])
            for r in results
            if not r["scored_frames"]
        },
        failed=failed,
        attempts=attempts,
        configuration=configuration,
        versions=versions,
        timing=_timing(results),
    )


def _classes(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the means over the objects of each class that has a name, of all recordings."""
    objects = [own for result in results for own in result["objects"] if own["class_name"]]
    out = []
    for name in sorted({own["class_name"] for own in objects}):
        of_class = [own for own in objects if own["class_name"] == name]
        means = {key: _mean([own[key] for own in of_class]) for key in ("j", "f", "jf", "dice")}
        out.append(dict(name=name, objects=len(of_class), **means))
    return out


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def why_nothing(result: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Why nothing of a recording could be scored, in one sentence. protocol: as in the report's configuration"""
    odd, annotated, read = result["odd"], result["annotated"], result["frames_read"]
    lost = f": {odd['count']} images or masks were left out, the first: {odd['named'][0]}" if odd["count"] else ""
    if not annotated:
        return f"none of its {read} frames has a mask{lost}"
    if not result["objects"]:
        return f"no object is seen in its {annotated} annotated frames{lost}"
    live = result.get("live")
    if live and live["delivered"] < live["sent"]:
        came = f"masks of {live['delivered']} of its {live['sent']} frames came, and none of a frame that counts"
        return f"{came}: give a lower --rate, a smaller --image-size or a faster checkpoint{lost}"
    if protocol["scored"] == "davis":
        rule = "neither the frame an object is prompted on nor the last annotated one counts: --scored all counts both"
        return f"{annotated} annotated frames leave none to score, since {rule}{lost}"
    return f"its {annotated} annotated frames say nothing of its objects after their prompts{lost}"


def _recording(result: dict[str, Any]) -> dict[str, Any]:
    kept = (
        "data_set",
        "name",
        "frames_read",
        "annotated",
        "scored_frames",
        "size",
        "odd",
        "unprompted",
        "figures",
        "objects",
    )
    since = dict(
        images_left_out=result.get("images_left_out", 0), notes=result.get("notes", [])
    )  # not in older results
    return {**{name: result[name] for name in kept}, **since}


def _timing(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    steps = [ms for result in results for ms in result["timing"]["steps_ms"][2:]]
    each = [result["timing"] for result in results]
    timed = [own for own in each if own["fps"]]
    seconds = sum(own["step_ms"]["count"] / own["fps"] for own in timed)
    peaks = [own["device_peak_bytes"] for own in each if own["device_peak_bytes"]]
    return dict(
        written=datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        devices=sorted({result["device"] for result in results}),
        models=sorted({f"{result['model']}, {result['image_size']} px" for result in results}),
        fps=sum(own["step_ms"]["count"] for own in timed) / seconds if timed else None,
        step_ms=summary_ms(steps),
        memory_bytes=max((own["memory_bytes"] for own in each), default=None),
        device_peak_bytes=max(peaks, default=None),
        recordings={
            f"{result['data_set']}/{result['name']}": {name: own[name] for name in OF_A_RECORDING}
            for result, own in zip(results, each, strict=True)
        },
    )


def read_report(path: Path) -> dict[str, Any]:
    """Read the report in an output folder, or in a file. Raises ConfigError."""
    path = path / JSON if path.is_dir() else path
    try:
        report = json.loads(path.read_text())
        if report["command"] == "eval":
            return report
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a report of `sam2s eval` ({type(error).__name__}: {error})") from error
    raise ConfigError(f"{path} is a report of {report['command']!r}: expected one of `sam2s eval`")


def write_report(folder: Path, report: dict[str, Any], results: Sequence[dict[str, Any]]) -> None:
    """Write the three files over those that may be there."""
    write_whole(folder / JSON, json.dumps(report, indent=1) + "\n")
    write_whole(folder / HTML, render(report, results))
    with (folder / CSV).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for result in results:
            classes = {own["object"]: own["class_name"] for own in result["objects"]}
            for row in result["rows"]:
                values = {**row, "jf": j_and_f(row["j"], row["f"]), "class": classes[row["object"]]}
                values |= {name: int(row[name]) for name in ("present", "found", "scored")}
                table.writerow([result["data_set"], result["name"], *(values[name] for name in COLUMNS[2:])])
