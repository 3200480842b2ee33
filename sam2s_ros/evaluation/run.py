"""An evaluation from its options to its report. Killed at any time, the same command goes on with what is left."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import torch

from sam2s_model.checkpoint import file_sha256
from sam2s_model.errors import CheckpointError, ConfigError, SourceError
from sam2s_model.evaluation.compare import changed_settings
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.paths import absolute, expanded, write_whole, writing
from sam2s_model.prompting.prompt_script import PromptScript, prompt_bytes
from sam2s_model.recordings.file_stamp import recording_stamp
from sam2s_model.recordings.mask_files import merge_mask_lines
from sam2s_model.recordings.open import Source, describe_incomplete, open_recordings
from sam2s_model.recordings.recording import Recording
from sam2s_model.recordings.stream_spec import without_password
from sam2s_model.similar import meant
from sam2s_ros.commands.checkpoints import checkpoint_or_default
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.evaluation.evaluate import evaluate_recording
from sam2s_ros.evaluation.live import LiveNode
from sam2s_ros.evaluation.report import make_report, write_report
from sam2s_ros.evaluation.runners import InProcess, Processes, RayCluster, run_all
from sam2s_ros.evaluation.task import MASKS, Task, overlay_of, table_of
from sam2s_ros.processes.dds import share_directory
from sam2s_ros.processes.results import claim, present

RUN, RECORDINGS = "evaluation.json", "recordings"
# what an evaluation writes besides, and what is replaced as a whole
OWN_FILES = (
    "report.json", "report.html", "frames.csv", RUN, f"{RECORDINGS}/**/*.json",
    "overlay/**/*.mp4", "masks/**/*.png", "masks/**/*.mcap", "tracks/**/*.csv",
)  # fmt: skip


@dataclass(frozen=True)
class EvalOptions:
    """What is evaluated, with what, how, and where the report goes.

    only: names of the recordings to take, empty: all
    prompts: file of prompts in place of the protocol's, or folder of NAME.yaml, one for each recording; "" for none
    rate: of the live mode, see `Task`; 0: offline
    threads: see `Task`; jobs: processes; ray: address of a cluster, "" for none
    overwrite: whether what `output` has of another evaluation, or of this one, is removed first
    say: told what the user should know, one line at a time
    """

    sources: tuple[Source, ...]
    output: Path
    engine: EngineOptions = EngineOptions()
    protocol: EvaluationProtocol = EvaluationProtocol()
    only: tuple[str, ...] = ()
    prompts: str = ""
    overlay: bool = False
    masks: bool = False
    masks_bag: bool = False
    rate: float = 0.0
    threads: int = 1
    jobs: int = 1
    ray: str = ""
    overwrite: bool = False
    say: Callable[[str], Any] = print


def run_evaluation(
    options: EvalOptions,
    on_recording: Callable[[int, int], Any] = lambda done, total: None,
    on_frame: Callable[[str, int, int | None], Any] = lambda name, done, total: None,
) -> dict[str, Any]:
    """Evaluate what is not yet there, and write the report. Returns the report, also in report.json.

    Each recording is written to recordings/DATA_SET/NAME.json when it is finished, and not evaluated again, unless its
    files have changed. A recording that cannot be read is listed with the reason; the others go on. After Ctrl-C the
    report has what there is, with a live recording up to there, and says `interrupted`.

    on_recording: called with the recordings done and their number; on_frame: within a recording, in this process only
    Raises a Sam2sError for bad input, and ConfigError for a folder with recordings that were evaluated otherwise;
    KeyboardInterrupt when there is nothing to report yet; in the live mode what `LiveNode` raises.
    """
    tasks, checkpoint, said, files = _plan(options)
    configuration = _configuration(options, checkpoint)
    files += [Path(task.prompts) for task in tasks if task.prompts]
    _claim(options.output, configuration, overwrite=options.overwrite, files=files)
    for line in said:
        options.say(line)
    finished = {task.key: _finished(options.output, task) for task in tasks}
    results = {key: result for key, result in finished.items() if result is not None}
    left = [task for task in tasks if task.key not in results]
    if len(left) < len(tasks):
        options.say(f"{len(tasks) - len(left)} of {len(tasks)} recordings are there already")
    for line in _why_anew(options.output, left):
        options.say(line)
    on_recording(len(tasks) - len(left), len(tasks))
    failed, attempts, interrupted = {}, {}, False
    try:
        for task, outcome, tried in run_all(_runner(options, on_frame), left) if left else ():
            if tried > 1:
                attempts[task.key] = tried
            if isinstance(outcome, (ConfigError, CheckpointError)):
                raise outcome  # it is not the recording that is wrong
            if isinstance(outcome, Exception):
                failed[task.key] = f"{type(outcome).__name__}: {outcome}"
                options.say(f"{task.key} failed: {outcome}")
            else:
                results[task.key] = outcome
                if outcome.get("interrupted"):
                    raise KeyboardInterrupt  # it is evaluated anew when this evaluation goes on
                path = _path(options.output, task)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, json.dumps(dict(made_of=task.made_of, result=outcome)))
            on_recording(len(results), len(tasks))
    except KeyboardInterrupt:
        interrupted = True
    found = [results[task.key] for task in tasks if task.key in results]
    if interrupted and not found:
        raise KeyboardInterrupt
    report = make_report(
        configuration, _versions(), found, failed, attempts, checkpoint=checkpoint.name, interrupted=interrupted
    )
    write_report(options.output, report, found)
    return report


def _plan(options: EvalOptions) -> tuple[list[Task], Path, list[str], list[Path]]:
    """Open the sources.

    Returns a task for each recording, in the order of the sources; the checkpoint; lines on how masks are read; the
    files of all recordings, those that are left out as well.
    Raises SourceError, ConfigError, CheckpointError.
    """
    tasks: list[Task] = []
    opened: dict[str, Recording] = {}
    lines = [line for source in options.sources if (line := describe_incomplete(source))]
    taken: set[str] = set()
    kinds = set()
    for source in options.sources:
        recordings = open_recordings(source)
        own = recordings[0].data_set
        data_set = next(name for name in (own, *(f"{own}-{i}" for i in range(2, 10**6))) if name not in taken)
        taken.add(data_set)
        kinds.add("scene" if source.spec.startswith("scene:") else "recording")
        source = replace(source, data_set=data_set)
        tasks += [Task(source, data_set, recording.name, options.engine, options.protocol) for recording in recordings]
        opened |= {f"{data_set}/{recording.name}": recording for recording in recordings}
    names = {task.name for task in tasks}
    for name in options.only:
        if name not in names:
            known = ", ".join(sorted(names)) + meant(name, names)
            raise ConfigError(f"there is no recording {name!r}: expected one of {known}")
    tasks = [task for task in tasks if not options.only or task.name in options.only]
    kind = "scene" if kinds == {"scene"} else "recording"
    checkpoint = checkpoint_or_default(options.engine.checkpoint, kind, options.engine.device, options.say)
    adapter = expanded(options.engine.adapter).resolve() if options.engine.adapter else None
    if adapter and not adapter.is_file():
        raise CheckpointError(f"adapter {str(adapter)!r} does not exist: give the path of a file")
    engine = replace(options.engine, checkpoint=checkpoint.resolve(), adapter=adapter)
    folder = options.output.resolve()
    return (
        [
            replace(
                task,
                engine=engine,
                output=str(folder),
                overlay=str(folder / overlay_of(task.key)) if options.overlay else "",
                masks=str(folder / MASKS / task.key) if options.masks else "",
                made_of=tuple(recording_stamp(opened[task.key])),
                masks_bag=str(folder / MASKS / f"{task.key}.mcap") if options.masks_bag else "",
                prompts=_prompts_of(task, options.prompts, len(tasks)),
                table=str(folder / table_of(task.key)),
                rate=options.rate,
                threads=options.threads,
            )
            for task in tasks
        ],
        checkpoint,
        lines + merge_mask_lines(_mask_lines([opened[task.key] for task in tasks])),
        [file for recording in opened.values() for file in recording.files()],
    )


def _prompts_of(task: Task, prompts: str, recordings: int) -> str:
    """Return the path of a recording's prompts, "" where the protocol says them. Raises ConfigError."""
    if not prompts:
        return ""
    path = expanded(prompts)
    if path.is_dir():
        path = path / f"{task.name}.yaml"
    elif recordings > 1:
        raise ConfigError(
            f"--prompts {prompts} is one file, and there are {recordings} recordings: give a folder of NAME.yaml"
        )
    PromptScript.read(path)
    return str(path.resolve())


