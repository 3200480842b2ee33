"""Clips of one frame from a teacher's store: views as they were shown to it, with its answers, in other colours."""

from __future__ import annotations

import numpy as np

from sam2s_model.errors import ConfigError
from sam2s_model.recordings.mask_values import VOID
from sam2s_model.training.augment import ColourChange
from sam2s_model.training.clip import Clip
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.datasets.images import select
from sam2s_model.training.store import TeacherStore

PROPOSED = 0.4  # share of annotated views whose objects are the teacher's proposals all the same


def draw_views(
    source: SourceConfig, config: DataConfig, rng: np.random.Generator, count: int, scene: tuple
) -> list[Clip]:
    """Draw `count` views of one scene of a store: of an image, or of frames of a video not more than `reach` apart.

    scene: a key for them. Where the scene has fewer views than that, some come again, in other colours.
    Raises ConfigError when the store is of another size, or empty.
    """
    store, usable = open_views(source, config.size)
    first = int(rng.integers(usable))
    entry = store.entries[first]
    others = [
        i for i in store.related[entry.recording]
        if i != first and i < usable and abs(store.entries[i].frame - entry.frame) <= source.reach
    ]  # fmt: skip
    chosen = [first, *(others[k] for k in rng.permutation(len(others))[: count - 1])]
    chosen = [chosen[i % len(chosen)] for i in range(count)]
    return [_clip(store, i, config, rng, scene) for i in chosen]


def open_views(source: SourceConfig, size: int) -> tuple[TeacherStore, int]:
    """Open a store; return how many of its entries are used, too. Raises ConfigError as `draw_views`, SourceError."""
    store = TeacherStore.load(source.path)
    usable = min(len(store), source.most or len(store))
    if not usable or store.size != size:
        raise ConfigError(f"store {source.path} has {usable} views of {store.size} px: expected some, of size = {size}")
    return store, usable


def _clip(store: TeacherStore, i: int, config: DataConfig, rng: np.random.Generator, scene: tuple) -> Clip:
    labels, classes = store.labels(i), store.entries[i].classes
    seen = [] if labels is None else [v for v in np.unique(labels) if 0 < v < VOID]
    rows = {int(v): config.classes.index(classes[v]) if classes.get(int(v)) in config.classes else -1 for v in seen}
    if not seen or rng.random() < PROPOSED:
        masks = store.masks(i)
        if len(masks):
            labels, rows = select(rng, masks, (store.size, store.size)), {}
    image = ColourChange(rng, config.augment, 1).apply(0, store.image(i))
    annotated = labels is not None
    labels = np.zeros(image.shape[:2], np.uint8) if labels is None else labels
    rows = rows or {int(v): -1 for v in np.unique(labels) if 0 < v < VOID}
    coarse, middle, fine = (level[None] for level in store.levels(i))
    return Clip(image[None], labels[None], rows, annotated, seen=(coarse, middle, fine), scene=scene)
