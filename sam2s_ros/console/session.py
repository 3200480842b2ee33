"""All that the console knows of one tracker: frames, names, states over time, what can be taken back. Without ROS.

The ROS side feeds it from the executor's thread, the server reads it from its own: every method holds the lock.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_ros.console.frames import Frames, Seen, ShownFrame
from sam2s_ros.console.undo import Remedy, Undo

LANE = 200  # changes of state that are kept of an object
LANES = 64  # objects whose lane is kept: those that are gone stay for a while
SILENCE = 1.0  # s for which images get no masks, of a tracker that is not running, until they are shown without
STATUS_AGE = 1.0  # s without a heartbeat after which the tracker is called silent
PROCESSING = ("WAITING", "RUNNING", "STALE_INPUT")  # states of a node that gives masks when images come
GONE = "GONE"  # a state of a node, beside those of TrackerStatus
NO_TRACKER: dict[str, Any] = {
    "type": "state", "camera": "", "node": None, "classes": [], "history": [], "names": {}, "lanes": {}, "newest": 0,
    "undo": "",
}  # fmt: skip
"""The message `state` where there is no tracker, see `Session.state`."""


@dataclass(frozen=True)
class SessionDescription:
    """What people call an object. color: #rrggbb; "" for none"""

    name: str = ""
    color: str = ""


