"""The command `compare`: all memory policies side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2s_model.errors import ConfigError
from sam2s_model.paths import claimed_file
from sam2s_ros.commands.engine import CHECKPOINT_HELP, Device, ImageSize, Precision

CheckpointArgument = Annotated[Path | None, typer.Argument(help=CHECKPOINT_HELP)]
RecordingFolders = Annotated[
    list[Path] | None, typer.Option(help="folder with frames/ and masks/, or of such; repeatable")
]
OnlyNamed = Annotated[
    list[str] | None, typer.Option(help="name of a recording to take; repeatable; default: all of them")
]
MostFrames = Annotated[int, typer.Option(min=0, help="most frames of a recording; 0: all")]
FiguresFile = Annotated[Path | None, typer.Option(help="JSON file for the figures")]


def compare(
    checkpoint: CheckpointArgument = None,
    recordings: RecordingFolders = None,
    only: OnlyNamed = None,
    long_term: Annotated[
        bool, typer.Option("--long-term", help="scenes in which instruments leave for 30, 100 and 300 frames")
    ] = False,
    crossing: Annotated[
        bool, typer.Option("--crossing", help="scenes in which many look-alike instruments cross")
    ] = False,
    absence: Annotated[
        list[int] | None,
        typer.Option(min=30, help="frames that they leave for, about; repeatable; default: 30, 100, 300"),
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="of the scenes; repeatable; default: 1")] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="repeatable; default: all that the checkpoint can run")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="of TrackerConfig, such as max_objects=4; repeatable"),
    ] = None,
    closed_loop: Annotated[
        bool,
        typer.Option("--closed-loop", help="compare discovery while objects are tracked, with one policy, instead"),
    ] = False,
    prototypes: Annotated[
        Path | None, typer.Option(help="--closed-loop: file of `sam2s prototypes build`; default: what needs none")
    ] = None,
    discovery_every: Annotated[int, typer.Option(min=1, help="--closed-loop: as the node's parameter, in frames")] = 10,
    auto_prompt_score: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="--closed-loop: as the node's parameter")
    ] = 0.7,
    every: Annotated[int, typer.Option(min=1, help="--closed-loop: one frame in so many")] = 1,
    frames: MostFrames = 0,
    image_size: ImageSize = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: FiguresFile = None,
) -> None:
    """Compare memory policies: print a table of all for each folder of recordings, and one for scenes of a kind.

    Each object is prompted with its mask on the first frame that shows it. With --closed-loop the rows are ways to find
    objects again and to start them without a click, and the columns what was found, mixed up, and started for nothing.
    """
    from sam2s_model.training.compare import ABSENCES, compare_policies, compared_groups

    if not closed_loop and prototypes:
        raise ConfigError(f"--prototypes is {prototypes}, but policies need none: give --closed-loop, too")
    if closed_loop:
        from sam2s_model.checkpoint import default_checkpoint, load_model
        from sam2s_model.config import TrackerConfig
        from sam2s_model.tracker_options import tracker_options
        from sam2s_ros.evaluation.closed_loop import compare_closed_loop

        if len(policy or []) > 1:
            raise ConfigError(f"--policy is {', '.join(policy or [])}: expected one with --closed-loop")
        groups = compared_groups(
            recordings or [], only=only or [], long_term=long_term, crossing=crossing, absence=absence or ABSENCES,
            seed=seed or [1],
        )  # fmt: skip
        config = TrackerConfig(**tracker_options(option or []))
        model = load_model(
            checkpoint or default_checkpoint(device), image_size=image_size, device=device, precision=precision
        )
        with claimed_file(out, overwrite=True):
            compare_closed_loop(
                model, groups, prototypes=prototypes, policy=(policy or ["auto"])[0], config=config, out=out,
                discovery_every=discovery_every, auto_prompt_score=auto_prompt_score, every=every, frames=frames,
            )  # fmt: skip
        return
    with claimed_file(out, overwrite=True):
        compare_policies(
            checkpoint, recordings or [], only=only or [], long_term=long_term, crossing=crossing,
            absence=absence or ABSENCES, seed=seed or [1], policy=policy or [], option=option or [], frames=frames,
            image_size=image_size, device=device, precision=precision, out=out,
        )  # fmt: skip
