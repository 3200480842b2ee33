"""The command `bench`. torch is imported when it runs, so that --help is fast."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sam2s_model.errors import ConfigError
from sam2s_model.paths import check_free, claimed_file
from sam2s_model.tracking.policies import POLICY_HELP

PLOT = ".png"
WHERE = ("output", "overwrite")  # options that say where figures go, and not which they are


def bench(
    context: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="name of a model, with random weights; repeatable; default: sam2.1_hiera_tiny, or the checkpoints"
        ),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="a file, or a name of `sam2s checkpoint list`; repeatable")
    ] = None,
    size: Annotated[
        list[int], typer.Option(min=0, max=4096, help="side of the network's input, px; repeatable; 0: its own")
    ] = [0],  # noqa: B006 (typer reads it, and nobody writes to it)
    objects: Annotated[list[int], typer.Option(min=1, max=16, help="tracked at once; repeatable")] = [1],  # noqa: B006
    dtype: Annotated[
        list[str], typer.Option(help="auto (bf16 on CUDA, fp32 on CPU), fp32, bf16, fp16 or int8 (CPU); repeatable")
    ] = ["auto"],  # noqa: B006
    policy: Annotated[
        list[str],
        typer.Option(help=f"{POLICY_HELP}; repeatable"),
    ] = ["auto"],  # noqa: B006
    compiled: Annotated[
        bool, typer.Option("--compile", help="compile the image encoder, as the tracker's parameter compile does")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    threads: Annotated[int, typer.Option(min=0, max=1024, help="of torch; 0: as many as it takes by itself")] = 0,
    steps: Annotated[
        int,
        typer.Option(
            min=0, max=10**6, help="timed of each combination, when the memory is full; 0: operations and floors alone"
        ),
    ] = 20,
    peer: Annotated[
        str, typer.Option(help="transformers, sam2 or sam2-compiled: also run it, in turns with ours, and print ratios")
    ] = "",
    machine: Annotated[
        bool, typer.Option("--machine", help="only measure how fast this machine multiplies and copies")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="JSON file for the figures; a plot of that name is put beside it")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace figures and plot of an earlier run")] = False,
) -> None:
    """Time steps of the tracker for all combinations of the options, beside the least that this machine could need.

    A step begins with an image on the host and ends with its label map on the host.
    """
    from rich.console import Console

    from sam2s_model.bench.report import plot, tables, timed_of, write
    from sam2s_model.bench.run import BenchOptions, cases, run

    if output and output.suffix.lower() == PLOT:
        raise ConfigError(
            f"--output is {str(output)!r}, which is where the plot goes: expected a name that ends in .json"
        )
    if output and output.name:
        check_free(output.with_suffix(PLOT), overwrite=overwrite)
    with claimed_file(output, overwrite=overwrite):
        console = Console()
        models = model or ([] if checkpoint else ["sam2.1_hiera_tiny"])
        asked = cases(checkpoint or [], models, size, objects, dtype, policy, compiled)
        options = BenchOptions(asked, device, threads, steps, peer, only_machine=machine, command=_command(context))
        for report in run(options, lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)):
            if output:
                write(report, output)
        console.print(tables(report), highlight=False)
        if output and timed_of(report):
            plot(report, output.with_suffix(PLOT))


def _command(context: typer.Context) -> str:
    """As it was given, less where its figures go."""
    words = ["sam2s", "bench"]
    for option in context.command.params:
        given = context.params[option.name]
        if given == option.get_default(context) or given in (None, "", [], ()) or option.name in WHERE:
            continue
        for value in given if isinstance(given, (list, tuple)) else [given]:
            words += [option.opts[0]] if value is True else [option.opts[0], str(value)]
    return shlex.join(words)
