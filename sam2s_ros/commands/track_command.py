"""`sam2s track` with its progress and tables: one recording, or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sam2s_ros.archive.report import archive_tables
from sam2s_ros.archive.run import ArchiveOptions, run_archive
from sam2s_ros.commands.arguments import FAILED, INTERRUPTED, Workers, line_printer
from sam2s_ros.commands.options import TrackOptions
from sam2s_ros.commands.progress import ArchiveLines, ProgressLines
from sam2s_ros.commands.track import run_track
from sam2s_ros.commands.track_output import OWN_FILES
from sam2s_ros.commands.track_report import track_tables
from sam2s_ros.processes.results import chosen_folder

ARCHIVE = Path("output/archive")


def track_command(options: TrackOptions, output: Path | None) -> int:
    """Track one recording. Returns the exit code. output: None for the default, or a free folder beside it"""
    console = Console()
    say = line_printer(console)
    output = chosen_folder(output, "output/track", OWN_FILES, overwrite=options.overwrite, say=say)
    options = replace(options, output=output, say=say)
    columns = (TextColumn("tracking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        lines = ProgressLines(options.say)
        summary = run_track(
            options,
            (lambda done, total: progress.update(bar, completed=done, total=total)) if console.is_terminal else lines,
        )
    console.print(track_tables(summary, output), crop=False)
    return INTERRUPTED if summary["interrupted"] else 0


def archive_command(sources: Sequence[str], options: TrackOptions, workers: Workers, output: Path | None) -> int:
    """Track several recordings. Returns the exit code: 1 when one failed. output: None for the default"""
    console = Console()
    options = replace(options, output=output or ARCHIVE, say=line_printer(console))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        all_ = progress.add_task("recordings", total=None)
        own = progress.add_task("frames", total=None, visible=workers.jobs == 1 and not workers.ray)
        pace, lines = ArchiveLines(options.say), ProgressLines(options.say)

        def on_recording(done: int, total: int, frames: int) -> None:
            progress.update(all_, completed=done, total=total)
            pace(done, total, frames)

        def on_frame(name: str, done: int, total: int | None) -> None:
            progress.update(own, description=name, completed=done, total=total)
            if not console.is_terminal:
                lines(done, total, name)

        report = run_archive(ArchiveOptions(tuple(sources), options, workers), on_recording, on_frame)
    console.print(archive_tables(report, options.output), crop=False)
    if report["interrupted"]:
        return INTERRUPTED
    return FAILED if report["failed"] else 0
