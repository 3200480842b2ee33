"""Arguments that several commands have, and what they print with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # takes a while to import
    from rich.console import Console

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes

SourceSpec = Annotated[str, typer.Argument(help='a video, image folder or bag, or "scene:?..."')]
Frames = Annotated[int, typer.Option(min=0, help="frames at most; 0: all")]
BOX_HELP = "an object of the first frame, in px; repeatable"
Boxes = Annotated[list[str] | None, typer.Option("--box", metavar="X0,Y0,X1,Y1", help=BOX_HELP)]
POINT_HELP = "a point on an object of the first frame; repeatable"
Points = Annotated[list[str] | None, typer.Option("--point", metavar="X,Y", help=POINT_HELP)]
Topic = Annotated[str, typer.Option(help="image topic of a bag; default: its only one")]
MaskTopic = Annotated[str, typer.Option(help="topic of a bag with mono8 ground-truth label images")]
VALUES_HELP = "how values of masks are read: labels (255 is void), binary (one object), or auto: from all masks"
MaskValues = Annotated[str, typer.Option(help=VALUES_HELP)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace what an earlier run has left there")]


def line_printer(console: Console) -> Callable[[str], None]:
    """Return a function that prints a line as it is: no colours for numbers, and [ ] are no markup."""
    return lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)
