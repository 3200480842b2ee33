"""Layouts of video object segmentation: DAVIS, YouTube-VOS, SA-V, SA-SV, and plain folders with frames/ and masks/.

Masks are label images, or, as in SA-V, a folder of binary masks for each object, or JSON, see `json_truth`.
"""

from __future__ import annotations

import re
from pathlib import Path

from sam2s_model.recordings.class_file import read_classes
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.image_files import images_in
from sam2s_model.recordings.json_truth import json_files, json_truth
from sam2s_model.recordings.layouts.layout import Layout
from sam2s_model.recordings.mask_values import MaskReading
from sam2s_model.recordings.recording import ASSUMED_FPS
from sam2s_model.recordings.sequences import Sequence, davis_sequences, frame_sequences, subfolders
from sam2s_model.recordings.truth_files import LabelFiles, ObjectFiles, TruthOf


def is_davis(path: Path) -> bool:
    return any(path.glob("JPEGImages*/")) and any(path.glob("Annotations*/"))


def is_sav(path: Path) -> bool:
    """Whether the first annotated sequence has a folder for each object."""
    if not is_davis(path):
        return False
    first = next(iter(davis_sequences(path)), None)
    return first is not None and first.masks is not None and bool(subfolders(first.masks))


def is_folder(path: Path) -> bool:
    return (path / "frames").is_dir() or any(path.glob("*/frames/"))


def davis_recordings(path: Path, values: str | MaskReading = "auto") -> list[FileRecording]:
    """Return the annotated sequences of a folder with JPEGImages*/ and Annotations*/. Raises SourceError."""
    rates = [re.search(r"_(\d+)fps$", folder.name) for folder in path.glob("JPEGImages*/")]
    fps = next((float(rate[1]) for rate in rates if rate), ASSUMED_FPS)
    return [_recording(sequence, path.name, fps, values) for sequence in davis_sequences(path)]


def folder_recordings(path: Path, values: str | MaskReading = "auto") -> list[FileRecording]:
    """Open a folder with frames/ and masks/, or its subfolders; masks/ may be missing. Raises SourceError."""
    return [_recording(s, path.name, ASSUMED_FPS, values) for s in frame_sequences(path)]


def _recording(sequence: Sequence, data_set: str, fps: float, values: str | MaskReading) -> FileRecording:
    truth_of, classes = _truth_in(sequence.masks, sequence, values) if sequence.masks else (None, {})
    return FileRecording(sequence.name, data_set, sequence.images, truth_of, fps, classes)


def _truth_in(folder: Path, sequence: Sequence, values: str | MaskReading) -> tuple[TruthOf, dict[int, str]]:
    """Return the truth in a folder of masks, and the classes of its objects. Raises SourceError."""
    folders = {int(own.name): own for own in subfolders(folder) if own.name.isdecimal()}
    if folders:
        masks = {label: images_in(own) for label, own in folders.items()}
        return ObjectFiles(masks, {label: own.name for label, own in folders.items()}), {}
    if not (labels := images_in(folder)) and (files := json_files(folder)):
        truth = json_truth(sequence.name, files)
        return truth, truth.classes
    return LabelFiles(sequence.name, labels, sequence.images, values), read_classes(folder.parent)


LAYOUTS = {
    "sav": Layout(is_sav, davis_recordings, "JPEGImages*/NAME, Annotations*/NAME/OBJECT"),
    "davis": Layout(is_davis, davis_recordings, "JPEGImages/[480p/]NAME, Annotations/[480p/]NAME"),
    "folder": Layout(
        is_folder, folder_recordings, "[NAME/]frames, [NAME/]masks with label images, with OBJECT/, or with JSON"
    ),
}