def _mask_lines(recordings: list[Recording]) -> list[tuple[str, str]]:
    """Return (name, how its masks are read) of each recording of which something is guessed."""
    found = [(recording.name, _describe_masks(recording)) for recording in recordings]
    return [(name, said) for name, said in found if said]


def _describe_masks(recording: Recording) -> str:
    try:
        return recording.describe_masks()
    except SourceError:  # it is said when the recording fails
        return ""


def _configuration(options: EvalOptions, checkpoint: Path) -> dict[str, Any]:
    """All that the results depend on, and nothing else."""
    sources = [replace(s, spec=without_password(absolute(s.spec)), truth=absolute(s.truth)) for s in options.sources]
    return dict(
        **(dict(mode="live", rate=options.rate) if options.rate else dict(mode="offline")),
        sources=[asdict(source) for source in sources],
        only=sorted(options.only),
        **(dict(prompts_sha256=_prompts_sha256(options.prompts)) if options.prompts else {}),
        protocol=asdict(options.protocol),
        checkpoint_sha256=file_sha256(checkpoint),
        **options.engine.settings(),
        threads=options.threads,
        overlay=options.overlay,
        masks=options.masks,
        masks_bag=options.masks_bag,
        torch=torch.__version__,
    )


def _prompts_sha256(prompts: str) -> str:
    """Return the digest of a file of prompts, or of those in a folder, with the masks that they name."""

    def content(file: Path) -> bytes:
        try:
            return prompt_bytes(file.resolve())  # masks lie beside what a link leads to
        except ConfigError:  # it is of no recording, or said when its recording fails
            return file.read_bytes()

    path = expanded(prompts)
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.name.encode() + content(file) for file in files)).hexdigest()


