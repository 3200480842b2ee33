"""The loop of the evaluation: every frame in order, none left out, prompts where the protocol wants them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import numpy as np

from sam2s_model.evaluation.clicks import correction, first_prompt
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.prompting.prompt_script import AppliedScript
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.lookahead import with_next
from sam2s_model.recordings.recording import Frame, Truth
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import Tracks


@dataclass(frozen=True)
class Step:
    """One frame, tracked.

    tracks: with the prompts of this frame in effect; before: without them, the same where there are none
    ids: ground-truth object -> the tracker's object id, of all prompted so far; prompted: those prompted on this frame
    seconds: of `Tracker.step`, without prompts
    """

    frame: Frame
    tracks: Tracks
    before: Tracks
    ids: dict[int, int]
    prompted: tuple[int, ...]
    seconds: float

    def mask(self, label: int) -> np.ndarray:
        """(H, W) bool: what was tracked of a ground-truth object, without help by what else was prompted on the frame.

        Empty when the tracks do not know the object yet, which is so in live masks until its prompt takes effect.
        """
        tracks, object_id = self.tracks if label in self.prompted else self.before, self.ids[label]
        return tracks.mask(object_id) if object_id in tracks.object_ids else np.zeros(tracks.size, bool)


class Prompted(Protocol):
    """The answer to prompts on a frame: one id for each, and all objects there with the prompts in effect."""

    @property
    def object_ids(self) -> Sequence[int]: ...

    @property
    def tracks(self) -> Tracks: ...


def follow(
    tracker: Tracker, recording: Iterable[Frame], protocol: EvaluationProtocol, applied: AppliedScript | None = None
) -> Iterator[Step]:
    """Track a recording from its first frame to its last, or to `protocol.frames`.

    applied: prompts, and corrections, in place of the protocol's; it numbers objects as the ground truth does

    Objects beyond the tracker's `max_objects` are never prompted. Raises what the tracker raises.
    """
    ids: dict[int, int] = {}
    for frame, following in with_next(islice(recording, protocol.frames or None)):
        began = time.perf_counter()
        before = tracks = tracker.step(frame.stamp_ns, frame.image, following.image if following else None)
        seconds = time.perf_counter() - began
        if applied is not None:
            tracks = applied.on(frame) or tracks
            yield Step(frame, tracks, before, ids=dict(applied.ids), prompted=applied.prompted, seconds=seconds)
            continue
        new = appeared(frame.truth, ids, protocol.start)[: tracker.config.max_objects - len(ids)]
        if new and frame.truth is not None:
            tracks = prompt_objects(lambda prompts: tracker.prompt(0, prompts), frame.truth, new, ids, protocol)
        yield Step(frame=frame, tracks=tracks, before=before, ids=dict(ids), prompted=tuple(new), seconds=seconds)


def appeared(truth: Truth | None, ids: dict[int, int], start: str) -> list[int]:
    """List the objects to prompt on a frame, ascending.

    ids: of the objects prompted so far; start: see `EvaluationProtocol`
    """
    if truth is None or (ids and start == "first"):
        return []
    return [label for label, mask in sorted(truth.masks.items()) if label not in ids and mask.any()]


def prompt_objects(
    prompt: Callable[[list[Prompt]], Prompted],
    truth: Truth,
    new: list[int],
    ids: dict[int, int],
    protocol: EvaluationProtocol,
) -> Tracks:
    """Start the objects `new` on the frame of `truth`, and correct them with the protocol's clicks.

    prompt: prompts the tracker on that frame, and may raise
    ids: gets the ids of the new objects as soon as they are known
    """
    prompts = [first_prompt(protocol.prompt, truth.masks[label]) for label in new]
    result = prompt(prompts)
    ids.update(zip(new, result.object_ids, strict=True))
    if protocol.prompt == "clicks":
        clicked = {label: replace(first, object_id=ids[label]) for label, first in zip(new, prompts, strict=True)}
        for _ in range(protocol.clicks - 1):
            for label in new:
                click = correction(result.tracks.mask(ids[label]), truth.masks[label], truth.void)
                if click:
                    clicked[label] = _with_click(clicked[label], *click)
                    result = prompt([clicked[label]])
    return result.tracks


def _with_click(prompt: Prompt, place: tuple[int, int], label: int) -> Prompt:
    """Add a click to those that a prompt has so far, as the published interaction does."""
    if prompt.points is None or prompt.point_labels is None:
        raise ValueError("the prompt has no clicks: expected at least the first")
    points = np.concatenate((prompt.points, np.array([place], np.float32)))
    return replace(prompt, points=points, point_labels=np.append(prompt.point_labels, label))
