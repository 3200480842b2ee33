"""Recordings of every kind, behind one interface: `clip.Recording`, with a teacher's features where there is a pack."""

from __future__ import annotations

from collections.abc import Iterable

from sam2s_model.errors import ConfigError
from sam2s_model.recordings.mask_files import said_once
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.datasets.boxes import BoxRecording, box_recordings
from sam2s_model.training.datasets.davis import davis_recordings
from sam2s_model.training.datasets.folder import FolderRecording, each_by_itself, folder_recordings
from sam2s_model.training.datasets.images import Still, stills
from sam2s_model.training.datasets.scene import SceneRecording, numbered_scene, scene_config
from sam2s_model.training.datasets.values import Values
from sam2s_model.training.pack import TeacherPack

__all__ = [
    "BoxRecording", "FolderRecording", "SceneRecording", "Still", "mask_lines", "numbered_scene", "open_source", "scene_config",
]  # fmt: skip


def open_source(source: SourceConfig, classes: tuple[str, ...]) -> list[FolderRecording] | list[Still]:
    """The recordings of a source, but for those held out; a scene has none, see `numbered_scene`, nor has a store.

    classes: rows of the class table
    Raises ConfigError when nothing is left or a name is not there, and SourceError for what cannot be read.
    """
    if source.kind in ("scene", "store"):
        return []
    pack = TeacherPack.load(source.teacher) if source.teacher else None
    if source.kind == "images":
        found = stills(source.path, pack, classes.index(source.class_name) if source.class_name else -1)
    else:
        values = Values.of(source, classes)
        if source.kind == "boxes":
            found = box_recordings(source.path, values)
        else:
            opened = davis_recordings if source.kind == "davis" else folder_recordings
            found = opened(source.path, values, pack)
    found = _chosen(found, source)
    return each_by_itself(found, values, pack) if source.stills and source.kind != "images" else found


def mask_lines(recordings: Iterable[object]) -> list[str]:
    """What a user is told of how the masks of recordings are read: a line for those that are alike."""
    return said_once(
        [(r.name, r.masks.describe()) for r in recordings if isinstance(r, FolderRecording) and r.has_masks]
    )


def _chosen(found: list, source: SourceConfig) -> list:
    names = {recording.name for recording in found}
    for name in (*source.only, *source.without):
        if name not in names:
            raise ConfigError(f"{source.path} has no recording {name!r}: expected one of {', '.join(sorted(names))}")
    kept = [r for r in found if (not source.only or r.name in source.only) and r.name not in source.without]
    if not kept:
        raise ConfigError(f"no recording of {source.path} is left: expected at least one of {', '.join(sorted(names))}")
    return kept
