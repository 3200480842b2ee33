"""Data sets as folders: each layout is recognised by what lies in the folder, or named.

A new one is a module here with its `LAYOUTS`, and a line below: replay, tracking, evaluation and training read it then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.paths import with_name
from sam2s_model.similar import meant

if TYPE_CHECKING:  # the command line lists names, and is fast
    from sam2s_model.recordings.files import FileRecording
    from sam2s_model.recordings.layouts.layout import Layout
    from sam2s_model.recordings.mask_values import MaskReading

LAYOUTS = {  # name -> the module here that has it, in the order in which they are tried
    "sav": "vos",
    "davis": "vos",
    "endovis2017": "endovis",
    "endovis2018": "endovis",
    "cholecseg8k": "cholec",
    "coco": "json_layouts",
    "folder": "vos",
    "labelme": "json_layouts",
}


def layout_named(name: str) -> Layout:
    """Return the layout of a name. Raises KeyError for a name that is not in LAYOUTS."""
    return import_module(f"{__name__}.{LAYOUTS[name]}").LAYOUTS[name]


def recognise_layout(path: Path) -> str | None:
    """Return the layout of a folder, or None."""
    found = next((name for name in LAYOUTS if layout_named(name).matches(path)), None)
    if found == "folder" and not any(path.glob("masks/")) and not any(path.glob("*/masks/")):
        return (
            "labelme" if layout_named("labelme").matches(path) else found
        )  # frames/ alone, with labelme's files in it
    return found


def layout_recordings(path: Path, name: str, mask_values: str | MaskReading = "auto") -> Sequence[FileRecording]:
    """Return the recordings of a folder in the layout of a name, also those without masks.

    Raises SourceError when it is not laid out so, and for two recordings of one name.
    """
    path, known = with_name(path), layout_named(name)
    if not known.matches(path):
        raise SourceError(f"{path} is not laid out as {name}: expected {known.expected}")
    found = known.open(path, mask_values)
    twice = [name for name, count in Counter(recording.name for recording in found).items() if count > 1]
    if twice:
        raise SourceError(
            f"{path} has {len(twice)} names of several recordings, such as {twice[0]}: rename their folders"
        )
    return found


def open_layout(path: Path, layout: str = "auto", mask_values: str = "auto") -> Sequence[FileRecording]:
    """Return the recordings of a folder that have masks, in natural order; their data set has the folder's name.

    layout: a name of LAYOUTS, or "auto"; mask_values: how values of masks are read, see `mask_values.decide`
    Raises ConfigError for another name, and SourceError when the folder is not laid out so or has no recording.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise ConfigError(f"layout is {layout!r}: expected auto or one of {', '.join(LAYOUTS)}{meant(layout, LAYOUTS)}")
    found = recognise_layout(path) if layout == "auto" else layout
    if found is None:
        known = "; ".join(f"{name}: {layout_named(name).expected}" for name in LAYOUTS)
        raise SourceError(f"{path} has no layout that is known: expected one of {known}")
    recordings = [recording for recording in layout_recordings(path, found, mask_values) if recording.has_masks]
    if not recordings:
        raise SourceError(f"{path} is laid out as {found}, but has no recording with masks: expected at least one")
    return recordings
