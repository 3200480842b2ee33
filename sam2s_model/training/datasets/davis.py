"""The layout of DAVIS and YouTube-VOS: JPEGImages/ and Annotations/, a folder for each sequence in both."""

from __future__ import annotations

from pathlib import Path

from sam2s_model.recordings.image_files import images_in
from sam2s_model.recordings.sequences import davis_sequences
from sam2s_model.training.datasets.folder import FolderRecording, folder_recordings
from sam2s_model.training.datasets.values import Values
from sam2s_model.training.pack import TeacherPack


def davis_recordings(path: str | Path, values: Values, pack: TeacherPack | None = None) -> list[FolderRecording]:
    """The sequences of JPEGImages/[480p/]NAME with Annotations/[480p/]NAME, or of NAME/frames with NAME/masks.

    Sequences without annotations are left out. Raises SourceError.
    """
    path = Path(path)
    if not (path / "JPEGImages").is_dir():
        return folder_recordings(path, values, pack)
    return [FolderRecording(s.name, s.images, images_in(s.masks), values, pack) for s in davis_sequences(path)]
