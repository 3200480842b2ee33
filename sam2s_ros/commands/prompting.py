"""The prompts of the command line: boxes and points that were given, or the boxes of the ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.evaluation.clicks import box_of
from sam2s_model.prompts import POSITIVE, Prompt
from sam2s_model.recordings.recording import Frame, Recording, Truth


def parse_numbers(text: str, count: int, option: str, form: str) -> tuple[float, ...]:
    """Numbers separated by commas. Raises ConfigError naming the option and its form."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise ConfigError(f"{option} {text}: expected {form}, in px")
    return numbers


def first_prompts(
    source: Recording, frame: Frame, boxes: Sequence[str] = (), points: Sequence[str] = ()
) -> tuple[list[Prompt], list[int]]:
    """Decide what is tracked from the first frame on.

    Returns the prompts, one an object, and the ground-truth label of each, 0 where it is not known.


    boxes: "x0,y0,x1,y1"; points: "x,y", on the object. When there are none, the box around each label of the frame's
    ground truth is used.

    Raises ConfigError for text that is not numbers, RequestError for a prompt outside the image, SourceError when
    nothing was given and the frame has no ground truth.
    """
    height, width = frame.image.shape[:2]
    prompts = [Prompt(box=np.array(parse_numbers(b, 4, "--box", "x0,y0,x1,y1"), np.float32)) for b in boxes]
    for text in points:
        point = np.array([parse_numbers(text, 2, "--point", "x,y")], np.float32)
        prompts.append(Prompt(points=point, point_labels=np.array([POSITIVE])))
    labels = [0] * len(prompts)
    if not prompts:
        labels, prompts = _truth_boxes(frame.truth, source.classes)
    if not prompts:
        reason = "has no masks" if frame.truth is None else "shows no object"
        raise SourceError(
            f"the first frame of {source.spec} {reason}, so nothing says what to track: "
            "give --box x0,y0,x1,y1 or --point x,y"
        )
    return [prompt.validated(height, width) for prompt in prompts], labels


def first_frame(source: Recording) -> Frame:
    """Read the first frame. Raises SourceError when the source has no readable one."""
    frame = next(iter(source), None)
    if frame is None:
        raise SourceError(f"{source.spec} has no readable frame")
    return frame


def _truth_boxes(truth: Truth | None, class_names: dict[int, str]) -> tuple[list[int], list[Prompt]]:
    shown = {label: mask for label, mask in sorted(truth.masks.items()) if mask.any()} if truth else {}
    prompts = []
    for label, mask in shown.items():
        ys, xs = np.nonzero(mask)
        box = box_of(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, mask.shape)  # to the far corner of the last pixel
        prompts.append(Prompt(box=box, class_name=class_names.get(label, "")))
    return list(shown), prompts
