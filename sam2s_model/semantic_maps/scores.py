"""How good semantic maps of a recording are: mIoU, and flicker, the share of pixels whose class changes for nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sam2s_model.semantic_maps.votes import CLASSES, VOID, pixels_of_classes

STILL, ALL = "pixels whose true class stays", "all pixels"


@dataclass
class MapScore:
    """Counts over the frames of one recording, in their order.

    Memory does not grow with the frames: two maps, and the pixels of each pair of classes.

    changed, compared: pixels from one frame to the next, of STILL and of ALL; of STILL where both have truth
    """

    frames: int = 0
    changed: dict[str, int] = field(default_factory=lambda: {STILL: 0, ALL: 0})
    compared: dict[str, int] = field(default_factory=lambda: {STILL: 0, ALL: 0})
    _pairs: np.ndarray = field(default_factory=lambda: np.zeros((CLASSES, CLASSES), np.int64), repr=False)
    _before: tuple[np.ndarray, np.ndarray | None] | None = field(default=None, repr=False)

    def add(self, found: np.ndarray, truth: np.ndarray | None) -> None:
        """Take in a frame: maps, (H, W) uint8, 255 unlabelled. truth: None where it is not known"""
        self.frames += 1
        if truth is not None:
            self._pairs += pixels_of_classes(truth, found)
        if self._before is not None:
            earlier, earlier_truth = self._before
            changed = found != earlier
            self._compare(ALL, changed, np.ones(found.shape, bool))
            if truth is not None and earlier_truth is not None:
                self._compare(STILL, changed, (truth == earlier_truth) & (truth != VOID))
        self._before = found, truth

    def _compare(self, of: str, changed: np.ndarray, compared: np.ndarray) -> None:
        self.compared[of] += int(compared.sum())
        self.changed[of] += int((changed & compared).sum())

    @property
    def mean_iou(self) -> float:
        """Mean over the classes of the truth, background among them, of the IoU over all frames; NaN without truth."""
        pairs = self._pairs[:VOID]  # unlabelled truth says nothing
        truth, found, common = pairs.sum(1), pairs.sum(0)[:VOID], np.diagonal(pairs)[:VOID]
        there = truth > 0
        return float(np.mean(common[there] / (truth + found - common)[there])) if there.any() else float("nan")

    @property
    def flicker_is_of(self) -> str:
        """STILL, or, where no two frames in a row have truth, ALL."""
        return STILL if self.compared[STILL] else ALL

    @property
    def flicker(self) -> float:
        """Share of pixels whose class changes from one frame to the next though that of the truth does not.

        Without truth on two frames in a row it is of all pixels, and what moves is among what changes. NaN before the
        second frame.
        """
        of = self.flicker_is_of
        return self.changed[of] / self.compared[of] if self.compared[of] else float("nan")
