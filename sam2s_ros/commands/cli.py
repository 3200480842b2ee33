"""The command line `sam2s`. torch and ROS are imported inside the commands, so that --help is fast."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from xml.etree import ElementTree

import typer

from sam2s_model.acceleration.allocator import keep_large_buffers
from sam2s_model.errors import Sam2sError
from sam2s_model.paths import expanded_arguments
from sam2s_ros.commands.annotate import annotate
from sam2s_ros.commands.arguments import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    CropPart,
    Frames,
    LabelSetName,
    MaskTopic,
    MaskValues,
    Overwrite,
    PromptOptions,
    SoughtOptions,
    Topic,
    TrackFiles,
    TrackSources,
    Workers,
    check_idle,
    line_printer,
)
from sam2s_ros.commands.bench import app as bench_app
from sam2s_ros.commands.checkpoint import app as checkpoint_app
from sam2s_ros.commands.compare import compare
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.commands.evaluate import app as eval_app
from sam2s_ros.commands.export import app as export_app
from sam2s_ros.commands.groups import MainGroup
from sam2s_ros.commands.node import node
from sam2s_ros.commands.prompt import prompt
from sam2s_ros.commands.prototypes import app as prototypes_app
from sam2s_ros.commands.refine import refine_command
from sam2s_ros.commands.replay import replay
from sam2s_ros.commands.spread import spread
from sam2s_ros.commands.status import status
from sam2s_ros.commands.teacher import app as teacher_app
from sam2s_ros.commands.train import app as train_app

if TYPE_CHECKING:  # takes a while to import
    from rich.console import Console

DEFAULT_SOURCE = "scene:?width=640&height=512&frames=120&seed=0"

app = typer.Typer(
    cls=MainGroup, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings=dict(help_option_names=["-h", "--help"]), help="Track surgical instruments with SAM2 models.",
)  # fmt: skip
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(eval_app, name="eval")
app.add_typer(export_app, name="export")
app.add_typer(prototypes_app, name="prototypes")
app.add_typer(train_app, name="train")
app.add_typer(teacher_app, name="teacher")
app.add_typer(bench_app, name="bench")
app.command("compare")(compare)
app.command("annotate")(annotate)
app.command("node")(node)
app.command("prompt")(prompt)
app.command("refine")(refine_command)
app.command("replay")(replay)
app.command("status")(status)


def _version(wanted: bool) -> None:
    if wanted:
        from sam2s_ros.processes.dds import share_directory

        print(ElementTree.parse(share_directory() / "package.xml").getroot().findtext("version"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


@app.command()
@spread
def demo(
    engine: EngineOptions,
    prompts: PromptOptions,
    source: Annotated[str, typer.Option(help='a video, image folder or bag, or "scene:?..."')] = DEFAULT_SOURCE,
    rate: Annotated[
        float | None,
        typer.Option(min=0.0, max=1000.0, help="Hz; 0: the source's own; default: what the tracker follows"),
    ] = None,
    frames: Frames = 0,
    output: Annotated[
        Path | None, typer.Option(help="folder for the results; default: output/demo, or a free one beside it")
    ] = None,
    overwrite: Overwrite = False,
    label_set: LabelSetName = "",
    topic: Topic = "",
    mask_topic: MaskTopic = "",
    keep_going: Annotated[bool, typer.Option("--keep-going", help="play again and again until Ctrl-C")] = False,
) -> None:
    """Replay a source as a camera, track it and record it: real processes, over DDS.

    The first frame is prompted with --box, --point, --points or --prompts, or with the boxes of the ground truth.
    """
    from dataclasses import replace

    from rich.console import Console

    from sam2s_ros.commands.options import DemoOptions
    from sam2s_ros.demo.report import demo_tables
    from sam2s_ros.demo.run import OWN_FILES, run_demo
    from sam2s_ros.processes.counting import passed
    from sam2s_ros.processes.results import in_chosen_folder

    console = Console()
    options = DemoOptions(
        source=source, engine=engine, output=output or Path(), rate=rate, frames=frames, prompts=prompts,
        label_set=label_set, keep_going=keep_going, topic=topic, mask_topic=mask_topic, overwrite=overwrite,
        say=line_printer(console),
    )  # fmt: skip
    folder, summary = in_chosen_folder(
        output, "output/demo", OWN_FILES, lambda folder: run_demo(replace(options, output=folder)),
        overwrite=overwrite, say=options.say,
    )  # fmt: skip
    console.print(demo_tables(summary, folder), crop=False)
    if not passed(summary):
        raise typer.Exit(FAILED)


@app.command()
@spread
def track(
    sources: TrackSources,
    engine: EngineOptions,
    prompts: PromptOptions,
    sought: SoughtOptions,
    files: TrackFiles,
    workers: Workers,
    start: Annotated[int, typer.Option(min=0, help="number of the frame that tracking begins with, from 0")] = 0,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="give the same bits every time")] = False,
    frames: Frames = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            help="folder for the results; default: output/track, or a free one beside it; of several recordings "
            "output/archive, which is gone on with"
        ),
    ] = None,
    overwrite: Overwrite = False,
    label_set: LabelSetName = "",
    topic: Topic = "",
    mask_topic: MaskTopic = "",
    mask_values: MaskValues = "auto",
    crop: CropPart = "",
) -> None:
    """Track files, without ROS: masks as PNG, a table of all objects in all frames, an overlay video, a summary.

    The first frame is prompted with --box, --point and --points, any frame with --prompts; without them the boxes of
    the source's ground truth are. Where nothing says what to track, first_frame.png with a grid of pixels is written.
    --prototypes looks for classes instead.
    Of several recordings, or with --jobs or --ray, there is one report over all: docs/archives.md.
    """  # fmt: skip
    from sam2s_ros.commands.options import TrackOptions
    from sam2s_ros.commands.track_command import archive_command, track_command

    several = len(sources) > 1 or workers != Workers(threads=workers.threads)
    options = TrackOptions(
        source=sources[0], engine=engine, output=output or Path(), deterministic=deterministic,
        frames=frames, prompts=prompts, sought=sought, start=start, label_set=label_set,
        topic=topic, mask_topic=mask_topic, mask_values=mask_values, crop=crop, objects=files.objects,
        save_objects=files.save_objects, coco=files.coco, parquet=files.parquet,
        masks=not files.no_masks, overlay=not files.no_overlay, threads=workers.threads, overwrite=overwrite,
    )  # fmt: skip
    code = archive_command(sources, options, workers, output) if several else track_command(options, output)
    if code:
        raise typer.Exit(code)


@app.command()
@spread
def soak(
    engine: EngineOptions,
    minutes: Annotated[float, typer.Option(min=0.01, help="length of the measurement")] = 20.0,
    size: Annotated[str, typer.Option(help="of the camera, px")] = "640x480",
    rate: Annotated[float, typer.Option(min=0.1, max=1000.0, help="of the camera, Hz")] = 30.0,
    model_time: Annotated[
        float | None,
        typer.Option(min=0.0, max=10.0, help="s that a step sleeps, in place of the model: what the node alone costs"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="file for the report, JSON")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Run camera, tracker node and subscriber for minutes, and count: losses, latency, memory, CPU.

    One object of the procedural scene is tracked. The exit code is 0 when all counters agree to the frame, otherwise 1.
    """
    from rich.console import Console

    from sam2s_ros.soak.run import SoakOptions, run_soak, size_of

    console = Console()
    options = SoakOptions(
        minutes=minutes, size=size_of(size), rate=rate, engine=engine, model_time=model_time, output=output,
        overwrite=overwrite,
        say=line_printer(console),
    )  # fmt: skip
    found = run_soak(options)
    from sam2s_ros.processes.counting import passed
    from sam2s_ros.soak.report import soak_tables

    console.print(soak_tables(found))
    if not passed(found):
        raise typer.Exit(FAILED)


