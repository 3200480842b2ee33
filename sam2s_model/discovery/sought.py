"""Classes that are looked for in a recording by prototypes, in place of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam2s_model.discovery.discover import Proposal
from sam2s_model.discovery.learnt import is_learnt, load_learnt
from sam2s_model.discovery.prototype_file import load_prototypes
from sam2s_model.errors import PrototypeError
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompting.prompt_script import PromptEntry
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.recording import Frame
from sam2s_model.semantics import ClassLabel, LabelSet
from sam2s_model.similar import meant
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import LABEL_OUTSIDE, Tracks

COVERED = 0.5  # share of a proposal that tracked objects cover, from which it is no new object
COLOUR = (0, 200, 120)  # of a class that no label set has


class SoughtClasses:
    """Objects of some classes, found now and then in a recording; it stands where prompts would, as `AppliedScript`.

    names: of the classes; looks: frames that were looked at so far; objects: how many were started
    """

    def __init__(self, tracker: Tracker, names: Sequence[str], every: int):
        """tracker: with the prototypes; every: one frame of so many is looked at, the first among them."""
        self.names, self.looks, self.objects = tuple(names), 0, 0
        self.ids: dict[int, int] = {}  # there are no numbers of a file
        self.missed: list[PromptEntry] = []
        self._tracker, self._every, self._frames = tracker, every, 0

    def on(self, frame: Frame) -> Tracks | None:
        """Start what is found on the newest frame and is not tracked yet. Returns its tracks, None without anything."""
        due = self._frames % self._every == 0
        self._frames += 1
        if not due:
            return None
        self.looks += 1
        tracks = None
        for name in self.names:
            room = self._tracker.config.max_objects - len(self._tracker.object_ids)
            new = [one for one in self._tracker.discover(name) if _is_new(one, self._tracker.newest)][:room]
            if new:
                prompts = [Prompt(class_name=name, mask=one.mask) for one in new]
                tracks = self._tracker.prompt(0, prompts, learn=False).tracks
                self.objects += len(new)
        return tracks


def classes_in(file: Path, model: Sam2Model, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the classes that a file of prototypes, or of class prompts, finds; of those the wanted ones, if any are.

    Raises PrototypeError for a file that is none, or of another model, and for a class that it does not have.
    """
    names = load_learnt(file, model).names if is_learnt(file) else load_prototypes(file, model).class_names
    for name in wanted:
        if name not in names:
            raise PrototypeError(
                f"{file} has no prototypes of class {name!r}: there are those of {', '.join(names)}{meant(name, names)}"
            )
    return tuple(dict.fromkeys(wanted)) or tuple(names)


def label_set_with(names: Sequence[str], label_set: LabelSet) -> LabelSet:
    """Return a label set that has classes of these names: the given one, or where it lacks some one of theirs alone."""
    known = {label.name for label in label_set.classes}
    if known.issuperset(names):
        return label_set
    return LabelSet("prototypes", tuple(ClassLabel(i, name, COLOUR) for i, name in enumerate(names, 1)))


def _is_new(one: Proposal, tracks: Tracks | None) -> bool:
    if one.object_id or tracks is None:
        return not one.object_id
    values = tracks.label_map[one.mask]
    return float(np.mean((values > 0) & (values < LABEL_OUTSIDE))) < COVERED
