"""Recordings of every kind as training reads them, with a teacher's features where there is a pack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sam2s_model.errors import ConfigError
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.layouts import layout_named, layout_recordings
from sam2s_model.recordings.mask_files import merge_mask_lines
from sam2s_model.similar import meant
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.datasets.boxes import BoxRecording, box_recordings
from sam2s_model.training.datasets.images import Still, stills
from sam2s_model.training.datasets.recording import TrainingRecording
from sam2s_model.training.datasets.scenes import numbered_scene, scene_config, scene_recording
from sam2s_model.training.datasets.values import ClassValues
from sam2s_model.training.pack import TeacherPack

__all__ = [
    "BoxRecording", "Still", "TrainingRecording", "mask_lines", "numbered_scene", "open_source", "scene_config",
    "scene_recording",
]  # fmt: skip


def open_source(source: SourceConfig, classes: tuple[str, ...]) -> list[TrainingRecording] | list[Still]:
    """Open the recordings of a source, but for those held out; a scene has none, see `numbered_scene`, nor has a store.

    classes: rows of the class table
    Raises ConfigError when nothing is left or a name is not there, and SourceError for what cannot be read.
    """
    if source.kind in ("scene", "store"):
        return []
    pack = TeacherPack.load(source.teacher) if source.teacher else None
    if source.kind == "images":
        row = classes.index(source.class_name) if source.class_name else -1
        return _chosen(stills(source.path, pack, row), source)
    path, values = Path(source.path), ClassValues.of(source, classes)
    found: list[TrainingRecording]
    if source.kind == "boxes":
        found = _chosen(box_recordings(path, values), source)
    else:
        stretch = slice(source.begin, source.end or None)
        chosen = _chosen(list(_in_layout(source.kind, path, values)), source)  # a stretch is of those alone
        found = [TrainingRecording(r, values.rows_of(r), pack, stretch=stretch) for r in chosen]
    return [part for recording in found for part in recording.parts()] if source.stills else found


def mask_lines(recordings: Iterable[object]) -> list[str]:
    """Say what a user is told of how the masks of recordings are read: a line for those that are alike."""
    annotated = [r for r in recordings if isinstance(r, TrainingRecording) and r.has_masks]
    lines = [(recording.name, recording.describe_masks()) for recording in annotated]
    return merge_mask_lines([(name, text) for name, text in lines if text])


def _in_layout(kind: str, path: Path, values: ClassValues) -> Sequence[FileRecording]:
    if kind not in ("davis", "folder"):
        return layout_recordings(path, kind, values.masks)
    plain = kind == "folder" or not (path / "JPEGImages").is_dir()
    return layout_named("folder" if plain else "davis").open(
        path, values.masks
    )  # which say more exactly what is missing


def _chosen(found: list, source: SourceConfig) -> list:
    names = {recording.name for recording in found}
    for name in (*source.only, *source.without):
        if name not in names:
            known = ", ".join(sorted(names)) + meant(name, names)
            raise ConfigError(f"{source.path} has no recording {name!r}: expected one of {known}")
    kept = [r for r in found if (not source.only or r.name in source.only) and r.name not in source.without]
    if not kept:
        raise ConfigError(f"no recording of {source.path} is left: expected at least one of {', '.join(sorted(names))}")
    return kept
