"""The EndoVis challenges of 2017 (arXiv 1902.06426) and 2018 (arXiv 2001.11190), with instruments as objects.

2017 is the challenge's own training set, a folder of masks for each instrument. 2018 is the published re-annotation
with instrument types (arXiv 2007.05405): a type is an object, since it tells no instances of a type apart.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.image_files import images_in
from sam2s_model.recordings.layouts.layout import Layout
from sam2s_model.recordings.mask_values import MaskReading
from sam2s_model.recordings.sequences import subfolders
from sam2s_model.recordings.truth_files import LabelFiles, ObjectFiles

FPS = 2.0  # both were sampled so
TYPES_2018 = (
    "bipolar forceps", "prograsp forceps", "large needle driver", "monopolar curved scissors", "ultrasound probe",
    "suction instrument", "clip applier",
)  # fmt: skip
FLAT_NAME = re.compile(r"(seq_?\d+)_frame\d+$")


def is_endovis17(path: Path) -> bool:
    return any(path.glob("left_frames/")) or any(path.glob("*/left_frames/"))


def is_endovis18(path: Path) -> bool:
    folders = path / "images", path / "annotations"
    return all(f.is_dir() for f in folders) and any(FLAT_NAME.match(p.stem) for p in folders[0].iterdir())


def endovis17_recordings(path: Path, values: str | MaskReading = "auto") -> list[FileRecording]:
    """Open left_frames/ and ground_truth/INSTRUMENT_labels/ with binary masks, or masks of parts: all parts count."""
    folders = [path] if (path / "left_frames").is_dir() else subfolders(path, "left_frames")
    found = []
    for folder in folders:
        if not (folder / "ground_truth").is_dir():
            continue
        masks = dict(enumerate(subfolders(folder / "ground_truth"), start=1))
        truth_of = ObjectFiles({label: images_in(instrument) for label, instrument in masks.items()})
        classes = {label: _instrument(instrument.name) for label, instrument in masks.items()}
        found.append(FileRecording(folder.name, path.name, images_in(folder / "left_frames"), truth_of, FPS, classes))
    return found


def endovis18_recordings(path: Path, values: str | MaskReading = "auto") -> list[FileRecording]:
    """Open images/seq_N_frameNNN.png and annotations/ with the same names, whose values are instrument types."""
    images, masks = (_by_sequence(path / folder) for folder in ("images", "annotations"))
    classes = dict(enumerate(TYPES_2018, start=1))
    return [
        FileRecording(name, path.name, own, LabelFiles(name, masks[name], own, values), FPS, classes)
        for name, own in images.items()
        if name in masks
    ]


def _by_sequence(folder: Path) -> dict[str, list[Path]]:
    found = defaultdict(list)
    for path in images_in(folder):
        if name := FLAT_NAME.match(path.stem):
            found[name[1]].append(path)
    return found


def _instrument(folder: str) -> str:
    """Return the class in a folder's name: of "Left_Prograsp_Forceps_labels" it is "prograsp forceps"."""
    words = folder.removesuffix("_labels").split("_")
    return " ".join(word.lower() for word in words if word not in ("Left", "Right"))


LAYOUTS = {
    "endovis2017": Layout(
        is_endovis17, endovis17_recordings, "[NAME/]left_frames, [NAME/]ground_truth/INSTRUMENT_labels"
    ),
    "endovis2018": Layout(
        is_endovis18, endovis18_recordings, "images/seq_N_frameNNN.png, annotations/ with the same names"
    ),
}
