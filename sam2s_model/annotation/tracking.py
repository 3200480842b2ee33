"""The two ways in which masks come about: a prompt on a single frame, and a sweep of all objects over frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from sam2s_model.annotation.store import StoredMask
from sam2s_model.config import TrackerConfig
from sam2s_model.discovery.discover import Proposal
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import LabelSet
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import Tracks

FRAME_NS = 40_000_000  # between two positions: a tracker needs stamps that ascend


class StillSegmenter:
    """Prompts on one frame, without memory: what is said of an object there, and the mask that it had before.

    So the mask of a prompted frame depends on that frame's prompts and its mask before alone, not on the order in which
    a person went through the recording. The features of the last frame are kept for the next click on it.
    """

    def __init__(self, model: Sam2Model, config: TrackerConfig, label_set: LabelSet):
        self._tracker = Tracker(model, "none", config, label_set)
        self._position: int | None = None

    def mask(self, position: int, image: np.ndarray, prompt: Prompt, base: np.ndarray | None = None) -> StoredMask:
        """Return the mask of a prompt.

        prompt: of a new object, also where it is a correction; image: (H, W, 3) uint8 RGB
        base: (H, W) bool, the mask that it corrects; a box or a mask starts anew
        Raises RequestError for a prompt that cannot be.
        """
        tracker = self._tracker
        self._look(position, image)
        corrects = base is not None and base.any() and prompt.box is None and prompt.mask is None
        try:
            object_id = 0
            if corrects:
                object_id = tracker.prompt(0, [Prompt(mask=base)]).object_ids[0]
            result = tracker.prompt(0, [replace(prompt, object_id=object_id, class_name="")])
            return stored_masks(result.tracks, {0: result.object_ids[0]})[0]
        finally:
            if tracker.object_ids:
                tracker.remove(tracker.object_ids)

    def discover(self, position: int, image: np.ndarray, class_name: str = "") -> list[Proposal]:
        """Propose objects, see `Tracker.discover`. Raises RequestError for a class that is not known."""
        self._look(position, image)
        return self._tracker.discover(class_name)

    def _look(self, position: int, image: np.ndarray) -> None:
        if self._position != position:
            self._tracker.reset()
            self._position = None
            self._tracker.step(FRAME_NS, image)
            self._position = position


class AnnotationSweep:
    """One tracker that goes forward over positions, some of which may be left out.

    position: of the newest frame, -1 before the first; numbers: of the objects that it follows
    """

    def __init__(self, model: Sam2Model, policy: str, config: TrackerConfig, label_set: LabelSet):
        self._tracker = Tracker(model, policy, config, label_set)
        self._ids: dict[int, int] = {}
        self.position = -1

    @property
    def numbers(self) -> set[int]:
        return set(self._ids)

    def step(self, position: int, image: np.ndarray, given: Mapping[int, np.ndarray]) -> dict[int, StoredMask]:
        """Go to a later frame. given: masks, (H, W) bool, that are known there. Returns those of all other objects."""
        tracks = self._tracker.step((position + 1) * FRAME_NS, image)
        self.position = position
        found = stored_masks(tracks, {number: i for number, i in self._ids.items() if number not in given})
        self.give(given)
        return found

    def give(self, given: Mapping[int, np.ndarray]) -> None:
        """Start or correct objects on the newest frame with their masks."""
        shown = {number: mask for number, mask in given.items() if mask.any()}
        if shown:
            prompts = [Prompt(object_id=self._ids.get(number, 0), mask=mask) for number, mask in shown.items()]
            result = self._tracker.prompt(0, prompts)
            self._ids.update(zip(shown, result.object_ids, strict=True))

    def drop(self, numbers: Iterable[int]) -> None:
        """Follow these objects no longer, where it does."""
        gone = [number for number in numbers if number in self._ids]
        if gone:
            self._tracker.remove([self._ids.pop(number) for number in gone])


def stored_masks(tracks: Tracks, ids: Mapping[int, int]) -> dict[int, StoredMask]:
    """Return the masks of some objects. ids: key of the answer -> the tracker's id"""
    found = {}
    for number, object_id in ids.items():
        i = tracks.index(object_id)
        score, iou = float(tracks.scores[i]), float(tracks.predicted_ious[i])
        found[number] = StoredMask(tracks.mask(object_id), score, iou, int(tracks.states[i]))
    return found
