"""`sam2s export`: parts of a model as files for other runtimes. torch is imported when a command runs, so that --help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Write parts of a checkpoint's model to files of machine code, or ONNX.")


@app.callback()
def _export() -> None:
    """Keep the name of the one command there is in the command line."""


@app.command()
def encoder(
    output: Annotated[
        Path, typer.Argument(help="file to write, .pt2 or .onnx; what it was made for is written beside it, as .json")
    ],
    to: Annotated[
        str,
        typer.Option(help="aoti: machine code for this device, which the tracker's parameter encoder loads; or onnx"),
    ] = "aoti",
    checkpoint: Annotated[
        str,
        typer.Option(
            help="a file, or a name of `sam2s checkpoint list`; default: sam2s_tiny on a GPU, sam2s_nano on a CPU"
        ),
    ] = "",
    size: Annotated[
        int, typer.Option(min=0, max=4096, help="side of the network's input, px; 0: the checkpoint's own")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (bf16 on CUDA, fp32 on CPU), fp32, bf16 or fp16")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a file that is there")] = False,
) -> None:
    """Export the image encoder, for one size, type and kind of device, and compare what it gives with torch; takes a minute or so."""
    from sam2s_model.acceleration.exporting import beside, export_encoder
    from sam2s_model.checkpoint import default_checkpoint, load_model
    from sam2s_model.paths import check_free

    for path in (output, beside(output)):
        check_free(path, overwrite=overwrite)
    model = load_model(checkpoint or default_checkpoint(device), image_size=size, device=device, precision=dtype)
    made = export_encoder(model, output, to)
    compared = (
        "it was not run here"
        if made.difference is None
        else f"its features differ from torch's by at most {made.difference:.1e} of the greatest"
    )
    print(f"{output}: {made.model}, {made.image_size} px, {made.precision}, for {made.device}; {compared}")
