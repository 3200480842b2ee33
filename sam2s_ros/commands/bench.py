"""`sam2s bench`: what a step takes; further commands: what other things cost, and a page of all figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sam2s_model.bench.command import bench
from sam2s_model.config import POLICY_NAMES
from sam2s_model.tracking.policies import POLICY_HELP
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.commands.groups import DEFAULT, DefaultGroup
from sam2s_ros.commands.spread import spread

app = typer.Typer(cls=DefaultGroup, help="Measure how long steps take on this machine, and what they are made of.")
app.command(DEFAULT, epilog="Further: sam2s bench memory, codecs, discovery, console, page")(bench)


@app.command("memory")
def bench_memory(
    model: Annotated[str, typer.Argument(help="name of a model")] = "sam2.1_hiera_tiny",
    size: Annotated[
        list[int] | None, typer.Option(help="side of the input, px; repeatable; default: 512 and 1024")
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help=f"{POLICY_HELP}; repeatable; default: all")] = None,
    steps: Annotated[int, typer.Option(min=0, help="also time as many steps of each policy, which take turns")] = 0,
    precision: Annotated[
        str, typer.Option(help="of the steps: fp32 or bf16; keys and bytes do not depend on it")
    ] = "fp32",
) -> None:
    """Print what each memory policy costs when its memory is full: keys a frame, bytes of an object, and times."""
    from sam2s_model.bench.memory_costs import print_costs

    print_costs(model, size or [512, 1024], policy or list(POLICY_NAMES), steps, precision)


@app.command("codecs")
def bench_codecs() -> None:
    """Print what the way of an image out of its ROS message costs, and of a label image into one."""
    from sam2s_ros.interfaces.codec_costs import print_codec_costs

    print_codec_costs()


@app.command("discovery")
@spread
def bench_discovery(
    engine: EngineOptions,
    repeats: Annotated[int, typer.Option(min=1, help="looks that are timed, after one that warms up")] = 10,
) -> None:
    """Print what a look of discovery takes on the scene at 640x512 px: passes of the mask decoder, ms."""
    from sam2s_model.bench.discovery import discovery_costs

    model, config = engine.load(), engine.tracker_config()
    costs = discovery_costs(model, config, repeats, engine.policy)
    points, passes = " + ".join(map(str, costs.batches)), len(costs.batches)
    print(
        f"{costs.name} at {model.image_size} px: {passes} pass(es) of the mask decoder for {points} points; "
        f"{costs.look.median:.0f} ms a look (p90 {costs.look.p90:.0f}), {costs.step.median:.0f} ms a step without "
        f"objects, median of {repeats}"
    )


@app.command("console")
def bench_console(
    seconds: Annotated[float, typer.Option(min=1.0, max=20.0, help="length of the measurement")] = 15.0,
    size: Annotated[str, typer.Option(help="of the camera, px")] = "1280x720",
    rate: Annotated[float, typer.Option(min=0.1, max=120.0, help="of the camera, Hz")] = 30.0,
    model_time: Annotated[
        float, typer.Option(min=0.0, max=10.0, help="s that a step of the tracker sleeps, in place of a model")
    ] = 0.005,
) -> None:
    """Print how old a picture is on the screen of a real Chromium, what the page is sent, and the console's CPU.

    Camera, tracker node, console and browser run here, in a graph of their own. Needs playwright and Chromium.
    """
    from sam2s_ros.soak.console_page import measure_page
    from sam2s_ros.soak.run import SoakOptions, size_of

    found = measure_page(SoakOptions(seconds / 60, size_of(size), rate, model_time=model_time), seconds)
    print(
        f"picture to screen: p50 {found['age_p50']:.0f} ms, p95 {found['age_p95']:.0f} ms; {found['pictures']:.1f} "
        f"pictures/s, {found['bytes'] / 1024:.0f} KiB/s to the page; "
        f"console {100 * found['console_cpu']:.0f} % of a core; load of the machine {found['load']:.1f} on "
        f"{found['cores']} cores"
    )


@app.command("page")
def bench_page(
    folder: Annotated[Path, typer.Argument(help="with the JSON files of `sam2s bench --output`")] = Path(
        "docs/benchmarks"
    ),
) -> None:
    """Print the page docs/benchmarks.md of the figures in a folder."""
    from sam2s_model.bench.page import benchmarks_page

    sys.stdout.write(benchmarks_page(folder))
