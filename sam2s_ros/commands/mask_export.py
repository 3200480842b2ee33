"""`sam2s export masks`: what was tracked, as label images, a table, COCO, a data set, or a video."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.paths import write_result, write_whole, writing
from sam2s_model.recordings.class_file import CLASS_FILE
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import ASSUMED_FPS, Recording
from sam2s_model.results.coco import CocoTracks
from sam2s_model.results.label_png import colours_of, write_label_png
from sam2s_model.results.reading import TrackedFrame, TrackedRecording, open_tracked
from sam2s_model.results.tracks_table import TracksCsv
from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import Tracks
from sam2s_ros.commands.image_pairs import paired
from sam2s_ros.commands.label_sets import label_set_file, open_label_set, renumbered
from sam2s_ros.overlay import draw_overlay
from sam2s_ros.overlay_video import OverlayVideo
from sam2s_ros.processes.results import check_masks_are_ours, claim

KINDS = ("png", "csv", "coco", "dataset", "video")
COMMAND = "export masks"
SUMMARY = "export.json"
DATA_SET = "dataset"
OWN_FILES = (
    "masks/*.png", f"{DATA_SET}/frames/*.png", f"{DATA_SET}/masks/*.png", f"{DATA_SET}/{CLASS_FILE}", "tracks.csv",
    "tracks.json", "overlay.mp4", SUMMARY,
)  # fmt: skip


@dataclass(frozen=True)
class MaskExport:
    """What is exported, and where to.

    to: some of KINDS
    images: the recording that was tracked, "" for the one that the source names; topic: of its images in a bag
    crop: the part of its pictures that was tracked, see `Crop`, "" for the one that the source names
    mask_topic: of a bag with several of TrackedMasks; label_set: as of `label_set_file`, which has the classes of the
        source by their names, and numbers them anew; "" for the source's own
    say: told what the user should know, one line at a time
    """

    source: str
    to: tuple[str, ...]
    output: Path
    images: str = ""
    topic: str = ""
    mask_topic: str = ""
    label_set: str = ""
    overwrite: bool = False
    crop: str = ""
    say: Callable[[str], Any] = print


def export_masks(options: MaskExport) -> dict[str, Any]:
    """Write what was asked for, and export.json. Returns its content.

    Raises ConfigError for a kind that is none, a data set without images, a class that the label set does not have, and
    a folder that has results, or from which the source is read; SourceError for what cannot be read, and where no image
    belongs to what was tracked; all of it before anything is written. SourceError, too, when what was tracked is gone
    by then.
    """
    for kind in options.to:
        if kind not in KINDS:
            raise ConfigError(f"--to {kind}: expected some of {', '.join(KINDS)}")
    tracked = open_tracked(options.source, options.mask_topic)
    asked_for = open_label_set(label_set_file(options.label_set)) if options.label_set else None
    label_set = asked_for or tracked.label_set
    if asked_for:
        for frame in tracked:
            renumbered(frame.tracks, asked_for)
    first = next(iter(tracked), None)
    if first is None:
        raise SourceError(f"{options.source} has no frame that was tracked: expected at least one")
    images = _images(options, tracked, first.tracks.size)
    if images is not None and not any(image is not None for _, image in paired(tracked, images)):
        by = "stamp" if tracked.by_stamp else "name"
        raise SourceError(
            f"no image of {images.spec} has the {by} and size of a frame in {options.source}: give another --images"
        )
    check_masks_are_ours(options.output, SUMMARY, COMMAND)
    claim(
        options.output, OWN_FILES, overwrite=options.overwrite, inputs=(options.source, images.spec if images else ""),
        mark=(SUMMARY, dict(command=COMMAND, finished=False)),
    )  # fmt: skip
    frames = with_image = 0
    with writing(options.output), ExitStack() as files:
        writers = [_WRITERS[kind](options.output, label_set, files) for kind in options.to if kind in _WRITERS]
        if "video" in options.to:
            writers.append(_video(options.output, label_set, files, tracked, images))
        for frame, image in paired(tracked, images):
            frames += 1
            with_image += image is not None
            said = replace(frame, tracks=renumbered(frame.tracks, asked_for)) if asked_for else frame
            for write in writers:
                write(said, image)
    if not frames:
        raise SourceError(f"{options.source} had frames that were tracked, and has none any more: nothing was exported")
    summary = dict(
        command=COMMAND, finished=True, source=options.source, to=list(options.to), frames=frames,
        with_image=with_image if images else None, images=images.spec if images else "",
        left_out=tracked.odd, label_set=label_set.name,
    )  # fmt: skip
    write_result(options.output / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def _images(options: MaskExport, tracked: TrackedRecording, size: tuple[int, int]) -> Recording | None:
    """Open the recording that was tracked. None: nobody says which, or it is not needed, or not there any more.

    size: (H, W) of what was tracked: a recording of that size is not cut as the one that was tracked
    """
    if not {"dataset", "video"} & set(options.to):
        return None
    spec = options.images or (options.source if options.topic else tracked.images)
    if not spec:
        if "dataset" in options.to:
            raise ConfigError(
                f"--to dataset needs the images, which are not in {options.source}: give the recording as --images"
            )
        options.say("no --images were given: the video shows masks on black")
        return None
    topic = options.topic or tracked.images_topic
    recording = open_recording(spec, topic=topic, crop=options.crop)
    if tracked.images_crop and not options.crop and recording.size != size:
        return open_recording(spec, topic=topic, crop=tracked.images_crop)
    return recording


Write = Callable[[TrackedFrame, "np.ndarray | None"], Any]


def _png(output: Path, label_set: LabelSet, _: ExitStack) -> Write:
    masks = output / "masks"
    masks.mkdir(exist_ok=True)
    return lambda frame, image: _write_mask(masks, frame, label_set)


def _write_mask(masks: Path, frame: TrackedFrame, label_set: LabelSet) -> None:
    write_label_png(masks / f"{frame.name}.png", frame.tracks.label_map, colours_of(frame.tracks, label_set))


def _csv(output: Path, _: LabelSet, files: ExitStack) -> Write:
    table = files.enter_context(TracksCsv(output / "tracks.csv"))
    return lambda frame, image: table.write(frame.index, frame.name, frame.tracks)


def _coco(output: Path, label_set: LabelSet, files: ExitStack) -> Write:
    coco = CocoTracks(label_set)
    files.callback(lambda: coco.write(output / "tracks.json"))
    return lambda frame, image: coco.add(f"{frame.name}.png", frame.tracks)


def _dataset(output: Path, label_set: LabelSet, files: ExitStack) -> Write:
    """Return what writes frames/, masks/ and classes.yaml, as `sam2s train` reads them, of frames with an image.

    classes.yaml has the classes that somebody or a class head has said; not that of a value which stood for two.
    """
    frames, masks = output / DATA_SET / "frames", output / DATA_SET / "masks"
    frames.mkdir(parents=True, exist_ok=True)
    masks.mkdir(exist_ok=True)
    said: dict[int, set[str]] = {}

    def write_classes() -> None:
        table = {value: min(names) for value, names in sorted(said.items()) if len(names) == 1}
        if table:
            write_whole(output / DATA_SET / CLASS_FILE, yaml.safe_dump(table))

    files.callback(write_classes)

    def write(frame: TrackedFrame, image: np.ndarray | None) -> None:
        if image is None:
            return
        own = frame.tracks
        assert own.class_scores is not None  # NaN where nobody gave any
        for value, name, score in zip(own.labels.tolist(), own.class_names, own.class_scores.tolist(), strict=True):
            if score == score:  # NaN: nobody said it, and the name is the label set's first
                said.setdefault(value, set()).add(name)
        path = frames / f"{frame.name}.png"
        if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{path} could not be written")
        _write_mask(masks, frame, label_set)

    return write


def _video(
    output: Path, label_set: LabelSet, files: ExitStack, tracked: TrackedRecording, images: Recording | None
) -> Write:
    """Return what draws the video; frames of another size than the first are left out of it."""
    fps = _fps(tracked) or (images.fps if images is not None else ASSUMED_FPS)
    made: list[OverlayVideo] = []

    def write(frame: TrackedFrame, image: np.ndarray | None) -> None:
        tracks: Tracks = frame.tracks
        if not made:
            made.append(OverlayVideo(output / "overlay.mp4", fps, *tracks.size))
            files.callback(made[0].close)
        if tracks.size == made[0].size:
            ground = np.zeros((*tracks.size, 3), np.uint8) if image is None else image
            made[0].write(draw_overlay(ground, tracks, label_set))

    return write


def _fps(tracked: TrackedRecording) -> float:
    """Return the frames per second of the first second or so, by their stamps; 0 where there are none."""
    stamps = []
    for frame in tracked:
        stamps.append(frame.tracks.stamp)
        if len(stamps) == 30:
            break
    gaps = [b - a for a, b in zip(stamps, stamps[1:], strict=False) if a and b > a]
    return 1e9 / float(np.median(gaps)) if gaps else 0.0


_WRITERS: dict[str, Callable[[Path, LabelSet, ExitStack], Write]] = {
    "png": _png, "csv": _csv, "coco": _coco, "dataset": _dataset,
}  # fmt: skip
