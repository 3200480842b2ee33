"""A tracker at the boundary of the server: an object is the square around the click."""

from __future__ import annotations

import itertools
import time

import numpy as np

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_ros.console.frames import Seen, ShownFrame
from sam2s_ros.console.link import LinkPrompt
from sam2s_ros.console.proposals import Discovered, proposed
from sam2s_ros.console.session import Session

SIZE = (48, 64)  # (H, W), px
HALF = 6  # px
PROPOSED = {7: (10, 12), 9: (40, 30)}  # id -> centre of a square that may be an object


class EchoLink:
    """A `Link`. `step` gives the session another frame."""

    def __init__(self, name: str = "/echo"):
        self.changed = lambda: None
        self.session = Session(name, history=4, changed=lambda: self.changed())
        self.places: dict[int, tuple[int, int]] = {}
        self.classes: dict[int, str] = {}
        self.on, self._sequence, self._ids = True, 0, itertools.count(1)
        self.session.on_status({"state": "RUNNING", "message": ""})

    def now(self) -> int:
        return time.time_ns()

    def step(self, states: dict[int, int] | None = None) -> ShownFrame:
        """states: of objects, by id, where they are not TRACKED"""
        self._sequence += 1
        frame = self._frame(time.time_ns(), self._sequence, states or {})
        self.session.on_status({"state": "RUNNING", "message": ""})
        self.session.on_masks(frame)
        return frame

    def _frame(self, stamp: int, sequence: int, states: dict[int, int] | None = None) -> ShownFrame:
        label_map, seen = np.zeros(SIZE, np.uint8), []
        for object_id, (x, y) in self.places.items():
            box = max(0, x - HALF), max(0, y - HALF), min(SIZE[1], x + HALF), min(SIZE[0], y + HALF)
            label_map[box[1] : box[3], box[0] : box[2]] = object_id
            area, state = int((label_map == object_id).sum()), (states or {}).get(object_id, 1)
            name = self.classes[object_id]
            seen.append(Seen(object_id, object_id, 1, name, None, state, 1.0, box, area))
        image = np.full((*SIZE, 3), sequence % 200, np.uint8)
        return ShownFrame(stamp, SIZE, lambda: image, sequence, label_map, tuple(seen))

    async def prompt(self, asked: LinkPrompt) -> int:
        stamp, object_id, points, box, mask = asked.stamp, asked.object_id, asked.points, asked.box, asked.mask
        frame = self.session.frame(stamp)
        if frame is None:
            raise RequestError(ErrorCode.TOO_OLD, f"stamp {stamp} ns is too old")
        if object_id and object_id not in self.places:
            raise RequestError(ErrorCode.UNKNOWN_OBJECT, f"object {object_id} is not tracked")
        if not object_id and len(self.places) >= 20:
            raise RequestError(ErrorCode.TOO_MANY_OBJECTS, "20 objects are tracked already")
        if asked.proposal and asked.proposal not in PROPOSED:
            raise RequestError(ErrorCode.UNKNOWN_PROPOSAL, f"proposal {asked.proposal} is not known")
        points = [(*PROPOSED[asked.proposal], 1)] if asked.proposal else points
        object_id = object_id or next(self._ids) % 254 + 1
        if mask is not None:
            rows, columns = np.nonzero(mask)
            self.places[object_id] = int(columns.mean() + 0.5), int(rows.mean() + 0.5)
        elif points or box:
            x, y = points[0][:2] if points else ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            if not (0 <= x < SIZE[1] and 0 <= y < SIZE[0]):
                raise RequestError(ErrorCode.INVALID_PROMPT, f"point ({x:g}, {y:g}) is outside the image")
            self.places[object_id] = int(x), int(y)
        elif object_id not in self.places:
            raise RequestError(ErrorCode.EMPTY_REQUEST, "a prompt has no points, no strokes, no box and no mask")
        self.classes[object_id] = asked.class_name or self.classes.get(object_id, "instrument")
        changed = () if asked.only_names else (object_id,)
        self.session.answered(frame.stamp, self._frame(frame.stamp, frame.sequence), changed)
        return object_id

    async def discover(self, stamp, class_name="") -> Discovered:
        frame = self.session.frame(0)
        if frame is None:
            raise RequestError(ErrorCode.NO_IMAGE, "there is no image yet")
        found = []
        for number, (x, y) in PROPOSED.items():
            mask, box = np.zeros(SIZE, bool), (x - HALF, y - HALF, x + HALF, y + HALF)
            mask[box[1] : box[3], box[0] : box[2]] = True
            found.append(proposed(number, mask, box, class_name, 0.9, float("nan")))
        return Discovered(frame.stamp, tuple(found))

    async def remove(self, object_ids) -> None:
        for object_id in object_ids:
            if object_id not in self.places:
                raise RequestError(ErrorCode.UNKNOWN_OBJECT, f"object {object_id} is not tracked")
        for object_id in set(object_ids):
            del self.places[object_id]

    async def reset(self) -> str:
        self.places.clear()
        return "all objects were dropped"

    async def enable(self, on: bool) -> str:
        self.on = on
        return "enabled" if on else "disabled"
