"""What the commands `sam2s track` and `sam2s demo` were asked for. They differ in what only a graph can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrackOptions:
    """checkpoint: a path or a published name; None for the package's default for the device
    adapter: a file with an adapter over it; "": none
    frames: at most, 0 no limit
    boxes: "x0,y0,x1,y1"; points: "x,y"; px of the first frame
    mask_values: how values of masks are read, see `mask_values.decide`
    overwrite: whether results that `output` has of an earlier run are replaced
    say: told what the user should know, one line at a time
    """

    source: str
    checkpoint: Path | None
    output: Path
    model: str = "auto"
    policy: str = "auto"
    image_size: int = 0
    device: str = "auto"
    precision: str = "auto"
    adapter: str = ""
    deterministic: bool = False
    frames: int = 0
    boxes: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    topic: str = ""
    mask_topic: str = ""
    mask_values: str = "auto"
    overwrite: bool = False
    say: Callable[[str], Any] = print


@dataclass(frozen=True)
class DemoOptions(TrackOptions):
    """rate: Hz, 0 the source's own, None as fast as the tracker follows
    keep_going: play the source again and again, until SIGINT, which then ends the demo as its end would
    """

    rate: float | None = None
    keep_going: bool = False
