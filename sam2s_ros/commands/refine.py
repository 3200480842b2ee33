"""`sam2s refine`: semantic maps of a recording, made better by tracked masklets. torch is imported when it runs."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam2s_model.paths import write_result, writing
from sam2s_ros.commands.arguments import Frames, LabelSetName, Overwrite, SourceSpec, Topic, line_printer
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.commands.spread import spread

if TYPE_CHECKING:  # loads torch
    import numpy as np

    from sam2s_model.recordings.recording import Frame
    from sam2s_model.semantic_maps.refine import RefineConfig

COMMAND, SUMMARY = "refine", "summary.json"
OWN_FILES = ("masks/*.png", SUMMARY)


@dataclass(frozen=True)
class RefineOptions:
    """What is refined, and where to. Fields as of the command; say: told what should be known, one line at a time"""

    maps: str
    source: str
    engine: EngineOptions
    output: Path
    refine: RefineConfig
    truth: str = ""
    frames: int = 0
    label_set: str = ""
    topic: str = ""
    overwrite: bool = False
    say: Callable[[str], Any] = print


def run_refine(
    options: RefineOptions, on_frame: Callable[[int, int | None], Any] = lambda done, total: None
) -> dict[str, Any]:
    """Refine and write masks/<name of the frame>.png, palette PNGs of class ids. Returns the summary, also in a file.

    Raises a Sam2sError for bad input; what was refined up to there is written.
    """
    from sam2s_model.recordings.open import open_recording
    from sam2s_model.results.label_png import write_label_png
    from sam2s_model.semantic_maps.refine import DEFAULTS, check_map, refine, tracker_for_refining
    from sam2s_model.semantic_maps.scores import MapScore
    from sam2s_model.semantic_maps.sources import NOISY, class_ids, maps_in, noisy_maps, true_map
    from sam2s_ros.commands.label_sets import label_set_file, open_label_set
    from sam2s_ros.processes.results import check_masks_are_ours, claim

    recording = open_recording(options.source, topic=options.topic)
    for note in recording.notes:
        options.say(f"{recording.spec}: {note}")
    labels = open_label_set(label_set_file(options.label_set, recording.label_set))
    ids = class_ids(recording, labels)
    noisy = options.maps.partition(":")[0] == NOISY and not Path(options.maps).exists()
    base_of = noisy_maps(options.maps, ids) if noisy else maps_in(options.maps)
    truth_of = maps_in(options.truth) if options.truth else lambda frame: true_map(frame, ids)
    engine = options.engine.with_checkpoint(recording.kind, options.say)
    config = engine.tracker_config(**DEFAULTS)
    tracker = tracker_for_refining(engine.load(), engine.policy, config)
    with writing(options.output):
        check_masks_are_ours(options.output, SUMMARY, COMMAND)
        inputs = ("" if noisy else options.maps, options.truth)
        claim(
            options.output, OWN_FILES, overwrite=options.overwrite, inputs=inputs, files=recording.files(),
            mark=(SUMMARY, dict(command=COMMAND, interrupted=True)),
        )  # fmt: skip
        masks = options.output / "masks"
        masks.mkdir(parents=True, exist_ok=True)

    truths: deque[np.ndarray | None] = deque()  # of the frames of a window

    def pairs() -> Iterator[tuple[Frame, np.ndarray]]:
        for frame in islice(recording, options.frames or None):
            truth = truth_of(frame)  # of the whole window before it is tracked: what is wrong then costs no work
            if truth is not None:
                check_map(f"the true map of {frame.name}", frame, truth)
            truths.append(truth)
            yield frame, base_of(frame)

    colours = {label.id: label.color for label in labels.classes}
    before, after, masklets, began = MapScore(), MapScore(), [], time.monotonic()
    total = recording.length and min(recording.length, options.frames or recording.length)
    for one in refine(tracker, pairs(), options.refine):
        truth = truths.popleft()
        before.add(one.base, truth)
        after.add(one.map, truth)
        masklets.append(one.masklets)
        with writing(options.output):
            write_label_png(masks / f"{one.frame.name}.png", one.map, colours)
        on_frame(after.frames, total)
    summary = dict(
        command=COMMAND,
        interrupted=False,
        maps=options.maps,
        source=recording.spec,
        checkpoint=str(engine.checkpoint),
        model=tracker.name,
        device=tracker.device_description(),
        window=options.refine.window,
        grid=config.discovery_grid,
        frames=after.frames,
        left_out=dict(count=recording.odd_count, named=recording.odd),
        masklets=masklets[:: options.refine.window],
        mean_iou=dict(before=_number(before.mean_iou), after=_number(after.mean_iou)),
        flicker=dict(before=_number(before.flicker), after=_number(after.flicker)),
        flicker_is_of=after.flicker_is_of,
        seconds=round(time.monotonic() - began, 3),
    )
    write_result(options.output / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


@spread
def refine_command(
    maps: Annotated[
        str,
        typer.Argument(
            help="folder of class images called as the frames are: 8 bits, 0 background, 255 unlabelled; "
            "or noisy:SEED: the source's true classes, spoiled, to measure with"
        ),
    ],
    source: SourceSpec,
    engine: EngineOptions,
    window: Annotated[int, typer.Option(min=1, max=1024, help="frames that masklets are tracked through")] = 32,
    grid: Annotated[int, typer.Option(min=1, max=64, help="points along each side, on a window's first frame")] = 16,
    masklets: Annotated[int, typer.Option(min=1, max=64, help="most masklets of a window, the best ones")] = 32,
    min_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="least share of a masklet's votes for its class")
    ] = 0.5,
    truth: Annotated[
        str, typer.Option(metavar="FOLDER", help="true class images, to score with; default: the source's own masks")
    ] = "",
    frames: Frames = 0,
    output: Annotated[
        Path | None, typer.Option(help="folder for the results; default: output/refine, or a free one beside it")
    ] = None,
    overwrite: Overwrite = False,
    label_set: LabelSetName = "",
    topic: Topic = "",
) -> None:
    """Refine semantic maps of any network: masklets from a grid of points take the class that most of the maps say.

    As SAM2 for video semantic segmentation: windows of frames, a 16x16 grid, the maps stay where no masklet is. Where
    the truth is known, mIoU and flicker before and after are printed, and in summary.json.
    """
    from dataclasses import replace

    from rich.console import Console

    from sam2s_model.semantic_maps.refine import RefineConfig
    from sam2s_ros.commands.progress import ProgressLines
    from sam2s_ros.processes.results import chosen_folder

    console = Console()
    say = line_printer(console)
    output = chosen_folder(output, "output/refine", OWN_FILES, overwrite=overwrite, say=say)
    given = replace(engine, option=(f"discovery_grid={grid}", *engine.option))
    options = RefineOptions(
        maps=maps, source=source, engine=given, output=output, truth=truth, frames=frames, label_set=label_set,
        refine=RefineConfig(window=window, masklets=masklets, min_share=min_share), topic=topic, overwrite=overwrite,
        say=say,
    )  # fmt: skip
    summary = run_refine(options, ProgressLines(say))
    say(
        f"{summary['frames']} frames, windows of {window}, {sum(summary['masklets'])} masklets in all: "
        f"mIoU {_change(summary['mean_iou'])}, flicker {_change(summary['flicker'])} of {summary['flicker_is_of']}"
    )
    say(f"maps: {output / 'masks'}")


def _change(values: dict[str, float | None]) -> str:
    before, after = values["before"], values["after"]
    if before is None or after is None:
        return "not known (no truth)"
    return f"{before:.3f} before, {after:.3f} after"
