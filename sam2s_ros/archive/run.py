"""An archive from its sources to its report. Killed at any time, the same command goes on with what is left."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.evaluation.compare import changed_settings
from sam2s_model.files.file_locks import lock
from sam2s_model.paths import absolute, expanded, write_whole, writing
from sam2s_ros.archive.plan import RECORDINGS, plan_archive
from sam2s_ros.archive.report import REPORTS, make_report, result_of, write_report
from sam2s_ros.archive.task import WHOLE, ArchiveTask
from sam2s_ros.commands.arguments import Workers
from sam2s_ros.commands.checkpoints import checkpoint_or_default
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.commands.options import TrackOptions
from sam2s_ros.commands.track import run_track
from sam2s_ros.commands.track_output import OWN_FILES as OF_A_RECORDING
from sam2s_ros.evaluation.runners import InProcess, Processes, RayCluster, Runner, run_all
from sam2s_ros.processes.results import claim, present

if TYPE_CHECKING:  # torch takes seconds to import
    from sam2s_model.network.model import Sam2Model

SETTINGS = "archive_settings.json"
OWN_FILES = (*REPORTS, SETTINGS, *(f"{RECORDINGS}/*/{name}" for name in (*OF_A_RECORDING, WHOLE)))
OnFrame = Callable[[str, int, int | None], Any]


@dataclass(frozen=True)
class ArchiveOptions:
    """sources: paths, data sets or URIs; track: of each, with the archive's output folder; workers: where."""

    sources: tuple[str, ...]
    track: TrackOptions
    workers: Workers = Workers()


def run_archive(
    options: ArchiveOptions,
    on_recording: Callable[[int, int, int], Any] = lambda done, total, frames: None,
    on_frame: OnFrame = lambda name, done, total: None,
) -> dict[str, Any]:
    """Track what is not yet there, and write the report: archive.json, archive.csv, objects.csv. Returns the first.

    Each recording has its folder, recordings/NAME, as of `sam2s track`, and is not tracked again once it is whole,
    unless it or its prompts have changed. One that cannot be read, or that its prompts do not fit, is listed with the
    reason; the others go on. What a worker that dies was at is tried again. After Ctrl-C the report has what there is.

    on_recording: called with the recordings done, their number, and the frames tracked by this run so far
    on_frame: within a recording, where it is tracked in this process
    Raises a Sam2sError for bad input, as prompts or their masks that cannot be read, before anything is tracked, and
    ConfigError for a folder of an archive that was tracked otherwise.
    """
    track, say = options.track, options.track.say
    tasks, settings = _plan(options)
    with _claimed(track.output, settings, overwrite=track.overwrite, inputs=options.sources):
        finished = {task.key: task.finished() for task in tasks}
        results = {key: result for key, result in finished.items() if result is not None}
        left = [task for task in tasks if task.key not in results]
        if len(left) < len(tasks):
            say(f"{len(tasks) - len(left)} of {len(tasks)} recordings are there already")
        failed: dict[str, str] = {}
        attempts: dict[str, int] = {}
        interrupted, began = False, time.monotonic()
        frames = 0
        on_recording(len(results), len(tasks), 0)
        try:
            for task, outcome, tried in run_all(_runner(options.workers, on_frame), left) if left else ():
                if tried > 1:
                    attempts[task.key] = tried
                if isinstance(outcome, CheckpointError):
                    raise outcome  # it is not the recording that is wrong
                if isinstance(outcome, Exception):
                    failed[task.key] = f"{type(outcome).__name__}: {outcome}"
                    say(f"{task.key} failed: {outcome}")
                elif outcome["interrupted"]:
                    raise KeyboardInterrupt  # it is tracked anew when this archive is gone on with
                else:
                    for note in outcome["notes"]:
                        say(f"{task.key}: {note}")
                    results[task.key] = outcome
                    frames += outcome["frames"]
                    write_whole(task.folder / WHOLE, json.dumps(dict(made_of=task.made_of(), result=outcome)))
                on_recording(len(results) + len(failed), len(tasks), frames)
        except KeyboardInterrupt:
            interrupted = True
        report = make_report(
            settings, [task.key for task in tasks], results, failed, attempts,
            interrupted=interrupted, seconds=time.monotonic() - began, now=[t.key for t in left if t.key in results],
            workers=_workers_said(options.workers),
        )  # fmt: skip
        write_report(track.output, report)
    return report


