"""What `sam2s annotate` may begin with: masks of the source or of files, and boxes of a detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam2s_model.errors import ConfigError

if TYPE_CHECKING:  # loads torch
    from sam2s_model.annotation.project import AnnotationProject

FROM_MASKS_HELP = (
    "begin with the masks that the source has, or --masks, of a frame or of all; default with --masks: all"
)
MASKS_HELP = (
    "masks to begin with: a folder of label images or labelme's files, named as the images are, or by frame numbers; "
    "a COCO file"
)
BOXES_HELP = "boxes of a detector to begin with: a folder of YOLO's text files, named as frames; a COCO file"
FROM_BOXES_HELP = "of --boxes, those of one frame, or of all, between which it tracks; default: the first with any"


@dataclass(frozen=True)
class BeginOptions:
    """Where an annotation starts from. Frames are numbers from 0, or "all"; "": see the options' help."""

    from_masks: Annotated[str, typer.Option(metavar="FRAME|all", help=FROM_MASKS_HELP)] = ""
    masks: Annotated[str, typer.Option(metavar="PATH", help=MASKS_HELP)] = ""
    mask_topic: Annotated[str, typer.Option(help="topic of a bag with label images, for --from-masks")] = ""
    boxes: Annotated[str, typer.Option(metavar="PATH", help=BOXES_HELP)] = ""
    from_boxes: Annotated[str, typer.Option(metavar="FRAME|all", help=FROM_BOXES_HELP)] = ""
    box_score: Annotated[float, typer.Option(min=0.0, max=1.0, help="boxes of a lower score are left out")] = 0.0

    def __post_init__(self):
        for option, value in (("--from-masks", self.from_masks), ("--from-boxes", self.from_boxes)):
            if value and value != "all" and not value.isdecimal():
                raise ConfigError(f"{option} {value}: expected the number of a frame, from 0, or all")
        if self.masks and self.mask_topic:
            raise ConfigError(f"--masks {self.masks} and --mask-topic {self.mask_topic}: expected one of them")
        if self.from_boxes and not self.boxes:
            raise ConfigError(f"--from-boxes {self.from_boxes} without --boxes: give the files that have them")


def begin(
    project: AnnotationProject, source: str, topic: str, options: BeginOptions, say: Callable[[str], Any]
) -> None:
    """Start objects with what the options name. Raises ConfigError and SourceError where there is nothing of it."""
    if options.from_masks or options.masks:
        _with_masks(project, source, topic, options, say)
    if options.boxes:
        _with_boxes(project, options, say)


def _with_masks(
    project: AnnotationProject, source: str, topic: str, options: BeginOptions, say: Callable[[str], Any]
) -> None:
    from itertools import takewhile

    from sam2s_model.annotation.script import begin_with, object_numbers
    from sam2s_model.recordings.open import open_recording, take_masks

    recording = open_recording(source, topic=topic, mask_topic=options.mask_topic)
    if options.masks:
        take_masks(recording, options.masks)
        say(f"{options.masks}: {recording.mask_summary}")
    which = options.from_masks or "all"
    folders = {} if options.masks else recording.object_folders
    for label, number in object_numbers(project, folders).items():
        say(f"object {folders[label]} of the masks is object {number} here: numbers are 1 to 254")
    last = project.frames[-1].number if which == "all" else int(which)
    frames = masks = left = 0
    with project.at_once():
        for frame in takewhile(lambda own: own.index <= last, recording):
            if frame.truth is not None and (which == "all" or frame.index == last):
                begun, kept = begin_with(project, frame.index, frame.truth.masks, recording.classes)
                masks, left, frames = masks + len(begun), left + len(kept), frames + 1
    if not frames:
        where = "any frame" if which == "all" else f"frame {which}"
        raise ConfigError(f"{options.masks or source} has no masks on {where}: give another --from-masks")
    for sentence in recording.odd:
        say(sentence)
    more = f"; {left} objects on them were prompted before, and stay as they are" if left else ""
    say(f"begun with {masks} masks of {frames} frames{more}")


def _with_boxes(project: AnnotationProject, options: BeginOptions, say: Callable[[str], Any]) -> None:
    from sam2s_model.annotation.boxes import begin_with_boxes, read_detections

    found = read_detections(options.boxes, project, say)
    if options.from_boxes != "all":
        numbers = {frame.number: frame.position for frame in project.frames}
        wanted = numbers.get(int(options.from_boxes), -1) if options.from_boxes else min(found)
        if wanted not in found:
            there = [project.frames[position].number for position in sorted(found)]
            raise ConfigError(
                f"{options.boxes} has no boxes on frame {options.from_boxes}: expected one of {len(there)} frames, "
                f"the first of them {there[0]}"
            )
        found = {wanted: found[wanted]}
    numbers_begun, fates = begin_with_boxes(project, found, options.box_score)
    left = ", ".join(f"{count} {fate.name.lower()}" for fate, count in fates.items() if fate.name != "NEW")
    say(f"begun with {len(numbers_begun)} boxes of {len(found)} frames{'; ' * bool(left)}{left}")
