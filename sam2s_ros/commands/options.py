"""What the commands `sam2s track` and `sam2s demo` were asked for. They differ in what only a graph can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2s_ros.commands.arguments import PromptOptions, SoughtOptions
from sam2s_ros.commands.engine import EngineOptions


@dataclass(frozen=True)
class TrackOptions:
    """What is tracked, with what, and where the results go.

    frames: at most, 0 no limit
    prompts: what is tracked; start: number of the frame that tracking, and the command line's prompts, begin with
    label_set: as of `label_set_file`; crop: part of each picture, see `Crop`
    mask_values: how values of masks are read, see `mask_values.decide`
    sought: classes that are looked for, in place of prompts
    coco, parquet: whether tracks.json and tracks.parquet are written as well; masks, overlay: whether they are
    threads: of torch, 0: as many as it takes by itself
    objects: file of objects of an earlier run, which go on from the first frame; save_objects: file for those of this
    overwrite: whether results that `output` has of an earlier run are replaced
    say: told what the user should know, one line at a time
    """

    source: str
    engine: EngineOptions
    output: Path
    deterministic: bool = False
    frames: int = 0
    prompts: PromptOptions = PromptOptions()
    sought: SoughtOptions = SoughtOptions()
    start: int = 0
    label_set: str = ""
    topic: str = ""
    mask_topic: str = ""
    mask_values: str = "auto"
    crop: str = ""
    coco: bool = False
    parquet: bool = False
    objects: Path | None = None
    save_objects: Path | None = None
    masks: bool = True
    overlay: bool = True
    threads: int = 0
    overwrite: bool = False
    say: Callable[[str], Any] = print


@dataclass(frozen=True)
class DemoOptions(TrackOptions):
    """As `TrackOptions`, of a graph.

    rate: Hz, 0 the source's own, None as fast as the tracker follows
    keep_going: play the source again and again, until SIGINT, which then ends the demo as its end would
    """

    rate: float | None = None
    keep_going: bool = False