def track_recording(task: ArchiveTask, on_frame: Callable[[int, int | None], Any] | None = None) -> dict[str, Any]:
    """Track a recording into its folder, wherever this runs. Returns its part of the report.

    Raises Sam2sError for what cannot be read or run.
    """
    from sam2s_model.device import use_deterministic_algorithms

    use_deterministic_algorithms(True)
    notes: list[str] = []
    options = replace(task.options, overwrite=True, say=notes.append)  # what is there was not finished
    (task.folder / WHOLE).unlink(missing_ok=True)
    summary = run_track(options, on_frame or (lambda done, total: None), _model)
    return result_of(summary, task.folder, notes)


@lru_cache(maxsize=1)
def _model(engine: EngineOptions) -> Sam2Model:
    return engine.load()


def _plan(options: ArchiveOptions) -> tuple[list[ArchiveTask], dict[str, Any]]:
    """Return the tasks, and all that their results depend on besides recording and prompts."""
    from sam2s_model.checkpoint import file_sha256

    track, workers = options.track, options.workers
    kind = "scene" if all(source.startswith("scene:") for source in options.sources) else "recording"
    checkpoint = checkpoint_or_default(track.engine.checkpoint, kind, track.engine.device, track.say).resolve()
    engine = replace(track.engine, checkpoint=checkpoint)
    sought = track.sought.prototypes
    prototypes = expanded(sought).resolve() if sought else None
    if prototypes and not prototypes.is_file():
        raise ConfigError(f"--prototypes {sought} does not exist: expected a file of `sam2s prototypes build`")
    threads = workers.threads or 1  # the last bits depend on it, and must not on where a recording is tracked
    track = replace(
        track, engine=engine, output=track.output.resolve(), threads=threads, say=_silent,
        sought=replace(track.sought, prototypes=prototypes),
    )  # fmt: skip
    tasks = plan_archive(options.sources, track)
    settings: dict[str, Any] = dict(
        checkpoint=str(checkpoint), checkpoint_sha256=file_sha256(checkpoint), engine=engine.settings(),
        frames=track.frames, start=track.start, label_set=absolute(track.label_set), mask_values=track.mask_values,
        topic=track.topic, mask_topic=track.mask_topic, crop=track.crop, classes=list(track.prompts.class_name),
        look_every=track.sought.look_every if prototypes else 0,
        prototypes_sha256=hashlib.sha256(prototypes.read_bytes()).hexdigest() if prototypes else "",
        files=dict(coco=track.coco, parquet=track.parquet, masks=track.masks, overlay=track.overlay),
        threads=threads,
    )  # fmt: skip
    return tasks, settings


def _silent(line: str) -> None:
    """Say nothing: a function of a module, which travels to other processes."""


def _runner(workers: Workers, on_frame: OnFrame) -> Runner[ArchiveTask]:
    if workers.ray:
        return RayCluster(workers.ray, track_recording)
    if workers.jobs > 1:
        return Processes(workers.jobs, track_recording)
    return InProcess(lambda task: track_recording(task, lambda done, total: on_frame(task.key, done, total)))


def _workers_said(workers: Workers) -> str:
    if workers.ray:
        return f"Ray at {workers.ray}"
    return f"{workers.jobs} processes" if workers.jobs > 1 else "one process"


@contextmanager
def _claimed(folder: Path, settings: dict[str, Any], *, overwrite: bool, inputs: Iterable[str]) -> Iterator[None]:
    """Make the folder that of this archive, and of this process as long as the context lasts.

    Raises ConfigError when it has an archive that was tracked otherwise, and `overwrite` is false, when it has results
    that are of none, and while another process is at it.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / f".{SETTINGS}.lock").open("w")
        try:
            lock(file)
        except OSError as error:
            file.close()
            if not isinstance(error, BlockingIOError):
                raise
            raise ConfigError(f"another `sam2s track` is at {folder}: wait for it, or give another --output") from error
    with file:
        _claim(folder, settings, overwrite=overwrite, inputs=inputs)
        yield


def _claim(folder: Path, settings: dict[str, Any], *, overwrite: bool, inputs: Iterable[str]) -> None:
    path = folder / SETTINGS
    try:
        known = json.loads(path.read_text()) if path.is_file() else None
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): give another --output") from error
    if known is None:
        foreign = present(folder, (*OF_A_RECORDING, *OWN_FILES))
        if foreign:
            raise ConfigError(
                f"{folder} has {foreign[0].name} but no {SETTINGS}: it is of no archive, give another --output"
            )
    elif overwrite:
        claim(folder, OWN_FILES, overwrite=True, inputs=inputs)
    elif known != settings:
        name, (before, now) = next(iter(changed_settings(known, settings).items()))
        raise ConfigError(
            f"{folder} has an archive with {name} {before!r}, and this one has {now!r}: give --overwrite, or give "
            "another --output"
        )
    with writing(folder):
        write_whole(path, json.dumps(settings))
