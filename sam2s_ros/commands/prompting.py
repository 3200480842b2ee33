"""The prompts of the command line, or of a file, or the boxes of the ground truth: what is tracked, and since when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.evaluation.clicks import box_of
from sam2s_model.prompting.prompt_script import PromptEntry, PromptScript
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.recording import Frame, Recording, Truth
from sam2s_ros.commands.arguments import PromptOptions

AS_THE_TRUTH = PromptOptions()  # nothing is prompted but what the ground truth shows
POINTS_FORM = '"x,y;x,y;-x,y", or "N:x,y;..." for the Nth object'


@dataclass(frozen=True)
class PromptPlan:
    """Prompts of a recording. truth_labels: the script's number of an object -> its ground-truth label, where known."""

    script: PromptScript
    truth_labels: dict[int, int]

    def on(self, frame: Frame) -> tuple[list[Prompt], list[int]]:
        """Return the prompts that begin on a frame, one an object, and the ground-truth label of each, 0: not known.

        Raises SourceError when there are none.
        """
        numbers, prompts = self.script.of(frame, {})
        if not prompts:
            raise SourceError(f"there is no prompt on the first frame, {frame.name}: expected one at least")
        return prompts, [self.truth_labels.get(number, 0) for number in numbers]


def plan_prompts(source: Recording, frame: Frame, options: PromptOptions = AS_THE_TRUTH) -> PromptPlan | None:
    """Decide what is tracked. None: nothing says it. frame: the first one, which the command line's prompts are about

    Raises ConfigError for text that is not numbers and for a file that is no script, RequestError for a prompt outside
    the image.
    """
    labels: dict[int, int] = {}
    given = _given(options, frame.index)
    if options.prompts is not None:
        if given or options.class_name:
            raise ConfigError(f"--prompts {options.prompts} was given with others: write them into the file")
        script = PromptScript.read(options.prompts)
    else:
        if not given:
            given, labels = _truth_boxes(frame, source.classes)
        if not given:
            return None
        script = PromptScript(_with_classes(given, options.class_name))
    script.check(frame.image.shape[:2])
    return PromptPlan(script, labels)


def first_prompts(
    source: Recording, frame: Frame, options: PromptOptions = AS_THE_TRUTH
) -> tuple[list[Prompt], list[int]]:
    """Return the prompts of the first frame, one an object, and the ground-truth label of each, 0 where not known.

    Raises what `plan_prompts` raises, and SourceError when nothing is prompted on this frame.
    """
    plan = plan_prompts(source, frame, options)
    if plan is None:
        raise nothing_to_track(source, frame)
    return plan.on(frame)


def nothing_to_track(source: Recording, frame: Frame, more: str = "") -> SourceError:
    """Make the error for a source that nothing says what to track in. more: the end of its sentence"""
    reason = "has no masks" if frame.truth is None else "shows no object"
    return SourceError(
        f"the first frame of {source.spec} {reason}, so nothing says what to track: "
        f"give --box x0,y0,x1,y1, --point x,y or --prompts FILE{more}"
    )


def first_frame(source: Recording, start: int = 0, frames: Iterator[Frame] | None = None) -> Frame:
    """Read the first frame, of those from number `start` on. Raises SourceError when there is no readable one.

    frames: a pass that has begun, to be gone on with after it; None: one of its own
    """
    frame = next((frame for frame in (iter(source) if frames is None else frames) if frame.index >= start), None)
    if frame is None:
        after = f" from {start} on: it has {source.length or 'fewer'} frames" if start else ""
        raise SourceError(f"{source.spec} has no readable frame{after}")
    return frame


def parse_numbers(text: str, count: int, option: str, form: str) -> tuple[float, ...]:
    """Numbers separated by commas. Raises ConfigError naming the option and its form."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise ConfigError(f"{option} {text}: expected {form}, in px")
    return numbers


def _given(options: PromptOptions, frame: int) -> list[PromptEntry]:
    """Make the entries of boxes and points, numbered in their order. Raises ConfigError."""
    entries: list[PromptEntry] = []
    for text in options.box:
        x0, y0, x1, y1 = parse_numbers(text, 4, "--box", "x0,y0,x1,y1")
        entries.append(PromptEntry(len(entries) + 1, frame=frame, box=(x0, y0, x1, y1)))
    for text in options.point:
        x, y = parse_numbers(text, 2, "--point", "x,y")
        entries.append(PromptEntry(len(entries) + 1, frame=frame, points=((x, y),)))
    for text in options.points:
        number, _, places = text.rpartition(":")
        if number and not (number.isdecimal() and 1 <= int(number) <= len(entries)):
            raise ConfigError(f"--points {text}: expected {POINTS_FORM}; there are {len(entries)} objects before it")
        on, not_on = _signed(places, text)
        if number:
            own = entries[int(number) - 1]
            entries[int(number) - 1] = replace(own, points=own.points + on, not_on=own.not_on + not_on)
        else:
            entries.append(PromptEntry(len(entries) + 1, frame=frame, points=on, not_on=not_on))
    return entries


def _signed(places: str, text: str) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
    """Return the points on an object, and those not on it. A coordinate is never negative: the sign is free for that"""
    found: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for place in places.split(";"):
        place = place.strip()
        try:
            x, y = parse_numbers(place.removeprefix("-"), 2, "", "")
        except ConfigError as error:
            raise ConfigError(f"--points {text}: expected {POINTS_FORM}, in px") from error
        found[place.startswith("-")].append((x, y))
    on, not_on = found
    return tuple(on), tuple(not_on)


def _with_classes(entries: Sequence[PromptEntry], names: Sequence[str]) -> list[PromptEntry]:
    if not names:
        return list(entries)
    if len(names) not in (1, len(entries)):
        raise ConfigError(f"--class was given {len(names)} times: expected once, or {len(entries)}, once an object")
    each = names if len(names) == len(entries) else [names[0]] * len(entries)
    return [replace(entry, class_name=name) for entry, name in zip(entries, each, strict=True)]


def _truth_boxes(frame: Frame, class_names: dict[int, str]) -> tuple[list[PromptEntry], dict[int, int]]:
    """Make a box around each label of the frame's ground truth. Returns the label of each number, too."""
    truth: Truth | None = frame.truth
    shown = {label: mask for label, mask in sorted(truth.masks.items()) if mask.any()} if truth else {}
    entries = []
    for number, (label, mask) in enumerate(shown.items(), 1):
        ys, xs = np.nonzero(mask)
        box = box_of(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, mask.shape)  # to the far corner of the last pixel
        x0, y0, x1, y1 = (float(v) for v in box)
        entries.append(
            PromptEntry(number, frame=frame.index, box=(x0, y0, x1, y1), class_name=class_names.get(label, ""))
        )
    return entries, dict(enumerate(shown, 1))
