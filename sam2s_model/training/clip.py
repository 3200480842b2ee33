"""What training is given: short clips with labels, cut from recordings that are read frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clip:
    """A few square frames of one recording.

    images: (T, S, S, 3) uint8 RGB
    labels: (T, S, S) uint8, 0 none, 1..254 objects, 255 void (not scored). A frame without masks, between frames that
        have them, is void everywhere
    classes: label -> row of the class table, or -1 unknown
    annotated: False where there are no masks at all (then labels are 0, and only a teacher can say what is there)
    key: the same for clips that are equal; None where no other will be
    seen: three levels, (T, C, h, w) float16 each, what a teacher that is not run here saw in the frames; None: unknown
    scene: the same for clips that show the same things; None: no other does
    features: (T, C, h, w) float16, the features of each frame in a teacher's pack, in the clip's geometry; None without
    """

    images: np.ndarray
    labels: np.ndarray
    classes: dict[int, int]
    annotated: bool = True
    features: np.ndarray | None = None
    key: tuple | None = None
    seen: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    scene: tuple | None = None

    def __len__(self) -> int:
        return len(self.images)
