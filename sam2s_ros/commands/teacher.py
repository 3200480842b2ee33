"""`sam2s teacher`: write down what a larger model says of images, once, for students to learn from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sam2s_ros.commands.arguments import INTERRUPTED
from sam2s_ros.commands.engine import Device
from sam2s_ros.commands.groups import CommandGroup

app = typer.Typer(
    cls=CommandGroup, no_args_is_help=True, help="Write what a larger model says of images, to learn from."
)


@app.command("pack")
def write_pack(
    checkpoint: Annotated[Path, typer.Argument(help="the teacher: any model of the family; an image half is enough")],
    pack: Annotated[Path, typer.Argument(help="the file to write")],
    images: Annotated[
        list[Path], typer.Option(help="folder of images, of frames/ or of folders, or a video; repeatable")
    ],
    every: Annotated[int, typer.Option(help="take every n-th image", min=1)] = 1,
    size: Annotated[int, typer.Option(min=0, max=4096, help="side of the teacher's input, px")] = 1024,
    channels: Annotated[int, typer.Option(help="of the features that are kept", min=1, max=256)] = 32,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="of the prompts")] = 0,
) -> None:
    """Write a pack: features and masks of whole images, in one file, for a source with `teacher`."""
    from sam2s_model.training.teacher import teach_pack

    teach_pack(checkpoint, pack, images, every=every, size=size, channels=channels, device=device, seed=seed)


@app.command("store")
def write_store(
    config: Annotated[Path, typer.Argument(help="a YAML file, such as those in config/teach")],
    store: Annotated[Path, typer.Argument(help="folder to write; one that is not complete is gone on with")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change the configuration; repeatable")
    ] = None,
) -> None:
    """Write a store: features on three levels and masks of many views of images, gigabytes of them.

    A store that was not finished goes on where it stopped, and ends with the same bytes.
    """
    from sam2s_model.training.teach import teach_store

    try:
        teach_store(config, store, set_ or [])
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
