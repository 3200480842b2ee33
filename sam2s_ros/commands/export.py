"""`sam2s export`: write parts of a model to files for other runtimes.

torch is imported when a command runs, so that --help is fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2s_ros.commands.engine import Checkpoint, Device, EngineOptions
from sam2s_ros.commands.groups import CommandGroup

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Write parts of a checkpoint's model to files of machine code, or ONNX.",
)


@app.callback()
def _export() -> None:
    """Keep the name of the one command there is in the command line."""


@app.command("encoder")
def write_encoder(
    output: Annotated[
        Path, typer.Argument(help="file to write, .pt2 or .onnx; what it was made for is written beside it, as .json")
    ],
    to: Annotated[
        str,
        typer.Option(help="aoti: machine code for this device, which the tracker's parameter encoder loads; or onnx"),
    ] = "aoti",
    checkpoint: Checkpoint = None,
    size: Annotated[
        int, typer.Option(min=0, max=4096, help="side of the network's input, px; 0: the checkpoint's own")
    ] = 0,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="auto (bf16 on CUDA, fp32 on CPU), fp32, bf16 or fp16")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a file that is there")] = False,
) -> None:
    """Export the image encoder, for one size, type and kind of device, and compare what it gives with torch.

    It takes a minute or so.
    """
    from sam2s_model.acceleration.exporting import beside, export_encoder
    from sam2s_model.paths import check_free

    for path in (output, beside(output)):
        check_free(path, overwrite=overwrite)
    model = EngineOptions(checkpoint, image_size=size, device=device, precision=dtype).load()
    made = export_encoder(model, output, to)
    compared = (
        "it was not run here"
        if made.difference is None
        else f"its features differ from torch's by at most {made.difference:.1e} of the greatest"
    )
    print(f"{output}: {made.model}, {made.image_size} px, {made.precision}, for {made.device}; {compared}")
