"""`sam2s annotate`: prompts on any frame of a recording, masks on all of them, data sets of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam2s_model.errors import ConfigError
from sam2s_ros.commands.annotate_begin import BeginOptions, begin as begin_annotation
from sam2s_ros.commands.arguments import Frames, SourceSpec, Topic, line_printer
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.commands.spread import spread

if TYPE_CHECKING:  # loads torch
    from rich.console import Console

    from sam2s_model.annotation.project import AnnotationProject
    from sam2s_model.prompting.prompt_script import PromptScript

EXPORT_HELP = "write it as coco, yolo, davis, labelme or bag, into the folder's export/NAME, without a page; repeatable"
HOST_HELP = "address to listen on; another than this machine's own asks for a token"
LABELS_HELP = (
    "table of classes, a name of config/labels or a file; default: of a folder that goes on its own, or the source's"
)


@dataclass(frozen=True)
class PageOptions:
    """Where the page is served."""

    host: Annotated[
        str, typer.Option(help="address to listen on; another than this machine's own asks for a token")
    ] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 8766
    token: Annotated[bool, typer.Option("--token", help="ask for a token on this machine's own address, too")] = False
    certificate: Annotated[Path | None, typer.Option(help="PEM file: serve over TLS")] = None
    key: Annotated[Path | None, typer.Option(help="PEM file with its key, where it is another file")] = None
    log: Annotated[Path | None, typer.Option(help="file to which each action is added, JSON lines")] = None


@spread
def annotate(
    source: SourceSpec,
    engine: EngineOptions,
    page: PageOptions,
    begin: BeginOptions,
    apply: Annotated[Path | None, typer.Option(help="prompts.yaml to carry out, without a page")] = None,
    output: Annotated[
        Path | None, typer.Option(help="folder of the annotation; one that is there goes on; default: SOURCE's name")
    ] = None,
    labels: Annotated[str, typer.Option("--label-set", "--labels", metavar="NAME|FILE", help=LABELS_HELP)] = "",
    export: Annotated[list[str] | None, typer.Option(help=EXPORT_HELP)] = None,
    frames: Frames = 0,
    topic: Topic = "",
) -> None:
    """Annotate a recording on a page in the browser: click, track on, correct, export. Until Ctrl-C.

    All is kept after each action, and the next time it goes on from there. With --apply there is no page: what a file
    says is carried out, and tracked to the end.
    """
    from rich.console import Console

    from sam2s_model.annotation.exports import check_names, export_as
    from sam2s_model.prompting.prompt_script import PromptScript

    console = Console()
    say = line_printer(console)
    check_names(export or ())
    script = None if apply is None else PromptScript.read(apply)
    project = _open(console, source, engine, output, labels, frames, topic, begin.mask_topic, script)
    try:
        begin_annotation(project, source, topic, begin, say)
        if apply is not None and script is not None:
            _apply(console, project, apply, script)
        elif export is None:
            from sam2s_ros.annotate.serving import serve_annotation

            serve_annotation(project, page, say)
        for name in export or ():
            say(f"{name}: {export_as(name, project)}")
        say(f"{project.folder}: {_summary(project)}")
    finally:
        project.close()


def _open(
    console: Console, source: str, engine: EngineOptions, output: Path | None, labels: str, frames: int, topic: str,
    mask_topic: str, script: PromptScript | None,
) -> AnnotationProject:  # fmt: skip
    from sam2s_model.annotation.folder import label_set_of
    from sam2s_model.recordings.open import open_recording
    from sam2s_ros.commands.label_sets import check_classes, label_set_file, open_label_set

    say = line_printer(console)
    recording = open_recording(source, topic=topic, mask_topic=mask_topic)
    for note in recording.notes:
        say(f"{recording.spec}: {note}")
    folder = output or Path("output/annotate") / recording.name
    known = None if labels else label_set_of(folder)
    label_set = known or open_label_set(label_set_file(labels, recording.label_set))
    if script is not None:
        check_classes(script, label_set)
    # torch takes seconds to import: what can be wrong with the source is said before
    from sam2s_model.annotation.project import AnnotationEngine, AnnotationProject

    engine = engine.with_checkpoint(recording.kind, say)
    model = AnnotationEngine(engine.load(), engine.policy, engine.tracker_config())
    with console.status("taking the frames ...") as status:
        return AnnotationProject(
            folder, recording, model, label_set, limit=frames, say=say,
            on_frame=lambda done, total: status.update(f"taking the frames ... {done} of {total or '?'}"),
        )  # fmt: skip


def _apply(console: Console, project: AnnotationProject, path: Path, script: PromptScript) -> None:
    """Carry a file of prompts out. Raises ConfigError, at the end, for prompts of no frame."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sam2s_model.annotation.script import apply_script
    from sam2s_ros.commands.progress import ProgressLines

    columns = (TextColumn("tracking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar, lines = progress.add_task("", total=None), ProgressLines(line_printer(console))

        def on_frame(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)
            if not console.is_terminal:
                lines(done, total)

        missed = apply_script(project, script, on_frame)
    if missed:
        first = missed[0]
        where = first.frame if first.frame is not None else first.stamp_ns or first.name
        raise ConfigError(f"{path} has {len(missed)} prompts of no frame of the recording, the first of {where}")


def _summary(project: AnnotationProject) -> str:
    masks = len(list((project.folder / "masks").glob("*.png")))
    left = sum(len(positions) for positions in project.to_track().values())
    more = f"; {left} masks are still to be tracked" if left else ""
    return f"{len(project.objects)} objects, masks on {masks} of {len(project)} frames{more}"
