"""Write a store of a teacher's answers for images, once, so that students learn from it at their own speed.

    sam2s teacher store CONFIG.yaml STORE

A store that was not finished goes on where it stopped, and ends with the same bytes. config/teach has configurations.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sam2s_model.config import NANO_CLASSES, check_options, option
from sam2s_model.device import resolve_dtype
from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.published.sha256 import file_sha256
from sam2s_model.recordings.mask_values import VOID
from sam2s_model.training.augment import Geometry, draw_geometry
from sam2s_model.training.config import as_table, read_config, set_options
from sam2s_model.training.data_config import AugmentConfig, SourceConfig, check_values
from sam2s_model.training.datasets import BoxRecording, Still, TrainingRecording, mask_lines, open_source
from sam2s_model.training.store import StoreWriter, TaughtView, decode_rgb, encode
from sam2s_model.training.teacher import Teacher, inside_field

QUALITY = 95  # of the JPEGs that teacher and student both see
MIN_SHOWN = 0.002  # share of a view that a proposal must cover
MIN_BOX_IOU = 0.6  # expected of the mask in a box, which may cut its object off
BEYOND = 0.1  # how far, in its sides, a mask may reach out of the box that it was made for
WHOLE = Geometry(np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]))


@dataclass(frozen=True)
class TeachConfig:
    """The contents of a store. The first view of an image is the whole of it, others are crops, mirrored and turned."""

    checkpoint: str = option("", "the teacher: any model of the family; an image half is enough")
    size: int = option(384, "side of the square views, px", low=64, high=4096)
    precision: str = option(
        "auto", "of the teacher: auto (bf16 on CUDA), bf16 or fp32", choices=("auto", "bf16", "fp32")
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    seed: int = option(0, "of the views, and of their order", low=0)
    coarse: int = option(5, "clicks along a side of the grid for proposals", low=1, high=64)
    fine: int = option(10, "the same of the grid for what the coarse one has not found", low=1, high=64)
    proposals: int = option(12, "masks that are kept of an image", low=0, high=64)
    classes: tuple[str, ...] = option(NANO_CLASSES, "names that label sets may use")
    sources: tuple[SourceConfig, ...] = ()
    crops: AugmentConfig = AugmentConfig(zoom=2.0, stretch=1.25, rotation=15.0, mirror=0.5)

    def __post_init__(self):
        check_options(self)
        for source in self.sources:
            check_options(source)
            check_values(source)
            if source.kind in ("scene", "store"):
                raise ConfigError(
                    f"sources has one of kind {source.kind!r}: expected files: davis, folder, images or boxes"
                )
        if not self.sources or not self.checkpoint:
            raise ConfigError(f"{len(self.sources)} sources and checkpoint {self.checkpoint!r}: expected both")


@dataclass(frozen=True)
class TeachingJob:
    """One image: its recording, the frame's number there, and how many views are made of it."""

    recording: TrainingRecording | Still
    name: str
    frame: int
    views: int


def plan(config: TeachConfig) -> list[TeachingJob]:
    """List the images in the order in which they are written, which mixes all sources: a part of a store is a sample.

    Raises ConfigError and SourceError as `open_source` does.
    """
    jobs = []
    for source in config.sources:
        for recording in open_source(source, config.classes):
            frames = 1 if source.kind == "images" else len(recording)
            name = f"{source.path}:{recording.name}"
            jobs += [TeachingJob(recording, name, i, source.views) for i in range(0, frames, source.every)]
    return [jobs[i] for i in np.random.default_rng(config.seed).permutation(len(jobs))]


