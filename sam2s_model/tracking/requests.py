"""What a tracker is asked: checks that are made before anything is changed, and the answer to prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ErrorCode, ImageError, RequestError, StampError
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import ClassLabel, LabelSet
from sam2s_model.tracking.history import History, ProcessedFrame
from sam2s_model.tracks import Tracks


@dataclass(frozen=True)
class PromptResult:
    """What prompts led to.

    stamp: ns, of the frame the prompts were applied to; tracks: that frame, anew
    prompts: as they were applied: where a class or a proposal was asked for, the masks that were found
    object_ids: one for each of `prompts`
    approximate: those whose granularity was met by a choice among candidate masks, since the model has no token of it
    by_person: those whose class a person has given, in this request or before
    """

    stamp: int
    object_ids: tuple[int, ...]
    tracks: Tracks
    prompts: tuple[Prompt, ...] = ()
    approximate: tuple[int, ...] = ()
    by_person: tuple[int, ...] = ()


def prompted_frame(history: History, prompts: Sequence[Prompt], stamp: int) -> ProcessedFrame:
    """Find the frame that prompts are for. stamp: ns, 0: the newest

    A name belongs to no image: prompts that only name objects are of the newest, where one of them is not on the frame
    of the stamp yet. Raises RequestError as `History.find`, and INVALID_PROMPT where others say a place there.
    """
    frame, newest = history.find(stamp), history.find(0)
    named = [prompt.object_id for prompt in prompts if prompt.only_names]
    later = [i for i in named if i in newest.predictions and i not in frame.predictions]
    if not later:
        return frame
    if len(named) == len(prompts):
        return newest
    raise RequestError(
        ErrorCode.INVALID_PROMPT,
        f"object {later[0]} was not there on the image of stamp {frame.stamp} ns, on which other prompts are: give its "
        "class in a request of its own",
    )


def check_frame(stamp: int, image: np.ndarray, newest: ProcessedFrame | None) -> None:
    """Check the next frame of a stream, whose newest is given. Raises StampError or ImageError."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"image is {image.dtype} {image.shape}: expected uint8 (H, W, 3), RGB")
    if stamp <= 0:
        raise StampError(f"stamp is {stamp} ns: expected more than 0")
    if newest and stamp <= newest.stamp:
        raise StampError(f"stamp {stamp} ns is not after the previous one, {newest.stamp} ns")
    if newest and image.shape[:2] != newest.size:
        (h, w), (h0, w0) = image.shape[:2], newest.size
        raise ImageError(f"image is {w}x{h}, but the stream is {w0}x{h0}: reset the tracker to change the size")


def check_prompts(
    prompts: Sequence[Prompt], tracked_ids: Collection[int], config: TrackerConfig, label_set: LabelSet
) -> list[ClassLabel | None]:
    """Check the prompts of a request. Returns the class that each gives, or None. Raises RequestError."""
    if not prompts:
        raise RequestError(ErrorCode.EMPTY_REQUEST, "no prompts were given: expected at least one")
    corrected = [p.object_id for p in prompts if p.object_id]
    for object_id in corrected:
        check_tracked(object_id, tracked_ids)
        if corrected.count(object_id) > 1:
            raise RequestError(
                ErrorCode.INVALID_PROMPT, f"object {object_id} has several prompts in one request: give it one"
            )
    total = len(tracked_ids) + len(prompts) - len(corrected)
    if total > config.max_objects:
        raise RequestError(
            ErrorCode.TOO_MANY_OBJECTS,
            f"the request would make {total} objects: expected at most max_objects = {config.max_objects}",
        )
    return [label_set.by_name(p.class_name) if p.class_name else None for p in prompts]


def check_chosen(object_ids: Sequence[int], tracked_ids: Collection[int]) -> None:
    """Check which objects something is asked for, such as to be removed. Raises RequestError."""
    if not len(object_ids):
        raise RequestError(ErrorCode.EMPTY_REQUEST, "no object ids were given: expected at least one")
    for object_id in object_ids:
        check_tracked(object_id, tracked_ids)


def check_tracked(object_id: int, tracked_ids: Collection[int]) -> None:
    """Check that an object is tracked. Raises RequestError."""
    if object_id not in tracked_ids:
        tracked = ", ".join(map(str, sorted(tracked_ids))) or "none"
        raise RequestError(ErrorCode.UNKNOWN_OBJECT, f"object {object_id} is not tracked: tracked are {tracked}")
