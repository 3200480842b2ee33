"""`sam2s eval`: figures and a report from data sets, videos and bags; `live`: through the node; `compare`: how reports differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from sam2s_model.config import POLICY_NAMES
from sam2s_model.recordings.layouts import LAYOUTS

if TYPE_CHECKING:  # torch is imported inside the commands
    from sam2s_ros.evaluation.run import EvalOptions

FAILED = 1  # as in `cli`


class _RunByDefault(TyperGroup):
    """`sam2s eval SOURCE` is `sam2s eval run SOURCE`."""

    def parse_args(self, ctx, args):
        return super().parse_args(ctx, args if args and args[0] in self.commands else ["run", *args])


app = typer.Typer(cls=_RunByDefault, help="Evaluate a checkpoint on recordings with ground truth; compare evaluations.")


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...", show_default=False,
        help="folders of data sets in a layout that --layout names, folders with frames/ and masks/, videos, bags, "
        'or "scene:?..."',
    ),
]  # fmt: skip
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="a file, or a name of `sam2s checkpoint list`; default: sam2s_tiny on a GPU, sam2s_nano on a CPU"
    ),
]
Adapter = Annotated[
    str,
    typer.Option(
        metavar="FILE", help="an adapter over the checkpoint, such as `sam2s train config/train/adapters.yaml` writes"
    ),
]
PromptKind = Annotated[str, typer.Option(help="what each object begins with, from the truth: mask, box or clicks")]
Clicks = Annotated[int, typer.Option(min=1, max=50, help="how many; all but the first are corrections")]
Start = Annotated[str, typer.Option(help="appearance, or first: only objects of the first annotated frame")]
Scored = Annotated[str, typer.Option(help="davis: without the prompted and the last annotated frame; all")]
Frames = Annotated[int, typer.Option(min=0, help="frames of a recording at most; 0: all")]
Only = Annotated[list[str] | None, typer.Option(help="name of a recording to take; repeatable; default: all")]
Layout = Annotated[
    str,
    typer.Option(help=f"of the folders: auto, {', '.join(LAYOUTS)}"),
]
TruthFolder = Annotated[
    str,
    typer.Option(
        help="folder of masks, or of labelme's files, named by a video's frame numbers or a bag's stamps, or a file of COCO"
    ),
]
Topic = Annotated[str, typer.Option(help="image topic of a bag; default: its only one")]
MaskTopic = Annotated[str, typer.Option(help="topic of a bag with mono8 ground-truth label images")]
MaskValues = Annotated[
    str,
    typer.Option(
        help="how values of masks are read: labels (255 is void), binary (one object), or auto: from all masks"
    ),
]
Model = Annotated[str, typer.Option(help="name of the model; auto recognises it from the checkpoint")]
Policy = Annotated[str, typer.Option(help=f"memory policy: auto, {', '.join(POLICY_NAMES)}")]
ImageSize = Annotated[
    int,
    typer.Option(
        min=0,
        max=4096,
        help="side of the network's input, px, a multiple of 32, 14 or 16 by model; 0: the checkpoint's",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Precision = Annotated[str, typer.Option(help="auto (bf16 on CUDA, fp32 on CPU), fp32, bf16, fp16 or int8 (CPU)")]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="of torch in each process; the last bits depend on it")]
Overlay = Annotated[bool, typer.Option("--overlay", help="also write a video of each recording")]
Masks = Annotated[
    bool, typer.Option("--masks", help="also write the masks, one PNG a frame; values are the ids of the ground truth")
]

Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="remove what another evaluation, or this one, has left there")
]
MasksBag = Annotated[
    bool,
    typer.Option("--masks-bag", help="also write the masks as a bag, with the overlay and the label image for viewers"),
]


@app.command("run")
def run(
    sources: Sources,
    checkpoint: Checkpoint = None,
    output: Annotated[
        Path, typer.Option(help="folder for the report; one with a part of this evaluation is finished")
    ] = Path("output/eval"),
    overwrite: Overwrite = False,
    prompt: PromptKind = "mask",
    clicks: Clicks = 3,
    start: Start = "appearance",
    scored: Scored = "davis",
    frames: Frames = 0,
    only: Only = None,
    layout: Layout = "auto",
    truth: TruthFolder = "",
    topic: Topic = "",
    mask_topic: MaskTopic = "",
    mask_values: MaskValues = "auto",
    model: Model = "auto",
    policy: Policy = "auto",
    image_size: ImageSize = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    adapter: Adapter = "",
    threads: Threads = 1,
    overlay: Overlay = False,
    masks: Masks = False,
    masks_bag: MasksBag = False,
    jobs: Annotated[
        int, typer.Option(min=1, max=1024, help="recordings evaluated at once, each in a process of its own")
    ] = 1,
    ray: Annotated[
        str, typer.Option(metavar="ADDRESS", help="evaluate on a Ray cluster: its address, auto, or local")
    ] = "",
) -> None:
    """Track every object of every recording from one prompt to the end, frame by frame, and report how well.

    Writes report.html, report.json and frames.csv. A killed evaluation goes on where it was with the same command.
    `sam2s eval live` plays the recordings to the real node; `sam2s eval compare A B` compares reports. The exit code is 1 when a
    recording failed, images of one were left out, or nothing was scored.
    """
    from sam2s_model.evaluation.protocol import EvaluationProtocol
    from sam2s_model.recordings.open import Source
    from sam2s_ros.evaluation.run import EvalOptions
    from sam2s_ros.evaluation.task import Engine

    options = EvalOptions(
        sources=tuple(Source(spec, "", layout, topic, mask_topic, truth, mask_values) for spec in sources), checkpoint=checkpoint,
        output=output, engine=Engine("", model, policy, image_size, device, precision, threads, adapter),
        protocol=EvaluationProtocol(prompt, clicks, start, scored, frames), only=tuple(only or ()), overlay=overlay, masks=masks,
        masks_bag=masks_bag, overwrite=overwrite,
        jobs=jobs, ray=ray,
    )  # fmt: skip
    raise typer.Exit(_evaluated(options))


@app.command("live")
def live(
    sources: Sources,
    rate: Annotated[
        list[float] | None,
        typer.Option(min=0.01, max=100.0, help="speed, 1 is the recording's own; repeatable; default: 1"),
    ] = None,
    checkpoint: Checkpoint = None,
    output: Annotated[Path, typer.Option(help="folder for the reports, one a rate: 1x, 4x, ...")] = Path("output/live"),
    overwrite: Overwrite = False,
    prompt: PromptKind = "mask",
    clicks: Clicks = 3,
    start: Start = "appearance",
    scored: Scored = "davis",
    frames: Frames = 0,
    only: Only = None,
    layout: Layout = "auto",
    truth: TruthFolder = "",
    topic: Topic = "",
    mask_topic: MaskTopic = "",
    mask_values: MaskValues = "auto",
    model: Model = "auto",
    policy: Policy = "auto",
    image_size: ImageSize = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    adapter: Adapter = "",
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="of torch in the node; 0: one less than there are cores")
    ] = 0,
    overlay: Overlay = False,
    masks: Masks = False,
    masks_bag: MasksBag = False,
) -> None:
    """Play every recording to the real tracker node, over DDS, and report what a robot would get.

    The figures of `sam2s eval` are of the masks that were delivered. Beside them: the share of frames without masks, latencies,
    and streaming accuracy, where the newest masks at the time of a frame are scored against it. Ctrl-C ends it with the report
    of what there is. The exit code is 1 when a recording failed, or nothing was scored.
    """
    from sam2s_model.evaluation.protocol import EvaluationProtocol
    from sam2s_model.recordings.open import Source
    from sam2s_ros.evaluation.run import EvalOptions
    from sam2s_ros.evaluation.task import Engine

    options = EvalOptions(
        sources=tuple(Source(spec, "", layout, topic, mask_topic, truth, mask_values) for spec in sources), checkpoint=checkpoint,
        output=output, engine=Engine("", model, policy, image_size, device, precision, threads, adapter),
        protocol=EvaluationProtocol(prompt, clicks, start, scored, frames), only=tuple(only or ()), overlay=overlay, masks=masks,
        masks_bag=masks_bag, overwrite=overwrite,
    )  # fmt: skip
    codes = [_evaluated(replace(options, output=output / f"{one:g}x", rate=one)) for one in rate or [1.0]]
    raise typer.Exit(max(codes))


def _evaluated(options: EvalOptions) -> int:
    """Evaluate with a progress bar and print the table. Returns the exit code; raises KeyboardInterrupt after Ctrl-C."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sam2s_ros.evaluation.run import run_evaluation
    from sam2s_ros.evaluation.tables import report_table

    console = Console()
    options = replace(options, say=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        all_ = progress.add_task("recordings", total=None)
        own = progress.add_task("frames", total=None, visible=options.jobs == 1 and not options.ray)
        report = run_evaluation(
            options,
            lambda done, total: progress.update(all_, completed=done, total=total),
            lambda name, done, total: progress.update(own, description=name, completed=done, total=total),
        )
    console.print(report_table(report, options.output), crop=False)
    if report["interrupted"]:
        raise KeyboardInterrupt
    nothing = not any(own["scored_frames"] for own in report["recordings"])
    part = any(own["images_left_out"] for own in report["recordings"])
    return FAILED if report["failed"] or nothing or part else 0


@app.command("compare")
def compare(
    reports: Annotated[
        list[Path], typer.Argument(metavar="A B...", help="output folders of `sam2s eval`, or their report.json")
    ],
    output: Annotated[Path | None, typer.Option(help="JSON file for the differences")] = None,
    overwrite: Overwrite = False,
    seed: Annotated[int, typer.Option(help="of the draws for the intervals")] = 0,
    draws: Annotated[int, typer.Option(min=100, max=10**6, help="for the intervals")] = 10_000,
) -> None:
    """Differences of evaluations to the first one, for each recording and overall, with 95 % bootstrap intervals."""
    from rich.console import Console

    from sam2s_model.errors import ConfigError
    from sam2s_model.evaluation import compare as comparison
    from sam2s_ros.evaluation.report import read_report
    from sam2s_ros.evaluation.tables import comparison_tables
    from sam2s_ros.processes.results import claim_file

    if len(reports) < 2:
        raise ConfigError(f"there is {len(reports)} report: expected at least two to compare")
    first, *others = (read_report(path) for path in reports)
    if output:
        claim_file(output, overwrite=overwrite)
    found = {str(path): comparison.compare(first, other, seed, draws) for path, other in zip(reports[1:], others)}
    console = Console()
    for path, differences in found.items():
        console.print(comparison_tables(str(reports[0]), path, differences))
    if output:
        output.write_text(json.dumps(dict(first=str(reports[0]), others=found), indent=1) + "\n")