def teach(config: TeachConfig, folder: Path, stop: Callable[[int], bool] | None = None) -> tuple[int, list[str]]:
    """Write what is left of a store, with a bar, after a line on how masks are read.

    Returns the number of entries, and a sentence for each image that cannot be read.
    stop: asked before each image with the number of entries, True ends it there
    Raises ConfigError, CheckpointError and SourceError.
    """
    cv2.setNumThreads(1)
    jobs = plan(config)
    for line in mask_lines(dict.fromkeys(job.recording for job in jobs)):
        print(line, flush=True)
    teacher = Teacher.load(config.checkpoint, config.size, config.device)
    teacher.model.to(resolve_dtype(config.precision, teacher.model.device))
    total, unreadable = sum(job.views for job in jobs), []
    with StoreWriter(folder, _header(config, teacher, jobs)) as writer:
        columns = (TextColumn("teaching"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("", total=total, completed=writer.count)
            for job in jobs:
                if stop and stop(writer.count):
                    break
                if writer.views[job.name, job.frame] == job.views:
                    continue
                try:
                    _write(writer, teacher, config, job)
                except SourceError as error:
                    unreadable.append(str(error))
                bar.update(task, completed=writer.count)
                if bar.disable and writer.count % 100 < job.views:
                    print(f"{writer.count} of {total} entries", flush=True)
        return writer.count, unreadable


def _write(writer: StoreWriter, teacher: Teacher, config: TeachConfig, job: TeachingJob) -> None:
    """Write the views of an image that are not there yet. Raises SourceError when it cannot be read."""
    image, labels = job.recording.frame(job.frame)
    first = writer.views[job.name, job.frame]
    for view in range(job.views):
        geometry = WHOLE if view == 0 else _crop(config, job, view)
        jpeg = encode(
            ".jpg",
            cv2.cvtColor(geometry.warp(0, image, config.size), cv2.COLOR_RGB2BGR),
            cv2.IMWRITE_JPEG_QUALITY,
            QUALITY,
        )
        if 0 < view < first:
            continue
        shown = decode_rgb(jpeg)
        encoded = teacher.encode(torch.from_numpy(shown)[None])
        if view == 0:
            found = teacher.propose_everywhere(encoded, config.coarse, config.fine, config.proposals, config.size)
            masks = inside_field(found.masks, image)
            if isinstance(job.recording, BoxRecording):
                labels = _labels_of_boxes(teacher, encoded, job.recording.boxes(job.frame), config.size)
        if view < first:
            continue
        own = None if labels is None else geometry.warp(0, labels, config.size, nearest=True)
        values = () if own is None else (int(v) for v in np.unique(own) if 0 < v < VOID)
        rows = {value: job.recording.classes.get(value, -1) for value in values}
        classes = {value: config.classes[row] for value, row in rows.items() if row >= 0}
        coarse, middle, fine = (x[0].half().cpu().numpy() for x in (encoded.coarse, encoded.middle, encoded.fine))
        proposals = _shown(masks, geometry, config.size // 2)
        taught = TaughtView(shown, own, classes, proposals, (coarse, middle, fine))
        writer.add(job.name, job.frame, view, jpeg, taught)


def _crop(config: TeachConfig, job: TeachingJob, view: int) -> Geometry:
    rng = np.random.default_rng((config.seed, zlib.crc32(job.name.encode()), job.frame, view))
    return draw_geometry(rng, config.crops, 1)


def _labels_of_boxes(teacher: Teacher, features, boxes: list, size: int) -> np.ndarray:
    """Draw a label image (size, size) of the teacher's masks for boxes, the smaller in front.

    What is in a box of which the teacher is not sure is not scored.
    """
    labels = np.zeros((size, size), np.uint8)
    if not boxes:
        return labels
    found = teacher.masks_in_boxes(features, np.stack([box.corners for box in boxes]), size)
    for i in sorted(range(len(boxes)), key=lambda i: -np.prod(boxes[i].corners[1] - boxes[i].corners[0])):
        corners = boxes[i].corners
        reach = BEYOND * (corners[1] - corners[0])
        (x0, y0), (x1, y1) = (np.array([corners[0] - reach, corners[1] + reach]).clip(0, 1) * size).round().astype(int)
        if found.scores[i] < MIN_BOX_IOU:
            labels[y0:y1, x0:x1] = VOID
        else:
            labels[y0:y1, x0:x1][found.masks[i, y0:y1, x0:x1]] = boxes[i].value
    return labels


def _shown(masks: np.ndarray, geometry: Geometry, side: int) -> np.ndarray:
    """Cut proposals (K, S, S) of the whole image as a view shows them, (K', side, side)."""
    moved = [geometry.warp(0, mask.astype(np.uint8), side, nearest=True) > 0 for mask in masks]
    kept = [mask for mask in moved if np.count_nonzero(mask) > MIN_SHOWN * mask.size]
    return np.stack(kept) if kept else np.zeros((0, side, side), bool)


def _header(config: TeachConfig, teacher: Teacher, jobs: list[TeachingJob]) -> dict:
    """Collect what the bytes of a store depend on."""
    names = "\n".join(f"{job.name} {job.frame} {job.views}" for job in jobs)
    seen = teacher.encode(torch.zeros(1, config.size, config.size, 3, dtype=torch.uint8))
    table = as_table(config)
    return {
        **{key: table[key] for key in ("size", "seed", "coarse", "fine", "proposals", "classes", "crops")},
        "sources": [set_options(source) for source in config.sources],
        "precision": str(teacher.model.dtype).removeprefix("torch."),
        "teacher": file_sha256(resolve_checkpoint(config.checkpoint)),
        "planned": sum(job.views for job in jobs),
        "images": hashlib.sha256(names.encode()).hexdigest(),
        "levels": [list(level.shape[1:]) for level in (seen.coarse, seen.middle, seen.fine)],
    }


def teach_store(config: Path, store: Path, overrides: Sequence[str]) -> None:
    """Write a teacher's answers for images: features on three levels, and masks. overrides: KEY=VALUE"""
    count, unreadable = teach(read_config(TeachConfig, config, overrides), store)
    for problem in unreadable:
        print(f"left out: {problem}")
    size = sum(f.stat().st_size for f in store.iterdir()) / 1e9
    print(f"{store}: {count} entries, {size:.2f} GB, {len(unreadable)} images left out")
