"""What the page and the console say to each other, written down once. `static/protocol.js` is the other half.

One WebSocket, `/socket`. Text messages are JSON objects with a `type`, binary messages are frames. Stamps are strings
of decimal ns, since a number of JavaScript has 53 bits. Coordinates are px of the source image, the centre of the first
pixel is (0, 0).

From the console, binary: a frame, little endian.

    u8   kind (1)      u8 version (1)      u16 0
    u32  bytes of the header      u32 bytes of the JPEG      u32 R, number of runs
    header, JSON: count, camera, stamp, sequence, width, height, mask [w, h], frozen, tracked, late, age (ms or null),
        objects [{id, label, class_id, class, class_score, state, score, box [x0, y0, x1, y1], area, stale}]
    JPEG of the input, at its own size or smaller
    u16[R] lengths, u8[R] labels: the label image of `mask` size, see `runs`

`age` is that of the image when the frame was sent, by the tracker's clock. The next frame is sent once the page has
answered `ack` with this one's `count`, and it is the newest one then: nothing queues, a slow browser is never behind.

From the console, text:
    state    of one camera, some times a second: see `Session.state`
    answer   to each request: request, ok, message, error (name of the ErrorCode), objects, command,
             stamp and proposals
    refused  a message that could not be taken, with the reason

A page that is refused is sent nothing but the end of its WebSocket: code 4403 (who it is, or where it is from) or 4503
(too many are there), and the reason in words.

From the page, text: the classes below, by their `type`. Requests carry a number that comes back in the answer.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam2s_model.errors import ConsoleError
from sam2s_ros.console.runs import encode_runs

FRAME, VERSION = 1, 1
PREFIX = struct.Struct("<BBHIII")

MAX_TEXT = 200  # characters of a name or a class
MAX_POINTS = 64  # of one prompt; a stroke is sampled to fewer by the page
MAX_OBJECTS = 254  # in one request
MAX_NUMBER = 1e6  # of a coordinate; the tracker says what is outside its image
MAX_STAMP = 2**31 * 10**9 - 1  # ns; what builtin_interfaces/Time holds
MAX_ID = 2**32 - 1
MAX_REQUEST = 2**53 - 1


@dataclass(frozen=True)
class Hello:
    """Who looks; stands in the log of actions beside the address."""

    name: str


@dataclass(frozen=True)
class Ack:
    """The frame `count` was drawn, `shown` ms after it had arrived: the next may come."""

    count: int
    shown: float


@dataclass(frozen=True)
class Watch:
    """Frames of this camera from now on, live."""

    camera: str


@dataclass(frozen=True)
class ShowAction:
    """Stay on the picture of this stamp (freeze, scrub); 0: live again."""

    stamp: int


@dataclass(frozen=True)
class PromptAction:
    """Start (object 0) or correct an object on the picture that the person saw; a class alone renames its class.

    points: (x, y, sign) with sign 1 on the object, 0 not on it; box: x0, y0, x1, y1 or empty
    proposal: 0, or the id of one of an answer to `discover` on this picture, which is accepted
    """

    request: int
    camera: str
    stamp: int
    object: int
    class_name: str
    points: tuple[tuple[float, float, int], ...]
    box: tuple[float, ...]
    proposal: int = 0


@dataclass(frozen=True)
class DiscoverAction:
    """Look for objects: of a recording on the picture of the stamp, of a live tracker on its newest one.

    The answer has `stamp`, of that picture, and `proposals`: [{id, class, score, class_score, outline [[x, y], ...] of
    each part}]. class_name: only those of this class; "": all
    """

    request: int
    camera: str
    stamp: int
    class_name: str


@dataclass(frozen=True)
class Remove:
    request: int
    camera: str
    objects: tuple[int, ...]


@dataclass(frozen=True)
class UndoAction:
    """Take the last prompt, removal or change of class of this camera back."""

    request: int
    camera: str


@dataclass(frozen=True)
class Reset:
    request: int
    camera: str


@dataclass(frozen=True)
class Enable:
    request: int
    camera: str
    on: bool


@dataclass(frozen=True)
class Describe:
    """What people call an object, and its colour (#rrggbb); empty: as before anybody said."""

    request: int
    camera: str
    object: int
    name: str
    color: str


@dataclass(frozen=True)
class TrackAction:
    """Of an annotation: track all objects on, to wherever masks are missing or stale."""

    request: int
    camera: str


@dataclass(frozen=True)
class StopAction:
    """Of an annotation: stop tracking on, after the frame that is under way."""

    request: int
    camera: str


@dataclass(frozen=True)
class ExportAction:
    """Of an annotation: write it in a form that other programs read. name: of `annotation.exports.EXPORTS`"""

    request: int
    camera: str
    name: str


@dataclass(frozen=True)
class LearnAction:
    """Of an annotation: write the data set, and say the command that learns from it, as `command` in the answer."""

    request: int
    camera: str


Request = (  # change something: not for those who may only look
    PromptAction
    | DiscoverAction
    | Remove
    | UndoAction
    | Reset
    | Enable
    | Describe
    | TrackAction
    | StopAction
    | ExportAction
    | LearnAction
)
Command = Hello | Ack | Watch | ShowAction | Request


def frame_message(header: Mapping[str, Any], jpeg: bytes, label_map: np.ndarray) -> bytes:
    """Build the binary message of a frame. label_map: (h, w) uint8 of the size that header["mask"] says"""
    lengths, labels = encode_runs(label_map)
    text = json.dumps(header, allow_nan=False).encode()
    prefix = PREFIX.pack(FRAME, VERSION, 0, len(text), len(jpeg), len(labels))
    return b"".join((prefix, text, jpeg, lengths.astype("<u2").tobytes(), labels.tobytes()))


def read_frame(data: bytes) -> tuple[dict[str, Any], bytes, np.ndarray, np.ndarray]:
    """Inverse of `frame_message`: header, JPEG, lengths and labels of the runs.

    Raises ConsoleError for another message.
    """
    if len(data) < PREFIX.size:
        raise ConsoleError(f"a frame has {len(data)} bytes: expected at least {PREFIX.size}")
    kind, version, _, header, jpeg, runs = PREFIX.unpack_from(data)
    if (kind, version) != (FRAME, VERSION):
        raise ConsoleError(f"message of kind {kind}, version {version}: expected {FRAME} and {VERSION}")
    ends = np.cumsum([PREFIX.size, header, jpeg, 2 * runs, runs])
    if ends[-1] != len(data):
        raise ConsoleError(f"a frame has {len(data)} bytes: its prefix says {ends[-1]}")
    parts = [data[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    return json.loads(parts[0]), parts[1], np.frombuffer(parts[2], "<u2"), np.frombuffer(parts[3], np.uint8)


def read_command(text: str) -> Command:
    """Read the command that a page has sent. Raises ConsoleError naming the value and what would be right."""
    try:
        fields = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ConsoleError(f"a message is not JSON ({type(error).__name__}): {_shown(text)}") from None
    if not isinstance(fields, dict):
        raise ConsoleError(f"a message is {_shown(fields)}: expected an object with a type")
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in _READERS:
        raise ConsoleError(f"message of type {_shown(kind)}: expected one of {', '.join(_READERS)}")
    return _READERS[kind](_Fields(kind, fields))


class _Fields:
    """The fields of one message, each read with its limits."""

    def __init__(self, kind: str, fields: Mapping[str, Any]):
        self._kind, self._fields = kind, fields

    def text(self, name: str, most: int = MAX_TEXT) -> str:
        value = self._fields.get(name, "")
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            raise self._refusal(name, value, f"at most {most} printable characters")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        return self._integer(name, self._fields.get(name), low, high)

    def optional(self, name: str, high: int) -> int:
        """Return a whole number from 0, which it is where it is not given."""
        return self._integer(name, self._fields.get(name, 0), 0, high)

    def request(self) -> int:
        return self.integer("request", 0, MAX_REQUEST)

    def camera(self) -> str:
        return self.text("camera")

    def object(self, low: int = 1) -> int:
        return self.integer("object", low, MAX_ID)

    def stamp(self) -> int:
        value = self._fields.get("stamp")
        if not isinstance(value, str) or not re.fullmatch("[0-9]{1,19}", value) or int(value) > MAX_STAMP:
            raise self._refusal("stamp", value, f"a string of ns, from 0 to {MAX_STAMP}")
        return int(value)

    def switch(self, name: str) -> bool:
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise self._refusal(name, value, "true or false")
        return value

    def number(self, name: str) -> float:
        return self._number(name, self._fields.get(name, 0.0))

    def objects(self) -> tuple[int, ...]:
        rows = self._rows("objects", MAX_OBJECTS)
        if not rows:
            raise self._refusal("objects", rows, "at least one id")
        return tuple(self._integer("objects", value, 1, MAX_ID) for value in rows)

    def points(self) -> tuple[tuple[float, float, int], ...]:
        found = []
        for row in self._rows("points", MAX_POINTS):
            if not isinstance(row, list) or len(row) != 3:
                raise self._refusal("points", row, "x, y and a sign of each")
            sign = self._integer("points", row[2], 0, 1)
            found.append((self._number("points", row[0]), self._number("points", row[1]), sign))
        return tuple(found)

    def box(self) -> tuple[float, ...]:
        rows = self._rows("box", 4)
        if len(rows) not in (0, 4):
            raise self._refusal("box", rows, "x0, y0, x1, y1, or nothing")
        return tuple(self._number("box", value) for value in rows)

    def color(self) -> str:
        value = self.text("color", 7)
        if value and not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise self._refusal("color", value, "#rrggbb")
        return value

    def _rows(self, name: str, most: int) -> list:
        value = self._fields.get(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise self._refusal(name, value, f"a list of at most {most}")
        return value

    def _integer(self, name: str, value: Any, low: int, high: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._refusal(name, value, f"a whole number from {low} to {high}")
        return value

    def _number(self, name: str, value: Any) -> float:
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER
        if not right or not math.isfinite(value):
            raise self._refusal(name, value, f"a number from {-MAX_NUMBER:g} to {MAX_NUMBER:g}")
        return float(value)

    def _refusal(self, name: str, value: Any, expected: str) -> ConsoleError:
        return ConsoleError(f"{name} of {self._kind} is {_shown(value)}: expected {expected}")


_READERS: dict[str, Callable[[_Fields], Command]] = {
    "hello": lambda f: Hello(f.text("name", 40)),
    "ack": lambda f: Ack(f.integer("count", 0, MAX_REQUEST), f.number("shown")),
    "watch": lambda f: Watch(f.camera()),
    "show": lambda f: ShowAction(f.stamp()),
    "prompt": lambda f: PromptAction(
        f.request(),
        f.camera(),
        f.stamp(),
        f.object(0),
        f.text("class"),
        f.points(),
        f.box(),
        f.optional("proposal", MAX_ID),
    ),
    "discover": lambda f: DiscoverAction(f.request(), f.camera(), f.stamp(), f.text("class")),
    "remove": lambda f: Remove(f.request(), f.camera(), f.objects()),
    "undo": lambda f: UndoAction(f.request(), f.camera()),
    "reset": lambda f: Reset(f.request(), f.camera()),
    "enable": lambda f: Enable(f.request(), f.camera(), f.switch("on")),
    "track": lambda f: TrackAction(f.request(), f.camera()),
    "stop": lambda f: StopAction(f.request(), f.camera()),
    "export": lambda f: ExportAction(f.request(), f.camera(), f.text("name", 40)),
    "learn": lambda f: LearnAction(f.request(), f.camera()),
    "describe": lambda f: Describe(f.request(), f.camera(), f.object(), f.text("name", 40), f.color()),
}

TYPES = tuple(_READERS)  # of the messages that a page may send


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _shown(value: Any) -> str:
    """Write a value as it may stand in a log or an answer: printable, and not longer than a line."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; a list in a list in a list ...
        return type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."