class Session:
    """One tracker, as the console sees it.

    name: of the tracker's node; clock: s, steady
    changed: called, in any thread, when there is something new to show
    """

    def __init__(
        self, name: str, *, history: int = 16, clock: Callable[[], float] = time.monotonic, changed: Callable[[], None]
    ):
        self.name = name
        self.revision = 0  # of everything but frames
        self._clock, self._changed = clock, changed
        self._lock = threading.RLock()
        self._frames, self._undo = Frames(history), Undo()
        self._bare: ShownFrame | None = None  # an image without masks, when none come
        self._unmasked_since: float | None = None  # since when images come without masks
        self._status_at = -1e9
        self._sequence = 0
        self._status: dict[str, Any] = {}
        self._classes: list[dict[str, Any]] = []
        self._descriptions: dict[int, SessionDescription] = {}
        self._lanes: OrderedDict[int, deque[tuple[int, int]]] = OrderedDict()

    # What the tracker says

    def on_masks(self, frame: ShownFrame) -> None:
        """Masks, with their image. A sequence that goes back is a node that was started or configured anew."""
        with self._lock:
            newest = self._frames.newest
            if frame.sequence <= self._sequence or (newest is not None and frame.stamp < newest.stamp):
                self._forget(keep_names=frame.sequence > self._sequence)
            self._sequence, self._bare, self._unmasked_since = frame.sequence, None, None
            self._frames.add(frame)
            self._note_states(frame)
        self._changed()

    def on_image(self, frame: ShownFrame) -> None:
        """Take an image of which no masks are known. It is shown only while none come, of a tracker that is off."""
        with self._lock:
            now = self._clock()
            self._unmasked_since = now if self._unmasked_since is None else self._unmasked_since
            processing = self.alive and self._status.get("state") in PROCESSING  # then masks come, late as they may be
            if processing or now - self._unmasked_since < SILENCE:
                return
            self._bare = frame
        self._changed()

    def on_status(self, status: Mapping[str, Any]) -> None:
        """Take the node's heartbeat, as plain values."""
        with self._lock:
            self._status, self._status_at = dict(status), self._clock()
            if status.get("state") in PROCESSING:
                self._bare = self._unmasked_since = None
            self.revision += 1
        self._changed()

    def on_classes(self, classes: list[dict[str, Any]]) -> None:
        """Take the table of classes: id, name, color (#rrggbb) of each."""
        with self._lock:
            self._classes = classes
            self.revision += 1
        self._changed()

    def set_history(self, length: int) -> None:
        """How many pictures can be prompted: the tracker's prompt_history."""
        with self._lock:
            self._frames.length = length

    def _forget(self, *, keep_names: bool) -> None:
        """Another stream: its pictures cannot be prompted, and its ids may be other objects'."""
        self._frames.clear()
        self._undo.clear()
        self._lanes.clear()
        if not keep_names:
            self._descriptions.clear()
        self.revision += 1

    def _note_states(self, frame: ShownFrame) -> None:
        now_there = {seen.id: seen.state for seen in frame.objects}
        for object_id, state in now_there.items():
            lane = self._lanes.setdefault(object_id, deque(maxlen=LANE))
            if not lane or lane[-1][1] != state:
                lane.append((frame.stamp, state))
        for object_id, lane in self._lanes.items():
            if object_id not in now_there and lane[-1][1]:
                lane.append((frame.stamp, 0))  # removed
        while len(self._lanes) > LANES:
            self._lanes.popitem(last=False)

    # What the server shows

    def frame(self, stamp: int = 0) -> ShownFrame | None:
        """Return the frame of a stamp, while it can be prompted; 0: the newest, without masks where none come."""
        with self._lock:
            if stamp:
                return self._frames.get(stamp)
            return self._bare or self._frames.newest

    @property
    def alive(self) -> bool:
        """Whether the node's heartbeat is there."""
        return self._clock() - self._status_at <= STATUS_AGE

    def state(self) -> dict[str, Any]:
        """Write the text message `state`.

        node: state (name, or GONE without a heartbeat), message, ages, counters, device; objects that are tracked
        history: stamps that can be prompted; lanes: of each object [ms, state] at each change, 0 is removed
        newest: ms, stamp of the newest masks
        names: of objects that people have named; undo: what would be taken back, "" for nothing
        """
        with self._lock:
            alive, silent = self.alive, self._clock() - self._status_at
            node = dict(self._status) if alive else {**self._status, **_gone(self.name, silent)}
            return {
                "type": "state", "camera": self.name, "node": node, "classes": self._classes,
                "history": [str(stamp) for stamp in self._frames.stamps],
                "names": {str(i): {"name": d.name, "color": d.color} for i, d in self._descriptions.items()},
                "lanes": {str(i): [[stamp / 1e6, state] for stamp, state in lane] for i, lane in self._lanes.items()},
                "newest": newest.stamp / 1e6 if (newest := self._frames.newest) else 0,
                "undo": self._undo.next(),
            }  # fmt: skip

    # What people do

    def before(self, stamp: int) -> ShownFrame | None:
        """Return a picture as it is before a request; 0: the newest."""
        with self._lock:
            return self._frames.get(stamp) if stamp else self._frames.newest

    def prompted(self, before: ShownFrame | None, object_id: int, *, new: bool, renamed_only: bool) -> None:
        """Note that a prompt was taken."""
        with self._lock:
            self._undo.prompted(before, object_id, new=new, renamed_only=renamed_only)
            self.revision += 1

    def answered(self, stamp: int, frame: ShownFrame, changed: Collection[int] = ()) -> None:
        """Masks in the answer to a prompt: those of the picture that was prompted, from now on.

        changed: objects whose masks the prompt has changed. The tracker has changed them on the newer pictures as well,
        but has not said how: what is here of those is wrong, is shown no longer, and is nothing to go back to.
        """
        assert frame.label_map is not None
        with self._lock:
            self._frames.change(stamp, frame.label_map, frame.objects)
            for newer in self._frames.after(stamp):
                label_map = newer.without(changed)
                if label_map is not None and any(seen.id in changed for seen in newer.objects):
                    self._frames.change(newer.stamp, label_map, tuple(_stale(s, changed) for s in newer.objects))
            newest = self._frames.newest
            if newest is not None and newest.stamp == stamp:
                self._note_states(newest)
        self._changed()

    def removed(self, before: ShownFrame | None, object_ids: tuple[int, ...]) -> None:
        """Objects were removed by somebody, who may take it back. before: the newest picture as it was then"""
        with self._lock:
            self._undo.removed(before, object_ids)
            self.revision += 1
        self.take_off(object_ids)

    def take_off(self, object_ids: tuple[int, ...]) -> None:
        """Show objects that are gone no longer on the newest picture, also when no other follows."""
        with self._lock:
            newest = self._frames.newest
            label_map = newest.without(object_ids) if newest is not None else None
            if newest is None or label_map is None:
                return
            left: tuple[Seen, ...] = tuple(seen for seen in newest.objects if seen.id not in object_ids)
            self._frames.change(newest.stamp, label_map, left)
        self._changed()

    def was_reset(self) -> None:
        """All objects were dropped; the pictures before cannot be prompted."""
        with self._lock:
            self._forget(keep_names=True)
        self._changed()

    def remedy(self) -> Remedy:
        """Say what takes the last action back. Raises RequestError; that action is then forgotten."""
        with self._lock:
            try:
                return self._undo.remedy(self._frames.stamps)
            except RequestError:
                self._undo.done()
                self.revision += 1
                raise

    def taken_back(self, new_id: int = 0) -> None:
        """Note that the last action was taken back, or cannot be. new_id: of an object that was removed"""
        with self._lock:
            self._undo.done(new_id)
            self.revision += 1
        self._changed()

    def describe(self, object_id: int, description: SessionDescription) -> None:
        """Give an object a name and a colour. Raises RequestError (UNKNOWN_OBJECT)."""
        with self._lock:
            if object_id not in self._lanes:
                raise RequestError(ErrorCode.UNKNOWN_OBJECT, f"object {object_id} was never seen in {self.name}")
            self._descriptions[object_id] = description
            while len(self._descriptions) > LANES:
                self._descriptions.pop(next(iter(self._descriptions)))
            self.revision += 1
        self._changed()


def _stale(seen: Seen, changed: Collection[int]) -> Seen:
    return replace(seen, box=(0, 0, 0, 0), area=0, stale=True) if seen.id in changed else seen


def _gone(name: str, silent: float) -> dict[str, Any]:
    since = f"for {silent:.0f} s" if silent < 1e8 else "so far"
    return {"state": GONE, "message": f"{name} has not been heard of {since}: is it running?"}
