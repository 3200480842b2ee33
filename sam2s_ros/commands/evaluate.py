"""`sam2s eval`: evaluate recordings and report; `live`: through the tracker node; `compare`: how reports differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.paths import check_free
from sam2s_model.recordings.layouts import LAYOUTS
from sam2s_ros.commands.arguments import FAILED, MaskTopic, MaskValues, Overwrite, Topic, line_printer
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.commands.groups import DEFAULT, DefaultGroup
from sam2s_ros.commands.spread import spread

if TYPE_CHECKING:  # torch is imported inside the commands
    from sam2s_ros.evaluation.run import EvalOptions

app = typer.Typer(cls=DefaultGroup, help="Evaluate a checkpoint on recordings with ground truth; compare evaluations.")

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE", show_default=False,
        help="folders of data sets in a layout that --layout names, folders with frames/ and masks/, videos, bags, "
        'or "scene:?..."',
    ),
]  # fmt: skip
Only = Annotated[list[str] | None, typer.Option(help="name of a recording to take; repeatable; default: all")]
Layout = Annotated[str, typer.Option(help=f"of the folders: auto, {', '.join(LAYOUTS)}")]
TRUTH_HELP = (
    "folder of masks, or of labelme's files, named as the images are, by frame numbers, or by a bag's stamps; "
    "a COCO file"
)
TruthFolder = Annotated[str, typer.Option(help=TRUTH_HELP)]
PROMPTS_HELP = "prompts.yaml in place of --prompt, with the ground truth's numbers of objects; or a folder of NAME.yaml"
Prompts = Annotated[str, typer.Option(metavar="FILE", help=PROMPTS_HELP)]
Overlay = Annotated[bool, typer.Option("--overlay", help="also write a video of each recording")]
MASKS_HELP = "also write the masks, one PNG a frame; values are the ids of the ground truth"
Masks = Annotated[bool, typer.Option("--masks", help=MASKS_HELP)]
BAG_HELP = "also write the masks as a bag, with the overlay and the label image for viewers"
MasksBag = Annotated[bool, typer.Option("--masks-bag", help=BAG_HELP)]
Replace = Annotated[
    bool, typer.Option("--overwrite", help="remove what another evaluation, or this one, has left there")
]


@dataclass(frozen=True)
class SourceReading:
    """How sources are read: fields of `Source`."""

    layout: Layout = "auto"
    truth: TruthFolder = ""
    topic: Topic = ""
    mask_topic: MaskTopic = ""
    mask_values: MaskValues = "auto"


@dataclass(frozen=True)
class EvaluationFiles:
    """What is written besides the report: fields of `EvalOptions`."""

    overlay: Overlay = False
    masks: Masks = False
    masks_bag: MasksBag = False
    overwrite: Replace = False


def _options(
    sources: Sequence[str],
    reading: SourceReading,
    only: Sequence[str] | None,
    files: EvaluationFiles,
    **others: Any,
) -> EvalOptions:
    from sam2s_model.recordings.open import Source
    from sam2s_ros.evaluation.run import EvalOptions

    opened = tuple(Source(spec, **asdict(reading)) for spec in sources)
    return EvalOptions(sources=opened, only=tuple(only or ()), **asdict(files), **others)


@app.command(DEFAULT)
@spread
def evaluate_offline(
    sources: Sources,
    engine: EngineOptions,
    protocol: EvaluationProtocol,
    reading: SourceReading,
    files: EvaluationFiles,
    output: Annotated[
        Path, typer.Option(help="folder for the report; one with a part of this evaluation is finished")
    ] = Path("output/eval"),
    only: Only = None,
    prompts: Prompts = "",
    threads: Annotated[
        int, typer.Option(min=1, max=1024, help="of torch in each process; the last bits depend on it")
    ] = 1,
    jobs: Annotated[
        int, typer.Option(min=1, max=1024, help="recordings evaluated at once, each in a process of its own")
    ] = 1,
    ray: Annotated[
        str, typer.Option(metavar="ADDRESS", help="evaluate on a Ray cluster: its address, auto, or local")
    ] = "",
) -> None:
    """Track every object of every recording from one prompt to the end, frame by frame, and report how well.

    Writes report.html, report.json and frames.csv. A killed evaluation goes on where it was with the same command.
    `sam2s eval live` plays the recordings to the real node; `sam2s eval compare A B` compares reports. The exit code is
    1 when a recording failed, images of one were left out, or nothing was scored.
    """
    options = _options(
        sources,
        reading,
        only,
        files,
        output=output,
        engine=engine,
        protocol=protocol,
        prompts=prompts,
        threads=threads,
        jobs=jobs,
        ray=ray,
    )
    raise typer.Exit(_evaluated(options))


@app.command("live")
@spread
def evaluate_live(
    sources: Sources,
    engine: EngineOptions,
    protocol: EvaluationProtocol,
    reading: SourceReading,
    files: EvaluationFiles,
    rate: Annotated[
        list[float] | None,
        typer.Option(min=0.01, max=100.0, help="speed, 1 is the recording's own; repeatable; default: 1"),
    ] = None,
    output: Annotated[Path, typer.Option(help="folder for the reports, one a rate: 1x, 4x, ...")] = Path("output/live"),
    only: Only = None,
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="of torch in the node; 0: one less than there are cores")
    ] = 0,
) -> None:
    """Play every recording to the real tracker node, over DDS, and report what a robot would get.

    The figures of `sam2s eval` are of the masks that were delivered. Beside them: the share of frames without masks,
    latencies, and streaming accuracy, where the newest masks at the time of a frame are scored against it. Ctrl-C ends
    it with the report of what there is. The exit code is 1 when a recording failed, or nothing was scored.
    """
    options = _options(sources, reading, only, files, output=output, engine=engine, protocol=protocol, threads=threads)
    codes = [_evaluated(replace(options, output=output / f"{one:g}x", rate=one)) for one in rate or [1.0]]
    raise typer.Exit(max(codes))


def _evaluated(options: EvalOptions) -> int:
    """Evaluate with a progress bar, print the table, return the exit code. Raises KeyboardInterrupt after Ctrl-C."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sam2s_ros.commands.progress import ProgressLines
    from sam2s_ros.evaluation.run import run_evaluation
    from sam2s_ros.evaluation.tables import report_table

    console = Console()
    options = replace(options, say=line_printer(console))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        all_ = progress.add_task("recordings", total=None)
        own = progress.add_task("frames", total=None, visible=options.jobs == 1 and not options.ray)
        lines = ProgressLines(options.say)

        def on_recording(done: int, total: int) -> None:
            progress.update(all_, completed=done, total=total)
            if done and not console.is_terminal:
                options.say(f"{done} of {total} recordings are done")

        def on_frame(name: str, done: int, total: int | None) -> None:
            progress.update(own, description=name, completed=done, total=total)
            if not console.is_terminal:
                lines(done, total, name)

        report = run_evaluation(options, on_recording, on_frame)
    console.print(report_table(report, options.output), crop=False)
    if report["interrupted"]:
        raise KeyboardInterrupt
    nothing = not any(own["scored_frames"] for own in report["recordings"])
    part = any(
        own["images_left_out"] or (own["odd"]["count"] and not own["scored_frames"]) for own in report["recordings"]
    )
    return FAILED if report["failed"] or nothing or part else 0


