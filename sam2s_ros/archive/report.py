"""One report over an archive: archive.json, a row for each recording in archive.csv, for each object in objects.csv.

The tables hold nothing that depends on where or how fast it ran: two runs of one archive give the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from json import dumps, loads
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from sam2s_model.paths import write_whole
from sam2s_model.tracks import State
from sam2s_ros.commands.progress import duration
from sam2s_ros.commands.track_output import TABLE

JSON, CSV, OBJECTS = "archive.json", "archive.csv", "objects.csv"
REPORTS = (JSON, CSV, OBJECTS)
STATES = tuple(f"frames_{state.name.lower()}" for state in State)
COLUMNS = (
    "recording", "status", "reason", "source", "kind", "width", "height", "fps", "frames", "seconds_of_video",
    "left_out", "objects", *STATES, "objects_lost", "mean_iou", "model", "tracks_sha256",
)  # fmt: skip
OBJECT_COLUMNS = (
    "recording", "object_id", "class", *STATES, "first_lost_frame", "first_lost_stamp_ns", "truth_label", "mean_iou",
    "scored_frames",
)  # fmt: skip
MOST_ROWS = 40  # of the table in a terminal


def result_of(summary: dict[str, Any], folder: Path, notes: Sequence[str]) -> dict[str, Any]:
    """Return what the report has of a recording. summary: of `run_track`; notes: what it said."""
    source = summary["source"]
    table = folder / TABLE
    result = dict(
        interrupted=summary["interrupted"],
        source=source["spec"],
        kind=source["kind"],
        height=source["size"][0],
        width=source["size"][1],
        fps=source["fps"],
        frames=summary["frames"],
        left_out=summary["left_out"]["count"],
        objects=summary["objects"],
        model=summary["model"],
        device=summary["device"],
        seconds=summary["seconds"],
        step_ms=summary["step_ms"],
        notes=list(notes),
        tracks_sha256=hashlib.sha256(table.read_bytes()).hexdigest() if table.is_file() else "",
    )
    # as a file gives it back: numpy rounds its own numbers otherwise, and what is gone on with must be the same
    return loads(dumps(result))


def make_report(
    settings: dict[str, Any],
    keys: Sequence[str],
    results: Mapping[str, dict[str, Any]],
    failed: Mapping[str, str],
    attempts: Mapping[str, int],
    *,
    interrupted: bool,
    seconds: float,
    now: Sequence[str],
    workers: str,
) -> dict[str, Any]:
    """Return the report. `recordings` and `objects` are the tables; what depends on the machine is under `timing`.

    keys: all recordings, in order; attempts: of those that needed more than one
    seconds: that this run took; now: recordings that it has tracked; workers: where, in words
    """
    rows = [_row(key, results.get(key), failed.get(key, "")) for key in keys]
    frames = sum(results[key]["frames"] for key in now)
    video = sum(results[key]["frames"] / results[key]["fps"] for key in now)
    return dict(
        command="track",
        settings=settings,
        interrupted=interrupted,
        recordings=rows,
        objects=[_object(key, own) for key in keys if key in results for own in results[key]["objects"]],
        totals={
            name: sum(row[name] or 0 for row in rows) for name in ("frames", "seconds_of_video", "objects", *STATES)
        },
        failed=dict(failed),
        attempts=dict(attempts),
        notes={key: results[key]["notes"] for key in keys if key in results and results[key]["notes"]},
        timing=dict(
            workers=workers,
            seconds=round(seconds, 3),
            recordings=len(now),
            frames=frames,
            seconds_of_video=round(video, 3),
            frames_per_second=round(frames / seconds, 3) if seconds and frames else None,
            times_real_time=round(video / seconds, 4) if seconds and frames else None,
            devices=sorted({results[key]["device"] for key in results}),
            of_recordings={
                key: dict(seconds=results[key]["seconds"], step_ms=results[key]["step_ms"])
                for key in keys
                if key in results
            },
        ),
    )


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write the three files, each whole. Raises OSError."""
    write_whole(folder / CSV, _csv(COLUMNS, report["recordings"]))
    write_whole(folder / OBJECTS, _csv(OBJECT_COLUMNS, report["objects"]))
    write_whole(folder / JSON, dumps(report, indent=1) + "\n")


def throughput(timing: dict[str, Any]) -> str:
    """Say how fast it went, in one line."""
    if not timing["frames_per_second"]:
        return "nothing was tracked in this run"
    return (
        f"{timing['recordings']} recordings, {timing['frames']} frames in {duration(timing['seconds'])} with "
        f"{timing['workers']}: {timing['frames_per_second']:.3g} frames/s, "
        f"{timing['times_real_time']:.3g} times real time"
    )


def archive_tables(report: dict[str, Any], output: Path) -> Group:
    """Lay a report out for a terminal. Lines are not wrapped: print without `crop`."""
    rows = report["recordings"]
    table = Table(title=f"{len(rows)} recordings", title_justify="left")
    table.add_column("recording", overflow="fold")  # the ends of names differ
    for name in ("frames", "objects", *(state.name.lower() for state in State)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:MOST_ROWS]:
        if row["status"] == "done":
            table.add_row(row["recording"], *(str(row[name]) for name in ("frames", "objects", *STATES)))
        else:
            table.add_row(row["recording"], row["status"])
    if len(rows) > MOST_ROWS:
        table.add_row(f"and {len(rows) - MOST_ROWS} more")
    totals = report["totals"]
    table.add_section()
    table.add_row("all", *(str(totals[name]) for name in ("frames", "objects", *STATES)), style="bold")
    lines = [throughput(report["timing"])]
    again = report["attempts"]
    lines += [f"{key} took {count} attempts: a worker died, or there was no room" for key, count in again.items()]
    lines += [f"failed: {key}: {reason}" for key, reason in report["failed"].items()]
    lines += ["interrupted: the same command goes on with what is left"] if report["interrupted"] else []
    lines += [f"{output / CSV}, {OBJECTS}, {JSON}; of each recording {output / 'recordings'}/NAME/{TABLE}"]
    return Group(table, *(Text(line, no_wrap=True, overflow="ignore") for line in lines))


def _row(key: str, result: dict[str, Any] | None, reason: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS, None)
    row |= dict(recording=key, status="failed" if reason else "left", reason=reason)
    if result is None:
        return row
    scored = [own["mean_iou"] for own in result["objects"] if own["mean_iou"] is not None]
    return row | dict(
        status="done",
        **{name: result[name] for name in ("source", "kind", "width", "height", "fps", "frames", "left_out", "model")},
        tracks_sha256=result["tracks_sha256"],
        seconds_of_video=round(result["frames"] / result["fps"], 3),
        objects=len(result["objects"]),
        **{name: sum(own[name] for own in result["objects"]) for name in STATES},
        objects_lost=sum(own["first_lost_frame"] is not None for own in result["objects"]),
        mean_iou=round(sum(scored) / len(scored), 6) if scored else None,
    )


def _object(key: str, own: dict[str, Any]) -> dict[str, Any]:
    return dict(recording=key, **{name: own[name] for name in OBJECT_COLUMNS[1:]})


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
