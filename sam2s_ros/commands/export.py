"""`sam2s export`: write parts of a model to files for other runtimes, and what was tracked to files for other programs.

torch is imported when a command runs, so that --help is fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam2s_ros.commands.arguments import CropPart, LabelSetName, Overwrite, line_printer
from sam2s_ros.commands.engine import Checkpoint, Device, EngineOptions
from sam2s_ros.commands.groups import CommandGroup

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="Write parts of a model to files of machine code, or ONNX; and what was tracked to files that others read.",
)


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
    from sam2s_model.acceleration.exporting import OUTPUT, beside, export_encoder, weights_beside
    from sam2s_model.paths import check_free

    for path in (output, beside(output), *([weights_beside(output)] if to == "onnx" else [])):
        check_free(path, overwrite=overwrite, option=OUTPUT)
    model = EngineOptions(checkpoint, image_size=size, device=device, precision=dtype).load()
    made = export_encoder(model, output, to)
    compared = (
        "it was not run here"
        if made.difference is None
        else f"its features differ from torch's by at most {made.difference:.1e} of the greatest"
    )
    if weights_beside(output).exists():
        compared += f"; its weights are in {weights_beside(output)}, which goes with it"
    print(f"{output}: {made.model}, {made.image_size} px, {made.precision}, for {made.device}; {compared}")


@app.command("masks")
def write_masks(
    source: Annotated[
        str,
        typer.Argument(help="masks.mcap, another bag with TrackedMasks, or a folder of the recorder or `sam2s track`"),
    ],
    to: Annotated[
        list[str],
        typer.Option(
            help="png: palette label images; csv: a row for each object of each frame; coco; dataset: frames/ and "
            "masks/ as `sam2s eval` and `sam2s train` read them; video; repeatable"
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="folder for the files; default: output/export, or a free one beside it")
    ] = None,
    overwrite: Overwrite = False,
    images: Annotated[
        str,
        typer.Option(help="recording that was tracked, for dataset and video; default: that of `sam2s track`"),
    ] = "",
    topic: Annotated[
        str, typer.Option(help="image topic of that bag; without --images: of the source, which has the images, too")
    ] = "",
    mask_topic: Annotated[str, typer.Option(help="topic of TrackedMasks, where a bag has several")] = "",
    label_set: LabelSetName = "",
    crop: CropPart = "",
) -> None:
    """Export what was tracked, live or from a file. Frames get their images by stamp, those of `sam2s track` by name.

    What has no colour and no name of its own gets one; --label-set gives classes its numbers and colours, by name.
    """
    from rich.console import Console

    from sam2s_ros.commands.mask_export import OWN_FILES, MaskExport, export_masks
    from sam2s_ros.processes.results import chosen_folder

    say = line_printer(Console())
    folder = chosen_folder(output, "output/export", OWN_FILES, overwrite=overwrite, say=say)
    found = export_masks(
        MaskExport(
            source, tuple(to), folder, images, topic, mask_topic, label_set, overwrite=overwrite, crop=crop, say=say
        )  # fmt: skip
    )
    for sentence in found["left_out"]:
        say(f"left out: {sentence}")
    with_image = "" if found["with_image"] is None else f", {found['with_image']} of them with their image"
    say(f"{folder}: {found['frames']} frames as {', '.join(to)}{with_image}")