@app.command("granularity")
@spread
def evaluate_granularity(
    engine: EngineOptions,
    seed: Annotated[list[int] | None, typer.Option(help="of a scene; repeatable; default: 1, 2 and 3")] = None,
    frame: Annotated[list[int] | None, typer.Option(min=0, help="of each scene; repeatable; default: 0 and 8")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="picture to write: .webp or .png, of the first instrument")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Click on the tips of the scene's instruments with each granularity: IoU with tip, jaw and whole instrument."""
    import cv2

    from sam2s_model.evaluation.parts import ask_for_parts, part_picture, part_table
    from sam2s_model.recordings.scene import Scene, SceneConfig

    if picture is not None:
        if picture.suffix not in (".webp", ".png"):
            raise ConfigError(f"--picture is {picture}: expected a name that ends in .webp or .png")
        check_free(picture, overwrite=overwrite)
    model = engine.load()
    indices = frame or [0, 8]
    scenes = [Scene(SceneConfig(seed=number, frames=max(indices) + 1)) for number in seed or (1, 2, 3)]
    answers = list(ask_for_parts(model, scenes, indices, engine.tracker_config()))
    if not answers:
        raise ConfigError("no tip of an instrument is seen on these frames: give another --seed or --frame")
    how = "approximate" if any(one.approximate for one in answers) else "by the model's own token"
    print(f"{model.name} at {model.image_size} px, {how}, {len(answers) // 4} instruments\n\n{part_table(answers)}")
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        best = cv2.cvtColor(part_picture(answers), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(picture), best, [cv2.IMWRITE_WEBP_QUALITY, 80])


@app.command("compare")
def compare_reports(
    reports: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="output folders of `sam2s eval`, or their report.json")
    ],
    output: Annotated[Path | None, typer.Option(help="JSON file for the differences")] = None,
    overwrite: Overwrite = False,
    seed: Annotated[int, typer.Option(help="of the draws for the intervals")] = 0,
    draws: Annotated[int, typer.Option(min=100, max=10**6, help="for the intervals")] = 10_000,
) -> None:
    """Compare evaluations with the first one, each recording and overall, with 95 % bootstrap intervals."""
    from rich.console import Console

    from sam2s_model.errors import ConfigError
    from sam2s_model.evaluation import compare as comparison
    from sam2s_model.paths import claimed_file, write_result
    from sam2s_ros.evaluation.report import read_report
    from sam2s_ros.evaluation.tables import comparison_tables

    if len(reports) < 2:
        raise ConfigError(f"there is {len(reports)} report: expected at least two to compare")
    first, *others = (read_report(path) for path in reports)
    with claimed_file(output, overwrite=overwrite):
        found = {
            str(path): comparison.compare(first, other, seed, draws)
            for path, other in zip(reports[1:], others, strict=True)
        }
        console = Console()
        for path, differences in found.items():
            console.print(comparison_tables(str(reports[0]), path, differences))
        if output:
            write_result(output, json.dumps(dict(first=str(reports[0]), others=found), indent=1) + "\n")
