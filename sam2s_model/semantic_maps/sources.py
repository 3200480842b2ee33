"""Where the base maps of a recording come from, and its true ones: folders of class images, or the truth of objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.paths import expanded, readable
from sam2s_model.recordings.image_files import images_in, read_labels
from sam2s_model.recordings.recording import Frame, Recording
from sam2s_model.semantic_maps.noisy import spoiled
from sam2s_model.semantic_maps.votes import BACKGROUND, CLASSES, VOID
from sam2s_model.semantics import LabelSet

NOISY = "noisy"  # in place of a folder

MapOf = Callable[[Frame], np.ndarray]
"""The map of a frame, (H, W) uint8. Raises SourceError where there is none."""


def maps_in(folder: str | Path) -> MapOf:
    """Read class images by the names of frames: 8 bits, grey or palette; 0 background, 255 unlabelled.

    Raises SourceError for a folder without any.
    """
    path = expanded(folder)
    if not path.is_dir():
        raise SourceError(f"{path} is no folder: expected class images called as the frames are, or {NOISY}")
    files = {readable(file.stem): file for file in images_in(path)}
    if not files:
        raise SourceError(f"{path} has no class images: expected one for each frame, called as it is")

    def read(frame: Frame) -> np.ndarray:
        if frame.name not in files:
            raise SourceError(
                f"{path} has no class image {frame.name}.png: expected one for each frame; it has {len(files)}, such "
                f"as {readable(next(iter(files.values())).name)}"
            )
        return read_labels(files[frame.name])

    return read


def class_ids(recording: Recording, label_set: LabelSet) -> dict[int, int]:
    """Return the class id of each value of a recording's masks, by the names that it gives them.

    Without names it is empty: the values are class ids. Raises ConfigError for a name that the label set has not.
    """
    known = {label.name: label.id for label in label_set.classes}
    unknown = sorted({name for name in recording.classes.values() if name not in known})
    if unknown:
        raise ConfigError(
            f"class {unknown[0]!r} of {recording.name} is not in label set {label_set.name!r}: expected one of "
            f"{', '.join(known)}; give another --label-set"
        )
    return {value: known[name] for value, name in recording.classes.items()}


def true_map(frame: Frame, ids: Mapping[int, int]) -> np.ndarray | None:
    """Return the class image of a frame's true masks; None where it has none. ids: as of `class_ids`"""
    if frame.truth is None:
        return None
    if not ids:
        return frame.truth.labels
    table = np.full(CLASSES, BACKGROUND, np.uint8)
    for value, class_id in ids.items():
        table[value] = class_id
    table[VOID] = VOID
    return table[frame.truth.labels]


def noisy_maps(spec: str, ids: Mapping[int, int]) -> MapOf:
    """Spoil the truth, as a network that errs. spec: "noisy", or "noisy:SEED"; ids: as of `class_ids`

    Raises ConfigError for a seed that is none, or where nothing says the classes.
    """
    _, _, seed = spec.partition(":")
    if seed and not seed.isdecimal():
        raise ConfigError(f"{spec}: expected {NOISY}, or {NOISY}:SEED with a whole number from 0 on")
    if not ids:
        raise ConfigError(f"{spec} needs a recording that names the classes of its masks, such as scene:")
    known, first = sorted(set(ids.values())), int(seed or 0) * 1_000_003

    def spoil(frame: Frame) -> np.ndarray:
        if frame.truth is None:
            raise SourceError(f"frame {frame.name} has no masks to spoil")
        return spoiled(frame.truth.labels, dict(ids), known, first + frame.index)

    return spoil
