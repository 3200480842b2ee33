"""What a layout of a data set is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.mask_values import MaskReading


@dataclass(frozen=True)
class Layout:
    """How the folder of a data set is recognised and opened.

    matches: whether a folder is laid out so; expected: for error texts, what its folder holds
    open: from the folder and how values of masks are read (see `mask_values.decide`), its recordings in natural order,
        also those without masks; their data set has the folder's name; may raise SourceError
    """

    matches: Callable[[Path], bool]
    open: Callable[[Path, str | MaskReading], Sequence[FileRecording]]
    expected: str