@app.command()
def doctor(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="do not measure the loss of images over DDS")] = False,
    seconds: Annotated[float, typer.Option(min=1.0, max=60.0, help="length of each measurement")] = 5.0,
    gpu: Annotated[
        bool,
        typer.Option("--gpu", help="check instead that the GPU computes what the CPU does, and how fast; 3 minutes"),
    ] = False,
    device: Annotated[str, typer.Option(help="of --gpu: cuda or cuda:N")] = "cuda:0",
    only: Annotated[list[int] | None, typer.Option(help="of --gpu: number of a part; may be repeated")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="of --gpu: JSON file of all checks; default: doctor_gpu.json, or a free name beside it"),
    ] = None,
    overwrite: Overwrite = False,
    running: Annotated[
        bool, typer.Option("--node", help="look instead at the trackers that run in this graph: images, drops, masks")
    ] = False,
    tracker: Annotated[list[str] | None, typer.Option(metavar="NAME", help="of --node: these; repeatable")] = None,
) -> None:
    """Look at this machine: Python, torch, ROS, DDS; say what to do about each finding. With --gpu, at its GPU alone.

    With --node, at the running trackers: no publisher of images, a QoS or a domain that does not fit, late masks.

    The exit code is 0 when all is usable, otherwise 1; with --gpu and no CUDA device 2.
    """
    from rich.console import Console

    if not gpu:
        check_idle(context, "without --gpu", "device", "only", "output", "overwrite")
    if not running:
        check_idle(context, "without --node", "tracker")
    if gpu or running:
        check_idle(context, "with --gpu" if gpu else "with --node", "quick", *(("seconds", "running") if gpu else ()))
    if gpu:
        _doctor_gpu(Console(), device, only or [], output, overwrite)
        return
    from sam2s_ros.doctor.checks import examine, exports, findings_table, usable

    console = Console()
    if running:
        from sam2s_ros.processes.dds import environment

        os.environ.update(environment())  # read when the node's participant is made
        from sam2s_ros.doctor.running import examine_running

        findings = examine_running(tracker or (), seconds=seconds)
        console.print(findings_table(findings))
        if not usable(findings):
            raise typer.Exit(FAILED)
        return
    findings = examine(measure=not quick, seconds=seconds, say=line_printer(console))
    console.print(findings_table(findings))
    print(exports(findings))  # as it is, so that it can be copied
    if not usable(findings):
        raise typer.Exit(FAILED)


