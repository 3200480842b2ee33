"""CholecSeg8k (arXiv 2012.12453): colour masks of laparoscopic cholecystectomies; its two instruments are objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.image_files import images_in, read_rgb, unreadable
from sam2s_model.recordings.layouts.layout import Layout
from sam2s_model.recordings.mask_values import VOID, MaskReading
from sam2s_model.recordings.recording import Truth
from sam2s_model.recordings.sequences import recording_names, subfolders
from sam2s_model.recordings.truth_files import TruthOf

FPS = 25.0
IMAGE, MASK = "_endo", "_endo_color_mask"
COLOURS = {(170, 255, 0): 1, (169, 255, 184): 2, (127, 127, 127): VOID, (255, 255, 255): VOID}
"""RGB -> label. Grey lies outside the endoscope's field, white has no class; all other colours are tissue."""
CLASSES = {1: "grasper", 2: "hook"}


def is_cholec(path: Path) -> bool:
    return any(any(path.glob(f"{below}frame_*{MASK}.png")) for below in ("", "*/", "*/*/"))


def cholec_recordings(path: Path, values: str | MaskReading = "auto") -> list[FileRecording]:
    """Return the clips videoNN_NNNNN of a folder, of its subfolders or of theirs. Raises SourceError."""
    clips = [folder for first in [path, *subfolders(path)] for folder in [first, *subfolders(first)]]
    found: dict[Path, list[Path]] = {}
    for clip in dict.fromkeys(clips):
        images = [p for p in images_in(clip) if p.stem.startswith("frame_") and p.stem.endswith(IMAGE)]
        if images:
            found[clip] = images
    return [
        FileRecording(name, path.name, images, _ColourMasks(), FPS, CLASSES)
        for name, images in zip(recording_names(list(found), path), found.values(), strict=True)
    ]


class _ColourMasks(TruthOf):
    """Masks beside their images, in the data set's colours: nothing is guessed."""

    def __call__(self, image: Path) -> Truth | None:
        path = self._mask(image)
        if not path.is_file():
            return None
        colours = read_rgb(path)
        if colours is None:
            raise SourceError(f"mask {path} cannot be decoded{unreadable(path)}")
        labels = np.zeros(colours.shape[:2], np.uint8)
        for colour, label in COLOURS.items():
            labels[(colours == colour).all(2)] = label
        return Truth.of_labels(labels)

    def __contains__(self, image: Path) -> bool:
        return self._mask(image).is_file()

    def files(self, images: Sequence[Path]) -> list[Path]:
        return [mask for image in images if (mask := self._mask(image)).is_file()]

    def place(self, image: Path) -> str:
        return f"mask {self._mask(image)}"

    @staticmethod
    def _mask(image: Path) -> Path:
        return image.with_name(image.name.replace(f"{IMAGE}.", f"{MASK}."))

    def unused(self, images: Sequence[Path]) -> list[str]:
        known = {image.stem for image in images}
        masks = [
            mask for folder in {image.parent for image in images} for mask in sorted(folder.glob(f"frame_*{MASK}.*"))
        ]
        return [
            f"mask {mask.name} has the name of no image"
            for mask in masks
            if mask.stem.removesuffix(MASK) + IMAGE not in known
        ]


LAYOUTS = {
    "cholecseg8k": Layout(
        is_cholec, cholec_recordings, "videoNN/videoNN_NNNNN/frame_N_endo.png with _endo_color_mask.png"
    ),
}
