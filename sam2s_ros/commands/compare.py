"""The command `compare`: all memory policies side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2s_ros.commands.engine import CHECKPOINT_HELP, Device, ImageSize

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
    seed: Annotated[list[int] | None, typer.Option(help="of the long-term scenes; repeatable; default: 1")] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="repeatable; default: all that the checkpoint can run")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="of TrackerConfig, such as max_objects=4; repeatable"),
    ] = None,
    frames: MostFrames = 0,
    image_size: ImageSize = 0,
    device: Device = "auto",
    out: FiguresFile = None,
) -> None:
    """Compare memory policies: print a table of all for each folder of recordings, and one for long-term scenes.

    Each object is prompted with its mask on the first frame that shows it.
    """
    from sam2s_model.training.compare import compare_policies

    compare_policies(
        checkpoint, recordings or [], only=only or [], long_term=long_term, seed=seed or [1], policy=policy or [],
        option=option or [], frames=frames, image_size=image_size, device=device, out=out,
    )  # fmt: skip