def _doctor_gpu(console: Console, device: str, only: list[int], output: Path | None, overwrite: bool) -> None:
    from sam2s_model.gpu_check.parts import BY_HAND
    from sam2s_model.paths import claimed_file
    from sam2s_ros.doctor.checks import Level
    from sam2s_ros.doctor.gpu import examine_gpu, found_table, write_json
    from sam2s_ros.processes.results import free_file

    default = Path("doctor_gpu.json")
    output = output or (default if overwrite else free_file(default))
    with claimed_file(output, overwrite=overwrite):
        found = examine_gpu(device, only, say=line_printer(console))
        console.print(found_table(found))
        for f in found:
            if f.detail:
                line_printer(console)(f"\n{f.part}:\n{f.detail}")
        write_json(output, found)
    line_printer(console)(f"written: {output}\n{BY_HAND}")
    if any(f.level is Level.FAIL for f in found):
        raise typer.Exit(FAILED)


@app.command()
def console(
    host: Annotated[
        str, typer.Option(help="address to listen on; another than this machine's own asks for a token")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 8765,
    tracker: Annotated[
        list[str] | None, typer.Option(help="name of a tracker node; repeatable; default: all that are found")
    ] = None,
    image: Annotated[str, typer.Option(help="topic of the images; default: what the tracker is subscribed to")] = "",
    read_only: Annotated[bool, typer.Option("--read-only", help="everybody may only look")] = False,
    token: Annotated[bool, typer.Option("--token", help="ask for a token on this machine's own address, too")] = False,
    name: Annotated[
        list[str] | None, typer.Option(help="further name that the page is opened under; repeatable")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM file: serve over TLS")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file with its key, where it is another file")] = None,
    log: Annotated[Path | None, typer.Option(help="file to which each action is added, JSON lines")] = None,
) -> None:
    """Serve a page in the browser: see what a running tracker does, click, correct. Until Ctrl-C.

    It joins the graph of this ROS_DOMAIN_ID and finds the trackers by itself.
    """
    from sam2s_ros.console.command import run_console

    code = run_console(
        host=host, port=port, trackers=" ".join(tracker or ()), image=image, read_only=read_only, require_token=token,
        names=" ".join(name or ()), certificate=str(certificate or ""), key=str(key or ""), action_log=str(log or ""),
    )  # fmt: skip
    if code:
        raise typer.Exit(code)


@app.command("parameters")
def print_parameters() -> None:
    """Print all parameters of the nodes, with defaults, ranges and meanings, as Markdown: docs/parameters.md."""
    from sam2s_ros.interfaces.parameters_doc import parameters_page

    sys.stdout.write(parameters_page())


def main(args: list[str] | None = None) -> int:
    """Entry point. Returns the exit code.

    2: bad input, said in one sentence on stderr; 1: it failed, or the figures do not agree
    130: SIGINT, SIGTERM or a hang-up ended it
    """
    from sam2s_ros.processes.ending import interrupted_by_ending_signals
    from sam2s_ros.processes.graph import ChildDied

    keep_large_buffers()
    try:
        with interrupted_by_ending_signals():
            return app(expanded_arguments(sys.argv[1:] if args is None else args), standalone_mode=False) or 0
    except typer.Exit as end:
        return end.exit_code
    except Sam2sError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except ChildDied as error:
        refused = error.code == BAD_INPUT  # the process has said why in one sentence
        print(error.last_line if refused else error, file=sys.stderr)
        return BAD_INPUT if refused else FAILED
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(
            error, "show"
        ):  # of click: an option that is not known, or out of range
            error.show()
            return error.exit_code
        raise


if __name__ == "__main__":
    sys.exit(main())
