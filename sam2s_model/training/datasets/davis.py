"""The layout of DAVIS and YouTube-VOS: JPEGImages/ and Annotations/, a folder for each sequence in both."""

from __future__ import annotations

from pathlib import Path

from sam2s_model.errors import SourceError
from sam2s_model.image_files import images_in
from sam2s_model.training.datasets.folder import FolderRecording, folder_recordings, subfolders
from sam2s_model.training.datasets.values import Values
from sam2s_model.training.pack import TeacherPack

RESOLUTIONS = ("480p", "Full-Resolution", "")  # folders between, in order of preference; YouTube-VOS has none


def davis_recordings(path: str | Path, values: Values, pack: TeacherPack | None = None) -> list[FolderRecording]:
    """The sequences of JPEGImages/[480p/]NAME with Annotations/[480p/]NAME, or of NAME/frames with NAME/masks.

    Sequences without annotations are left out. Raises SourceError.
    """
    path = Path(path)
    if not (path / "JPEGImages").is_dir():
        return folder_recordings(path, values, pack)
    for resolution in RESOLUTIONS:
        images, masks = path / "JPEGImages" / resolution, path / "Annotations" / resolution
        if images.is_dir() and masks.is_dir():
            return [
                FolderRecording(folder.name, images_in(folder), images_in(masks / folder.name), values, pack)
                for folder in subfolders(images)
                if (masks / folder.name).is_dir()
            ]
    raise SourceError(f"{path} has JPEGImages but no Annotations beside them: expected both, with the same folders")
