"""The summary of `sam2s track` for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from sam2s_model.tracks import State
from sam2s_ros.commands.track_output import COCO, PARQUET, TABLE
from sam2s_ros.processes.written import written_files

OF_FRAMES = (("overlay.mp4", "the masks on the images"), ("masks", "one palette PNG a frame; values are labels"))


def track_tables(summary: dict[str, Any], output: Path) -> Group:
    """Lay a summary out for a terminal: print without `crop`.

    summary: as `run_track` returns it; output: the folder it wrote to
    """
    table = Table(
        title=f"{summary['model']} on {summary['device']}, {summary['image_size']} px",
        title_justify="left",
        show_header=False,
    )
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("frames", f"{summary['frames']}{' (interrupted)' if summary['interrupted'] else ''}")
    table.add_row("images and masks left out", str(summary["left_out"]["count"]))
    if summary["step_ms"]["count"]:
        table.add_row(
            "step p50 / p90 / p99 / max",
            "{p50:.1f} / {p90:.1f} / {p99:.1f} / {max:.1f} ms".format(**summary["step_ms"]),
        )
    for row in summary["objects"]:
        if row["mean_iou"] is not None:
            title = f"mean IoU of object {row['object_id']} (label {row['truth_label']})"
            table.add_row(title, f"{row['mean_iou']:.3f} over {row['scored_frames']} frames")
    objects = Table(title="objects, in frames", title_justify="left")
    objects.add_column("object", justify="right")
    objects.add_column("class")
    for state in State:
        objects.add_column(state.name.lower(), justify="right")
    objects.add_column("first lost")
    for row in summary["objects"]:
        counts = (str(row[f"frames_{state.name.lower()}"]) for state in State)
        first = row["first_lost_frame"]
        objects.add_row(str(row["object_id"]), row["class"], *counts, "never" if first is None else f"frame {first}")
    files = [(output / name, what) for name, what in OF_FRAMES if (output / name).exists()]
    files.append((output / TABLE, "a row for each object of each frame: class, state, score, box, area, centroid"))
    further = ((COCO, "the same with masks, as COCO"), (PARQUET, "the table as Parquet"))
    files += [(output / name, what) for name, what in further if (output / name).is_file()]
    files.append((output / "summary.json", "this table"))
    return Group(table, objects, written_files(files))
