"""Images with their ground truth as JSON: labelme's files beside them, or a file of COCO or YouTube-VIS."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from sam2s_model.errors import SourceError
from sam2s_model.recordings.coco_file import CocoFile
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.image_files import images_in, natural_key
from sam2s_model.recordings.json_truth import CocoTruth, LabelmeTruth, is_coco, json_files, read_json
from sam2s_model.recordings.layouts.layout import Layout
from sam2s_model.recordings.mask_values import MaskReading
from sam2s_model.recordings.recording import ASSUMED_FPS
from sam2s_model.recordings.sequences import recording_names, subfolders

BEGINNING = 1 << 16  # bytes that are looked at to recognise a file of COCO
COCO_WORDS = (b'"images"', b'"annotations"', b'"videos"', b'"categories"', b'"licenses"', b'"info"')
BESIDE = ("", "images", "frames", "JPEGImages", "train", "val", "test", "valid", "train2017", "val2017")


def is_labelme(path: Path) -> bool:
    return any(_pairs(folder) for folder in _folders(path))


def labelme_recordings(path: Path, values: str | MaskReading = "auto") -> list[FileRecording]:
    """Open the images of a folder, or of its subfolders, with the .json of the same stem beside. Raises SourceError."""
    out = []
    folders = [folder for folder in _folders(path) if _pairs(folder)]
    for folder, name in zip(folders, recording_names(folders, path), strict=True):
        truth = LabelmeTruth(name, json_files(folder))
        out.append(FileRecording(name, path.name, images_in(folder), truth, ASSUMED_FPS, truth.classes))
    return out


def is_coco_layout(path: Path) -> bool:
    return _coco_file(path) is not None


def coco_recordings(path: Path, values: str | MaskReading = "auto") -> list[FileRecording]:
    """Open the images that a file of COCO names, one recording for each folder of them. Raises SourceError."""
    file = _coco_file(path)
    if file is None:
        raise SourceError(f"{path} has no file of COCO: expected one in it, or in its folder annotations")
    content = read_json(file)
    if not is_coco(content):
        raise SourceError(f"{file} is not a file of COCO: expected images or videos, and annotations")
    coco = CocoFile.of(file, content)
    found: dict[Path, dict[str, Path]] = defaultdict(dict)  # folder -> name in the file -> image
    lost = []
    for name in sorted(coco.sizes, key=natural_key):
        image = next(
            (p for base in (path, file.parent) for below in BESIDE if (p := base / below / name).is_file()), None
        )
        if image is None:
            lost.append(name)
        else:
            found[image.parent][name] = image
    if not found:
        raise SourceError(
            f"none of the {len(lost)} images that {file} names is in {path}: the first is {lost[0] if lost else 'none'}"
        )
    out: list[FileRecording] = []
    names = [path.name] if len(found) == 1 else recording_names(list(found), path)
    for name, own in zip(names, found.values(), strict=True):
        truth = CocoTruth(coco, own, () if out else lost)  # of no recording, and said once
        images = sorted(own.values(), key=lambda p: natural_key(p.name))
        out.append(FileRecording(name, path.name, images, truth, ASSUMED_FPS, truth.classes))
    return out


def _coco_file(path: Path) -> Path | None:
    """Return the first file that looks like COCO, in a folder or in its annotations/."""
    for folder in (path, path / "annotations"):
        for file in json_files(folder) if folder.is_dir() else ():
            with file.open("rb") as opened:
                head = opened.read(BEGINNING)
            if b'"shapes"' not in head and sum(word in head for word in COCO_WORDS) >= 2:
                return file
    return None


def _folders(path: Path) -> list[Path]:
    frames = path / "frames"
    return [frames] if frames.is_dir() else [path, *subfolders(path)]


def _pairs(folder: Path) -> bool:
    """Whether a folder has an image and a .json of its stem."""
    stems = {file.stem for file in json_files(folder)}
    return bool(stems) and any(image.stem in stems for image in images_in(folder))


LAYOUTS = {
    "coco": Layout(is_coco_layout, coco_recordings, "[annotations/]FILE.json as COCO or YouTube-VIS, and its images"),
    "labelme": Layout(
        is_labelme, labelme_recordings, "[NAME/] or frames/ with images, and labelme's .json of the same names"
    ),
}
