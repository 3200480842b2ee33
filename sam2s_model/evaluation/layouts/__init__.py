"""Data sets as folders: each layout is recognised by what lies in the folder, or named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.evaluation.layouts.cholec import cholec_recordings, is_cholec
from sam2s_model.evaluation.layouts.endovis import (
    endovis17_recordings,
    endovis18_recordings,
    is_endovis17,
    is_endovis18,
)
from sam2s_model.evaluation.layouts.json_layouts import coco_recordings, is_coco_layout, is_labelme, labelme_recordings
from sam2s_model.evaluation.layouts.vos import davis_recordings, folder_recordings, is_davis, is_folder, is_sav
from sam2s_model.evaluation.recording import Recording


@dataclass(frozen=True)
class Layout:
    """matches: whether a folder looks like it; looks: for error texts

    open: its recordings, from the folder and how values of masks are read (see `mask_values.decide`); may raise SourceError
    """

    matches: Callable[[Path], bool]
    open: Callable[[Path, str], list]
    looks: str


LAYOUTS: dict[str, Layout] = {
    "sav": Layout(is_sav, davis_recordings, "JPEGImages*/NAME, Annotations*/NAME/OBJECT"),
    "davis": Layout(is_davis, davis_recordings, "JPEGImages/[480p/]NAME, Annotations/[480p/]NAME"),
    "endovis2017": Layout(
        is_endovis17, endovis17_recordings, "[NAME/]left_frames, [NAME/]ground_truth/INSTRUMENT_labels"
    ),
    "endovis2018": Layout(
        is_endovis18, endovis18_recordings, "images/seq_N_frameNNN.png, annotations/ with the same names"
    ),
    "cholecseg8k": Layout(
        is_cholec, cholec_recordings, "videoNN/videoNN_NNNNN/frame_N_endo.png with _endo_color_mask.png"
    ),
    "coco": Layout(is_coco_layout, coco_recordings, "[annotations/]FILE.json as COCO or YouTube-VIS, and its images"),
    "folder": Layout(
        is_folder, folder_recordings, "[NAME/]frames, [NAME/]masks with label images, with OBJECT/, or with JSON"
    ),
    "labelme": Layout(
        is_labelme, labelme_recordings, "[NAME/] or frames/ with images, and labelme's .json of the same names"
    ),
}
"""In the order in which they are tried."""


def recognise_layout(path: Path) -> str | None:
    """The layout of a folder, or None."""
    found = next((name for name, layout in LAYOUTS.items() if layout.matches(path)), None)
    if found == "folder" and not any(path.glob("masks/")) and not any(path.glob("*/masks/")) and is_labelme(path):
        return "labelme"  # frames/ alone, with labelme's files in it
    return found


def open_layout(path: Path, layout: str = "auto", mask_values: str = "auto") -> list[Recording]:
    """The recordings of a folder, in natural order; their data set has the folder's name.

    layout: a name of LAYOUTS, or "auto"; mask_values: how values of masks are read, see `mask_values.decide`
    Raises ConfigError for another name, and SourceError when the folder is not laid out so or has no recording.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise ConfigError(f"layout is {layout!r}: expected auto or one of {', '.join(LAYOUTS)}")
    found = recognise_layout(path) if layout == "auto" else layout
    if found is None:
        looks = "; ".join(f"{name}: {known.looks}" for name, known in LAYOUTS.items())
        raise SourceError(f"{path} has no layout that is known: expected one of {looks}")
    if not LAYOUTS[found].matches(path):
        raise SourceError(f"{path} is not laid out as {found}: expected {LAYOUTS[found].looks}")
    recordings = LAYOUTS[found].open(path, mask_values)
    if not recordings:
        raise SourceError(f"{path} is laid out as {found}, but has no recording with masks: expected at least one")
    return recordings
