"""How video data sets lay out images and masks: which files belong to which sequence."""

from __future__ import annotations

import os
from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path

from sam2s_model.errors import SourceError
from sam2s_model.recordings.image_files import images_in, natural_key

RESOLUTIONS = ("480p", "Full-Resolution", "")  # folders between, in order of preference; YouTube-VOS has none


@dataclass(frozen=True)
class Sequence:
    """Images in order, and the folder that masks of the same stems are in, or None."""

    name: str
    images: tuple[Path, ...]
    masks: Path | None


def davis_sequences(path: Path) -> list[Sequence]:
    """Return those of JPEGImages/[480p/]NAME with Annotations/[480p/]NAME (DAVIS, YouTube-VOS). Raises SourceError.

    Sequences without annotations are left out. The two folders may have a suffix, such as SA-V's _24fps and _6fps.
    """
    for resolution in RESOLUTIONS:
        images, masks = (_one(path, f"{name}*", resolution) for name in ("JPEGImages", "Annotations"))
        if images and masks:
            return [
                Sequence(folder.name, tuple(images_in(folder)), masks / folder.name)
                for folder in subfolders(images)
                if (masks / folder.name).is_dir()
            ]
    raise SourceError(f"{path} has JPEGImages but no Annotations beside them: expected both, with the same folders")


def frame_sequences(path: Path) -> list[Sequence]:
    """Return the one in a folder with frames/ and masks/, or those in its subfolders. Raises SourceError."""
    folders = [path] if (path / "frames").is_dir() else subfolders(path, "frames")
    if not folders:
        raise SourceError(f"{path} has no folder frames, nor a folder with one: expected frames/ and masks/")
    return [
        Sequence(f.name, tuple(images_in(f / "frames")), f / "masks" if (f / "masks").is_dir() else None)
        for f in folders
    ]


def incomplete_sequences(path: Path) -> list[str]:
    """Return the names of sequences in the layouts above that have images without masks, or masks without images.

    They are in no data set.
    """
    if any(path.glob("JPEGImages*/")):
        for resolution in RESOLUTIONS:
            folders = [
                folder for name in ("JPEGImages", "Annotations") if (folder := _one(path, f"{name}*", resolution))
            ]
            if len(folders) == 2:
                images, masks = ({folder.name for folder in subfolders(own)} for own in folders)
                return sorted(images ^ masks, key=natural_key)
        return []
    if (path / "frames").is_dir():
        return []
    return [folder.name for folder in subfolders(path) if (folder / "frames").is_dir() != (folder / "masks").is_dir()]


def recording_names(folders: Several[Path], root: Path) -> list[str]:
    """Name the recordings of a data set by their folders: by their own names, or, where two have one, by their paths.

    root: folder of the data set, which paths are counted from, with _ in place of /
    """
    names = [folder.name for folder in folders]
    if len(set(names)) == len(names):
        return names
    start = root.parent if root in folders else root
    return ["_".join(part for part in Path(os.path.relpath(own, start)).parts if part != "..") for own in folders]


def subfolders(path: Path, holding: str = "") -> list[Path]:
    """Return the folders in a folder, in natural order, that hold one of that name.

    Raises SourceError when it cannot be read.
    """
    try:
        found = [p for p in path.iterdir() if (p / holding).is_dir() and not p.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})") from error
    return sorted(found, key=lambda p: natural_key(p.name))


def _one(path: Path, pattern: str, below: str) -> Path | None:
    """Return the folder of that pattern, or the one below it; the shortest name where there are several."""
    found = [folder / below for folder in path.glob(pattern) if (folder / below).is_dir()]
    return min(found, key=lambda p: (len(str(p)), str(p)), default=None)
