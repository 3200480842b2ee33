"""What a file says, carried out on an annotation as a person would."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from sam2s_model.annotation.project import AnnotationProject
from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.prompting.prompt_script import PromptEntry, PromptScript
from sam2s_model.prompts import NEGATIVE, POSITIVE
from sam2s_model.tracks import MAX_LABEL

NUMBERS = "numbers_of_labels"  # the fact that keeps what `object_numbers` found


def apply_script(
    project: AnnotationProject,
    script: PromptScript,
    on_frame: Callable[[int, int], Any] = lambda done, total: None,
) -> list[PromptEntry]:
    """Prompt each frame that the script has something of, when all before it is tracked, then track to the end.

    What a file has said before is not said again, also where a person has replaced it since, unless the object was
    removed. on_frame: told the frames that are reached, and their number
    Returns the prompts that are of no frame. Raises RequestError and ConfigError for a prompt that cannot be.
    """
    places: dict[int, list[PromptEntry]] = {}
    missed = []
    for entry in script.entries:
        position = next(
            (f.position for f in project.frames if entry.is_about(f.number, f.stamp_ns, f.name)), None
        )  # fmt: skip
        if position is None:
            missed.append(entry)
        else:
            places.setdefault(position, []).append(entry)
    total = len(project)
    for position, entries in sorted(places.items()):
        if project.objects:
            project.track(position + 1, partial(_reached, on_frame, position + 1, total))
        for entry in _standing(entries):
            _prompt(project, position, entry, script)
    if project.objects:
        project.track(None, partial(_reached, on_frame, total, total))
    return missed


def _reached(on_frame: Callable[[int, int], Any], end: int, total: int, done: int, todo: int) -> None:
    """Tell how far it has come, of a sweep that ends at `end`."""
    on_frame(end - todo + done, total)


def begin_with(
    project: AnnotationProject, number: int, masks: Mapping[int, np.ndarray], classes: Mapping[int, str]
) -> tuple[list[int], list[int]]:
    """Start objects with the masks of a frame of the recording, by its number there, and give them to known ones.

    An object of which something was said on this frame already is left as it is: a person may have corrected it. One
    that is known keeps its class.
    masks: label -> mask; a label is the object's number, or stands for one, see `object_numbers`
    classes: label -> class; one that the label set does not have becomes its first
    Returns the numbers of the objects that have taken their masks, and of those that were left as they are.
    Raises RequestError for a frame that the annotation does not have.
    """
    position = next((frame.position for frame in project.frames if frame.number == number), None)
    if position is None:
        raise RequestError(ErrorCode.UNKNOWN_STAMP, f"frame {number} is not in the annotation")
    known = {label.name for label in project.label_set.classes}
    said = {entry.object for _, _, entry in project.store.entries(position)}
    numbers = object_numbers(project, masks)
    begun: list[int] = []
    left: list[int] = []
    for own, label, mask in sorted((numbers.get(label, label), label, mask) for label, mask in masks.items()):
        if not mask.any():
            continue
        if own in said:
            left.append(own)
            continue
        name = classes.get(label, "") if own not in project.objects else ""
        begun.append(project.prompt(position, own, name if name in known else "", mask=mask))
    return begun, left


def object_numbers(project: AnnotationProject, labels: Iterable[int]) -> dict[int, int]:
    """Return label -> number of an object, for those of the labels that can be no number: 0, and what is above 254.

    Each gets the first that is neither an object's nor a label's; the annotation keeps it for the next time.
    """
    labels = sorted(labels)
    kept = {int(label): number for label, number in project.store.facts.get(NUMBERS, {}).items()}
    taken = {*labels, *kept.values(), *project.objects}
    found = {}
    for label in labels:
        if 1 <= label <= MAX_LABEL:
            continue
        found[label] = kept.get(label) or next(number for number in count(1) if number not in taken)
        taken.add(found[label])
    if not found.keys() <= kept.keys():
        project.store.put_facts({NUMBERS: {**kept, **found}})
    return found


def _standing(entries: Iterable[PromptEntry]) -> list[PromptEntry]:
    """Return a frame's entries without those in whose place a later mask of their object stands; it takes the class."""
    standing: list[PromptEntry] = []
    for entry in entries:
        if entry.mask is not None:
            classes = [own.class_name for own in (*standing, entry) if own.object == entry.object and own.class_name]
            standing = [own for own in standing if own.object != entry.object]
            entry = replace(entry, class_name=classes[-1] if classes else "")
        standing.append(entry)
    return standing


def _prompt(project: AnnotationProject, position: int, entry: PromptEntry, script: PromptScript) -> None:
    """Say what no file has said yet: an entry's mask, which is kept as a prompt of its own, and the rest."""
    number, class_name, store = entry.object, entry.class_name, project.store
    points = [(x, y, POSITIVE) for x, y in entry.points] + [(x, y, NEGATIVE) for x, y in entry.not_on]
    if entry.mask is not None:
        mask = PromptScript([entry], script.folder).prompt_of(number).mask
        assert mask is not None  # the entry names one
        what = f"mask {hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()}"
        if what not in store.given(position, number):
            if not project.has_mask(number, position, mask):
                project.prompt(position, number, class_name, mask=mask)
            store.put_given(position, number, what, "%")
        if not points and entry.box is None:
            return
    alone = not points and entry.box is None  # a class
    what = f"class {class_name}" if alone else f"points {json.dumps([points, entry.box])}"
    if what not in store.given(position, number):
        if not project.has_said(entry, position):
            project.prompt(position, number, class_name, points=points, box=entry.box)
        store.put_given(position, number, what, "class %" if alone else "")
