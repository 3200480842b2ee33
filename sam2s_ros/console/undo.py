"""Taking back what people did: for each action what it changed, and what puts it right again.

A correction starts from the mask that is there, so that the earlier clicks given once more would not lead back: the
mask from before the action does, on the picture on which it was made. That picture must still be one that can be
prompted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_ros.console.frames import ShownFrame

MOST = 100  # actions that can be taken back
WORDS = {"new": "start", "corrected": "correction", "renamed": "change of class", "removed": "removal"}


@dataclass(frozen=True)
class Remedy:
    """What is to be asked of the tracker, in this order; empty parts are left out.

    remove: ids; stamp, object_id, mask, class_name: a prompt; object 0 is a new one
    """

    says: str
    remove: tuple[int, ...] = ()
    prompts: tuple[tuple[int, int, np.ndarray | None, str], ...] = ()  # stamp, object id, mask, class


@dataclass(frozen=True)
class Action:
    """Something that was done to an object, and how it was before.

    kind: new, corrected, renamed, removed
    stamp: ns, of the picture; packed, size: the mask before, bits, and (H, W)
    class_name: the class before
    """

    kind: str
    object_id: int
    stamp: int = 0
    class_name: str = ""
    packed: np.ndarray | None = field(default=None, repr=False)
    size: tuple[int, int] = (0, 0)

    @property
    def mask(self) -> np.ndarray | None:
        """(H, W) bool"""
        if self.packed is None:
            return None
        height, width = self.size
        return np.unpackbits(self.packed, count=height * width).reshape(height, width).astype(bool)


class Undo:
    """The actions that can be taken back, of one camera."""

    def __init__(self) -> None:
        self._actions: deque[Action] = deque(maxlen=MOST)

    def __len__(self) -> int:
        return len(self._actions)

    def clear(self) -> None:
        self._actions.clear()

    def prompted(self, frame: ShownFrame | None, object_id: int, *, new: bool, renamed_only: bool) -> None:
        """Remember a prompt that was taken. frame: the picture as it was before; None when it is not here"""
        if new:
            self._actions.append(Action("new", object_id))
        elif renamed_only:
            self._actions.append(Action("renamed", object_id, class_name=_class(frame, object_id)))
        else:
            self._actions.append(_with_mask("corrected", frame, object_id))

    def removed(self, frame: ShownFrame | None, object_ids: tuple[int, ...]) -> None:
        """Remember a removal. frame: the newest, as it was before"""
        self._actions.extend(_with_mask("removed", frame, object_id) for object_id in object_ids)

    def next(self) -> str:
        """Name what `remedy` would take back; "" for nothing."""
        if not self._actions:
            return ""
        action = self._actions[-1]
        return f"{WORDS[action.kind]} of object {action.object_id}"

    def remedy(self, stamps: list[int]) -> Remedy:
        """Say what takes the last action back. stamps: of the pictures that can be prompted, oldest first

        Raises RequestError (EMPTY_REQUEST, TOO_OLD, INVALID_PROMPT) when there is none or it cannot be taken back.
        """
        if not self._actions:
            raise RequestError(ErrorCode.EMPTY_REQUEST, "there is nothing to take back")
        action, says = self._actions[-1], f"taken back: {self.next()}"
        object_id = action.object_id
        if action.kind == "new":
            return Remedy(says, remove=(object_id,))
        if action.kind == "renamed":
            if not action.class_name:
                raise RequestError(ErrorCode.UNKNOWN_CLASS, f"the class of object {object_id} before is not known")
            return Remedy(says, prompts=((0, object_id, None, action.class_name),))
        mask = action.mask
        if mask is None:
            raise RequestError(
                ErrorCode.INVALID_PROMPT,
                f"object {object_id} had no mask before its {WORDS[action.kind]}: prompt it anew",
            )
        if action.stamp not in stamps:
            # A correction is of one picture. Of an object that is gone, a mask of long ago would be a guess.
            raise RequestError(
                ErrorCode.TOO_OLD,
                f"the picture of the {self.next()} can no longer be prompted: correct the newest one "
                f"(prompt_history of the tracker is {len(stamps)} pictures)",
            )
        if action.kind == "removed":
            return Remedy(f"{says}, under a new id", prompts=((action.stamp, 0, mask, action.class_name),))
        return Remedy(says, prompts=((action.stamp, object_id, mask, ""),))

    def done(self, new_id: int = 0) -> None:
        """Forget the last action: it was taken back, or cannot be. new_id: under which a removed object is back"""
        if not self._actions:
            return
        old_id = self._actions.pop().object_id
        if new_id:  # what was done to it before can then still be taken back
            renamed = [replace(a, object_id=new_id) if a.object_id == old_id else a for a in self._actions]
            self._actions = deque(renamed, maxlen=MOST)


def _with_mask(kind: str, frame: ShownFrame | None, object_id: int) -> Action:
    if frame is None:
        return Action(kind, object_id)
    mask = frame.mask(object_id)
    packed = None if mask is None else np.packbits(mask)
    return Action(kind, object_id, frame.stamp, _class(frame, object_id), packed, frame.size)


def _class(frame: ShownFrame | None, object_id: int) -> str:
    objects = frame.objects if frame is not None else ()
    return next((seen.class_name for seen in objects if seen.id == object_id), "")