def _claim(folder: Path, configuration: dict[str, Any], *, overwrite: bool, files: Iterable[Path]) -> None:
    """Make the folder that of this evaluation. files: that are read

    Raises ConfigError when it has results of another one, and `overwrite` is false, or results that are of none.
    """
    path = folder / RUN
    if overwrite and path.is_file():  # without it, masks may be those of a data set
        claim(folder, OWN_FILES, overwrite=True, files=files)
    with writing(folder):
        known = _known(path)
        if known is None and (folder / RECORDINGS).exists():
            raise ConfigError(f"{folder} has recordings but no {RUN}: it is not of `sam2s eval`, give another --output")
        results = [file for file in present(folder, OWN_FILES) if file != path]
        if known is None and results:
            raise ConfigError(
                f"{folder} has {results[0].name} but no {RUN}: it is not of `sam2s eval`, give another --output"
            )
        if known is not None and known != configuration and results:
            name, (before, now) = next(iter(changed_settings(known, configuration).items()))
            other = f"{folder} has an evaluation with {name} {before!r}, and this one has {now!r}"
            raise ConfigError(f"{other}: give --overwrite, or give another --output")
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(configuration))


def _known(path: Path) -> dict[str, Any] | None:
    """Read the configuration of the evaluation that a folder has; None where it has none. Raises ConfigError."""
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is damaged ({error}): give another --output") from error


def _finished(folder: Path, task: Task) -> dict[str, Any] | None:
    """Read the result of a recording that an earlier run has finished; None where there is none of these files."""
    found = _written(folder, task)
    return found["result"] if found.get("made_of") == list(task.made_of) else None


def _why_anew(folder: Path, left: Iterable[Task]) -> Iterator[str]:
    """Yield lines on recordings that have a result, and are evaluated nevertheless."""
    reasons: dict[str, list[str]] = {}
    for task in left:
        if found := _written(folder, task):
            changed = "files of it have changed"
            unknown = "what is there was written by an earlier version, which did not note its files"
            reasons.setdefault(changed if "made_of" in found else unknown, []).append(task.key)
    for reason, keys in reasons.items():
        yield f"{', '.join(keys)}: evaluated anew, since {reason}"


def _written(folder: Path, task: Task) -> dict[str, Any]:
    """Read the file of a recording's result; {} where there is none."""
    path = _path(folder, task)
    return json.loads(path.read_text()) if path.is_file() else {}


def _path(folder: Path, task: Task) -> Path:
    return folder / RECORDINGS / f"{task.key}.json"


def _runner(options: EvalOptions, on_frame: Callable[[str, int, int | None], Any]):
    if options.rate:
        return LiveNode(options.output, options.say, on_frame)
    if options.ray:
        return RayCluster(options.ray, evaluate_recording)
    if options.jobs > 1:
        return Processes(options.jobs, evaluate_recording)
    return InProcess(lambda task: evaluate_recording(task, lambda done, total: on_frame(task.key, done, total)))


def _versions() -> dict[str, str | None]:
    package = ElementTree.parse(share_directory() / "package.xml").getroot()
    return dict(
        sam2s_ros=package.findtext("version"), python=platform.python_version(), torch=torch.__version__,
        numpy=np.__version__, opencv=cv2.__version__, platform=platform.platform(),
    )  # fmt: skip
