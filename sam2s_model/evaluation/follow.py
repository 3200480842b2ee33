"""The loop of the evaluation: every frame in order, none left out, prompts where the protocol wants them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sam2s_model.evaluation.clicks import correction, first_prompt
from sam2s_model.evaluation.protocol import Protocol
from sam2s_model.evaluation.recording import Frame, Recording, Truth
from sam2s_model.prompts import Prompt
from sam2s_model.tracker import Tracker
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
        """(H, W) bool: what was tracked of a ground-truth object, without help by what else was prompted on the frame."""
        return (self.tracks if label in self.prompted else self.before).mask(self.ids[label])


def follow(tracker: Tracker, recording: Recording, protocol: Protocol) -> Iterator[Step]:
    """Track a recording from its first frame to its last, or to `protocol.frames`.

    Objects beyond the tracker's `max_objects` are never prompted. Raises what the tracker raises.
    """
    ids: dict[int, int] = {}
    for count, frame in enumerate(recording, start=1):
        began = time.perf_counter()
        before = tracks = tracker.step(frame.stamp_ns, frame.image)
        seconds = time.perf_counter() - began
        new = _appeared(frame.truth, ids, protocol.start)[: tracker.config.max_objects - len(ids)]
        if new:
            tracks = _prompt(tracker, frame.truth, new, ids, protocol)
        yield Step(frame, tracks, before, dict(ids), tuple(new), seconds)
        if count == protocol.frames:
            break


def _appeared(truth: Truth | None, ids: dict[int, int], start: str) -> list[int]:
    if truth is None or (ids and start == "first"):
        return []
    return [label for label, mask in sorted(truth.masks.items()) if label not in ids and mask.any()]


def _prompt(tracker: Tracker, truth: Truth, new: list[int], ids: dict[int, int], protocol: Protocol) -> Tracks:
    """Start objects on the newest frame, and correct them with the protocol's clicks."""
    prompts = [first_prompt(protocol.prompt, truth.masks[label]) for label in new]
    result = tracker.prompt(0, prompts)
    ids.update(zip(new, result.object_ids))
    if protocol.prompt == "clicks":
        clicked = {label: replace(prompt, object_id=ids[label]) for label, prompt in zip(new, prompts)}
        for _ in range(protocol.clicks - 1):
            for label in new:
                click = correction(result.tracks.mask(ids[label]), truth.masks[label], truth.void)
                if click:
                    clicked[label] = _with_click(clicked[label], *click)
                    result = tracker.prompt(0, [clicked[label]])
    return result.tracks


def _with_click(prompt: Prompt, place: tuple[int, int], label: int) -> Prompt:
    """A prompt with all its clicks so far, as the published interaction gives them."""
    points = np.concatenate((prompt.points, np.array([place], np.float32)))
    return replace(prompt, points=points, point_labels=np.append(prompt.point_labels, label))
