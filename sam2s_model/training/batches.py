"""The clips of a training step: a function of the data's configuration, a seed and the step, and of nothing else.

So a run that was killed sees the same clips when it resumes, and so does each process of a distributed one, which takes
its share of them.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.mask_values import VOID
from sam2s_model.training.augment import ColourChange, Geometry, draw_geometry
from sam2s_model.training.cache import ByteCache
from sam2s_model.training.clip import Clip
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.datasets import Still, numbered_scene, open_source
from sam2s_model.training.sampling import draw_indices
from sam2s_model.training.stored import draw_views, open_views

TRIES = 6  # to find a first frame with an object that is large enough, before all masks are looked at
DRAWS = 1000  # of indices, to find some that begin with such a frame
MAX_UNREADABLE = 100  # files in a row
ROOM = 1.5  # frames are kept at this many times the clip's side, for the crops
OBJECTS = range(1, VOID)


def batch(config: DataConfig, seed: int, step: int, part: tuple[int, int] = (0, 1)) -> list[Clip]:
    """Draw the clips of a step: all of length `config.length`, or all single images, as the step's lot says.

    part: (i, n): every n-th clip from the i-th on, for one of n processes; together they have the clips of (0, 1). Of
        single images, with `config.views`, it is every n-th group of so many clips, see `clip_numbers`
    A file that cannot be read is left out, and named in `opened(config).unreadable`: something else is drawn.
    Raises ConfigError when there is no source for it, SourceError when nothing can be read.
    """
    stills = np.random.default_rng((seed, step)).random() < config.image_share
    length = 1 if stills else config.length
    again = config.pool and length == 1
    step = step % config.pool if again else step
    views = config.views if length == 1 else 1
    groups = range(part[0], config.frames // (length * views), part[1])
    data = opened(config)

    def draw(number: int) -> list[Clip]:
        clips = draw_group(data, config, np.random.default_rng((seed, step, number)), seed, step, length, views)
        # a phase may change these, and with length, sampling and stride other frames of a scene are drawn
        told = (config.size, config.length, config.sampling, config.stride)
        keys = [(seed, step, number, i, *told) for i in range(views)]
        return [dataclasses.replace(clip, key=key) for clip, key in zip(clips, keys, strict=True)] if again else clips

    if config.workers == 1:
        return [clip for group in groups for clip in draw(group)]
    with ThreadPoolExecutor(config.workers) as workers:
        return [clip for clips in workers.map(draw, groups) for clip in clips]


def check_drawable(config: DataConfig) -> None:
    """Raise the ConfigError or SourceError that `batch` raises of sources which fit no clip of this configuration."""
    data = opened(config)
    lengths = {config.length if config.image_share < 1 else 1, 1 if config.image_share > 0 else config.length}
    for length in lengths:
        for source, _ in _usable(data, length):
            if source.kind == "store":
                open_views(source, config.size)


def clip_numbers(config: DataConfig, clips: Sequence[Clip], part: tuple[int, int] = (0, 1)) -> list[int]:
    """Return the numbers in the whole batch of the clips that `batch` gave one of n processes."""
    views = config.views if clips and len(clips[0]) == 1 else 1
    return [(part[0] + part[1] * (i // views)) * views + i % views for i in range(len(clips))]


@dataclass(frozen=True, eq=False)
class Data:
    """sources: what can be drawn from, each with its recordings; cache: of frames and of drawn scenes

    unreadable: what is wrong with files that were drawn and left out
    """

    sources: tuple[tuple[SourceConfig, Sequence], ...]
    cache: ByteCache
    unreadable: dict[str, None] = field(default_factory=dict)  # a set in the order of its making


_open: dict[tuple, Data] = {}
_lock = threading.Lock()


def opened(config: DataConfig) -> Data:
    """Open the sources of a configuration, once in a process. Raises ConfigError and SourceError."""
    key = (config.sources, config.classes, config.cache_mb)
    with _lock:
        if key not in _open:
            if not any(source.weight > 0 for source in config.sources):
                raise ConfigError(f"data has {len(config.sources)} sources with a weight: expected at least one")
            sources = tuple((s, open_source(s, config.classes)) for s in config.sources if s.weight > 0)
            _open[key] = Data(sources, ByteCache(config.cache_mb * 2**20))
        return _open[key]


@dataclass(frozen=True)
class _Raw:
    """Frames as they were recorded. labels, features: None where a frame has none; still: one image, several times."""

    images: Sequence[np.ndarray]
    labels: Sequence[np.ndarray | None]
    features: Sequence[np.ndarray | None]
    classes: dict[int, int]
    still: bool = False


def draw_group(
    data: Data, config: DataConfig, rng: np.random.Generator, seed: int, step: int, length: int, views: int
) -> list[Clip]:
    """Draw `views` clips: of one scene where the source that is drawn is a store, otherwise each of its own."""
    source, recordings = _draw_source(data, rng, length)
    if source.kind == "store":
        return draw_views(source, config, rng, views, (seed, step, int(rng.integers(2**40))))
    return [draw_clip(data, config, rng, seed, step, length, (source, recordings)) for _ in range(views)]


def _draw_source(data: Data, rng: np.random.Generator, length: int) -> tuple[SourceConfig, Sequence]:
    usable = _usable(data, length)
    weights = np.array([source.weight for source, _ in usable])
    return usable[int(rng.choice(len(usable), p=weights / weights.sum()))]


def _usable(data: Data, length: int) -> list[tuple[SourceConfig, Sequence]]:
    usable = [(s, _drawable(r, length)) for s, r in data.sources if s.kind != "store" or length == 1]
    usable = [(source, recordings) for source, recordings in usable if recordings or source.kind in ("scene", "store")]
    if not usable:
        raise ConfigError("data has only images without masks: expected a source with masks, or image_share = 1")
    return usable


def draw_clip(
    data: Data,
    config: DataConfig,
    rng: np.random.Generator,
    seed: int,
    step: int,
    length: int,
    chosen: tuple | None = None,
) -> Clip:
    """Draw a clip: a source by its weight, then one of its recordings, its frames, and how they are changed.

    chosen: a source and its recordings, drawn already
    Recordings without masks are drawn only where single images are. The first frame shows an object, where the source
    has one of at least `min_area`, of that size. Raises ConfigError for a source whose masks show none at all.
    """
    source, recordings = chosen or _draw_source(data, rng, length)
    drawn = data, config, source, recordings, rng, seed, step, length
    for attempt in range(TRIES):
        raw = _draw_readable(*drawn)
        focus = _focus(rng, raw.labels[0], config.min_area * (attempt < TRIES - 1 or source.kind != "scene"))
        annotated = any(labels is not None for labels in raw.labels)
        if not annotated or focus is not None:
            break
    else:
        if source.kind != "scene":
            raw, focus = _draw_shown(*drawn)
    motion = config.augment.still_motion if raw.still and length > 1 else 0.0
    for _ in range(TRIES):
        geometry = draw_geometry(rng, config.augment, length, focus, motion)
        moved = [_labels(raw.labels[t], geometry, t, config.size) for t in range(length)]
        if focus is None or _objects(moved[0], config.min_area):
            break
    colours = ColourChange(rng, config.augment, length)
    images = [colours.apply(t, geometry.warp(t, raw.images[t], config.size)) for t in range(length)]
    labels = np.stack(moved) if annotated else np.zeros((length, config.size, config.size), np.uint8)
    features = None
    known = [f for f in raw.features if f is not None]
    if len(known) == len(raw.features):
        features = np.stack([geometry.warp_features(t, f) for t, f in enumerate(known)])
    classes = {label: raw.classes.get(label, -1) for label in _objects(labels, 0.0)}
    return Clip(np.stack(images), labels, classes, annotated, features)


def _drawable(recordings: Sequence, length: int) -> Sequence:
    return recordings if length == 1 else [r for r in recordings if r.has_masks]


def _draw_readable(data: Data, config, source, recordings, rng, *rest, **more) -> _Raw:
    """Draw as `_draw_raw`, but only files that can be read.

    Others are left out each time that they are drawn, so that what is drawn does not depend on what has been found out
    before.
    """
    problem = None
    for _ in range(MAX_UNREADABLE):
        found = _try_draw(data, config, source, recordings, rng, *rest, **more)
        if isinstance(found, _Raw):
            return found
        problem = found
        data.unreadable[str(problem)] = None
    raise SourceError(
        f"{MAX_UNREADABLE} files in a row of {source.path} cannot be read, the last: {problem}"
    ) from problem


def _try_draw(*arguments, **more) -> _Raw | SourceError:
    try:
        return _draw_raw(*arguments, **more)
    except SourceError as error:
        return error


def _draw_shown(
    data: Data, config: DataConfig, source, recordings, rng, *rest
) -> tuple[_Raw, tuple[float, float] | None]:
    """Draw frames of which the first is one of those that show an object, for sources in which they are rare."""
    for min_area in (config.min_area, 0.0):
        for which in rng.permutation(len(recordings)):
            shown = recordings[which].showing(min_area) if recordings[which].has_masks else []
            if shown:
                raw = _draw_readable(data, config, source, [recordings[which]], rng, *rest, shown=shown)
                return raw, _focus(rng, raw.labels[0], min_area)
    raise ConfigError(f"no mask of {source.path} shows an object: expected one on at least one frame")


def _draw_raw(
    data,
    config: DataConfig,
    source: SourceConfig,
    recordings,
    rng,
    seed: int,
    step: int,
    length: int,
    shown: Sequence[int] = (),
) -> _Raw:
    """Draw frames of one of the recordings. shown: where the first frame has to be one of some"""
    if source.kind == "scene":
        return _draw_scene(data, config, source, rng, seed, step, length)
    recording = recordings[int(rng.integers(len(recordings)))]
    still = isinstance(recording, Still)
    if still:
        indices = [int(rng.integers(len(recording)))] * length
    else:
        # where masks are few, those frames are the video, as in the training set of YouTube-VOS
        usable = recording.annotated or range(len(recording))
        for _ in range(DRAWS):
            chosen = draw_indices(rng, config.sampling, len(usable), length, config.stride, config.reverse)
            indices = [usable[i] for i in chosen]
            if not shown or indices[0] in shown:
                break
        else:  # an object at the very end, say: what follows is what leads to it
            first = usable.index(shown[int(rng.integers(len(shown)))])
            indices = [usable[first + i if first + length <= len(usable) else max(0, first - i)] for i in range(length)]
    room = round(ROOM * config.size)

    def read(i: int) -> tuple[np.ndarray, np.ndarray | None]:
        return data.cache.get((source, recording.name, i, room), lambda: _fitted(recording.frame(i), room))

    frames = [read(i) for i in indices]
    features = [recording.features(i) for i in indices]
    return _Raw([f[0] for f in frames], [f[1] for f in frames], features, recording.classes, still)


def _draw_scene(data, config: DataConfig, source: SourceConfig, rng, seed: int, step: int, length: int) -> _Raw:
    """Draw a clip of the pool, which moves on with the step: a drawn scene is used more than once before it goes."""
    number = int(step * config.scene_fresh) + int(rng.integers(config.scene_pool))
    height = source.height or config.size

    def draw() -> tuple:
        own = np.random.default_rng((seed, number, 1))
        which = int(own.integers(source.scenes)) if source.scenes else int(own.integers(2**40))
        recording = numbered_scene(source, which, config.size, config.classes)
        indices = draw_indices(own, config.sampling, len(recording), config.length, config.stride, config.reverse)
        frames = [recording.frame(i) for i in indices]
        rows = np.array([recording.classes.get(label, -1) for label in range(1, 1 + max(recording.classes, default=0))])
        return [f[0] for f in frames], [f[1] for f in frames], rows

    what = (source, seed, number, height, config.length, config.sampling, config.stride, config.reverse)
    images, labels, rows = data.cache.get(what, draw)
    if length < len(images):
        first = int(rng.integers(len(images) - length + 1))
        images, labels = images[first : first + length], labels[first : first + length]
    return _Raw(images, labels, [None] * length, {label: int(row) for label, row in enumerate(rows, start=1)})


def _fitted(frame: tuple[np.ndarray, np.ndarray | None], room: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Scale a frame, image and labels, so that its shorter side is at most `room`."""
    image, labels = frame
    height, width = image.shape[:2]
    scale = room / min(height, width)
    if scale < 1:
        size = (round(scale * width), round(scale * height))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        labels = None if labels is None else cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    return image, labels


def _focus(rng: np.random.Generator, labels: np.ndarray | None, min_area: float) -> tuple[float, float] | None:
    """Draw a place, 0..1, on one of the objects that cover at least a share of the frame; None when there is none."""
    found = [] if labels is None else _objects(labels, min_area)
    if labels is None or not found:
        return None
    y, x = np.nonzero(labels == found[int(rng.integers(len(found)))])
    return (np.median(x) + 0.5) / labels.shape[1], (np.median(y) + 0.5) / labels.shape[0]


def _labels(labels: np.ndarray | None, geometry: Geometry, t: int, size: int) -> np.ndarray:
    return np.full((size, size), VOID, np.uint8) if labels is None else geometry.warp(t, labels, size, nearest=True)


def _objects(labels: np.ndarray, min_area: float) -> list[int]:
    """Return the objects that cover at least a share of the pixels, and at least one."""
    counts = np.bincount(labels.ravel(), minlength=256)
    return [label for label in OBJECTS if counts[label] > 0 and counts[label] >= min_area * labels.size]
