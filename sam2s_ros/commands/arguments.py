"""Arguments that several commands have, and what they print with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # takes a while to import
    from rich.console import Console

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes

SourceSpec = Annotated[str, typer.Argument(help='a video, image folder or bag, or "scene:?..."')]
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
FILE_HELP = "prompts.yaml: prompts on any frame, corrections among them; see docs/getting_started.md"
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
