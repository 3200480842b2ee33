"""Arguments that several commands have, and what they print with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam2s_model.errors import ConfigError

if TYPE_CHECKING:  # takes a while to import
    from rich.console import Console

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes

SourceSpec = Annotated[str, typer.Argument(help='a video, image folder or bag, or "scene:?..."')]
CROP_HELP = "part of each picture, as half of a side-by-side stereo picture; boxes and points are in its pixels"
CropPart = Annotated[str, typer.Option("--crop", metavar="left|right|X,Y,W,H", help=CROP_HELP)]
TrackSources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE", show_default=False,
        help="videos, image folders, bags, data sets with all their recordings, URLs (rtsp, http, ...), /dev/videoN, "
        '"-" for what is piped in, or "scene:?..."',
    ),
]  # fmt: skip
Frames = Annotated[int, typer.Option(min=0, help="frames at most; 0: all")]
Topic = Annotated[str, typer.Option(help="image topic of a bag; default: its only one")]
MaskTopic = Annotated[str, typer.Option(help="topic of a bag with mono8 ground-truth label images")]
VALUES_HELP = "how values of masks are read: labels (255 is void), binary (one object), or auto: from all masks"
MaskValues = Annotated[str, typer.Option(help=VALUES_HELP)]
LABELS_HELP = (
    "classes that objects may have: a name in config/labels, or a YAML file; default: the source's, or generic"
)
LabelSetName = Annotated[str, typer.Option("--label-set", metavar="NAME|FILE", help=LABELS_HELP)]
BOX_HELP = "an object of the first frame, in px; repeatable"
POINT_HELP = "a point on an object of the first frame; repeatable: each is an object"
POINTS_HELP = "points of one object, with a minus before one that is not on it; after N: of the Nth object; repeatable"
CLASS_HELP = "class of the objects: once for all, or once for each in the order of --box, --point, --points"
FILE_HELP = (
    "prompts.yaml: prompts on any frame, corrections among them, see docs/getting_started.md; of several recordings a "
    "folder of NAME.yaml, or a YAML file with `recordings:`, see docs/archives.md"
)
PROTOTYPES_HELP = "file of `sam2s prototypes build`: all its classes, or those of --class, are looked for"
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what an earlier run has left there")]


def line_printer(console: Console) -> Callable[[str], None]:
    """Return a function that prints a line as it is: no colours for numbers, and [ ] are no markup."""
    return lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class PromptOptions:
    """What is tracked; nothing: what the ground truth of the first frame shows. px of the image.

    box: "x0,y0,x1,y1"; point: "x,y"; points: "x,y;-x,y" or "N:x,y;-x,y"
    class_name: none, one, or one for each object; prompts: a file as of `PromptScript`
    """

    box: Annotated[tuple[str, ...], typer.Option("--box", metavar="X0,Y0,X1,Y1", help=BOX_HELP)] = ()
    point: Annotated[tuple[str, ...], typer.Option("--point", metavar="X,Y", help=POINT_HELP)] = ()
    points: Annotated[tuple[str, ...], typer.Option("--points", metavar="[N:]X,Y;-X,Y", help=POINTS_HELP)] = ()
    class_name: Annotated[tuple[str, ...], typer.Option("--class", metavar="NAME", help=CLASS_HELP)] = ()
    prompts: Annotated[Path | None, typer.Option("--prompts", metavar="FILE", help=FILE_HELP)] = None


@dataclass(frozen=True)
class SoughtOptions:
    """Classes that are looked for by prototypes, in place of prompts; no file: none are."""

    prototypes: Annotated[Path | None, typer.Option(metavar="FILE", help=PROTOTYPES_HELP)] = None
    look_every: Annotated[int, typer.Option(min=1, help="frames between two looks for what --prototypes finds")] = 25


@dataclass(frozen=True)
class TrackFiles:
    """What `sam2s track` writes besides tracks.csv and summary.json, and files of objects that go on."""

    coco: Annotated[bool, typer.Option("--coco", help="also write tracks.json: masks and boxes as COCO")] = False
    parquet: Annotated[bool, typer.Option("--parquet", help="also write tracks.csv as Parquet")] = False
    no_masks: Annotated[bool, typer.Option("--no-masks", help="write no PNG files")] = False
    no_overlay: Annotated[bool, typer.Option("--no-overlay", help="write no video")] = False
    objects: Annotated[
        Path | None, typer.Option(help="go on with the objects in a file of --save-objects, without a prompt")
    ] = None
    save_objects: Annotated[
        Path | None, typer.Option(help="file for what is remembered of the objects at the end, for another run")
    ] = None


@dataclass(frozen=True)
class Workers:
    """Where the recordings of an archive are tracked; threads: of torch in each process, 0: its own choice"""

    jobs: Annotated[int, typer.Option(min=1, max=1024, help="recordings at once, each in a process of its own")] = 1
    ray: Annotated[str, typer.Option(metavar="ADDRESS", help="track on a Ray cluster: its address, auto, or local")] = (
        ""
    )
    threads: Annotated[
        int, typer.Option(min=0, max=1024, help="of torch in each process; 0: all cores, of several recordings 1")
    ] = 0


def check_idle(context: typer.Context, how: str, *names: str) -> None:
    """Raise ConfigError for options that the command line has though they do nothing, as "without --gpu".

    how: with or without which option that is so; names: of the command's parameters
    """
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(f"{options[name]} does nothing {how}: leave it away, or see --help")
