"""Layouts of video object segmentation: DAVIS, YouTube-VOS, SA-V, SA-SV, and plain folders with frames/ and masks/.

Masks are label images, or, as in SA-V, a folder of binary masks for each object, or JSON, see `json_truth`.
"""

from __future__ import annotations

import re
from pathlib import Path

from sam2s_model.evaluation.files import FileRecording, LabelFiles, ObjectFiles
from sam2s_model.evaluation.json_truth import json_files, json_truth
from sam2s_model.evaluation.recording import ASSUMED_FPS
from sam2s_model.recordings.image_files import images_in
from sam2s_model.recordings.sequences import Sequence, davis_sequences, frame_sequences, subfolders


def is_davis(path: Path) -> bool:
    return any(path.glob("JPEGImages*/")) and any(path.glob("Annotations*/"))


def is_sav(path: Path) -> bool:
    """Whether the first annotated sequence has a folder for each object."""
    if not is_davis(path):
        return False
    first = next(iter(davis_sequences(path)), None)
    return first is not None and bool(subfolders(first.masks))


def is_folder(path: Path) -> bool:
    return (path / "frames").is_dir() or any(path.glob("*/frames/"))


def davis_recordings(path: Path, values: str = "auto") -> list[FileRecording]:
    """The annotated sequences of a folder with JPEGImages*/ and Annotations*/. Raises SourceError."""
    rates = [re.search(r"_(\d+)fps$", folder.name) for folder in path.glob("JPEGImages*/")]
    fps = next((float(rate[1]) for rate in rates if rate), ASSUMED_FPS)
    return [_recording(sequence, path.name, fps, values) for sequence in davis_sequences(path)]


def folder_recordings(path: Path, values: str = "auto") -> list[FileRecording]:
    """The recording in a folder with frames/ and masks/, or those in its subfolders. Raises SourceError."""
    return [_recording(s, path.name, ASSUMED_FPS, values) for s in frame_sequences(path) if s.masks]


def _recording(sequence: Sequence, data_set: str, fps: float, values: str) -> FileRecording:
    objects = [folder for folder in subfolders(sequence.masks) if folder.name.isdigit()]
    if objects:
        truth_of = ObjectFiles(
            {int(folder.name): images_in(folder) for folder in objects}, {int(f.name): f.name for f in objects}
        )
    elif not (masks := images_in(sequence.masks)) and (files := json_files(sequence.masks)):
        truth = json_truth(sequence.name, files)
        return FileRecording(sequence.name, data_set, sequence.images, truth, fps, truth.classes)
    else:
        truth_of = LabelFiles(sequence.name, masks, sequence.images, values)
    return FileRecording(sequence.name, data_set, sequence.images, truth_of, fps)
