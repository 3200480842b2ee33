"""prompts.yaml: what a person said about the objects of a recording, on which frame; read by track, eval and annotate.

    prompts:
      - {frame: 0, object: 1, class: scissors, box: [120, 80, 340, 260]}
      - {frame: 0, object: 2, points: [[400, 90], [420, 95]], not_on: [[300, 100]]}
      - {frame: 45, object: 1, mask: masks/000045.png}               # a correction: the object is known by then

`frame` counts from 0; instead of it `stamp_ns` or `name` (of the image) may say which. `object` is a number of the
file's own. Names are read as they are written: 000045 is no number. Entries may stand in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from sam2s_model.errors import ConfigError, RequestError, SourceError
from sam2s_model.paths import expanded
from sam2s_model.prompts import NEGATIVE, POSITIVE, Prompt
from sam2s_model.recordings.image_files import read_labels
from sam2s_model.recordings.recording import Frame
from sam2s_model.tracks import Tracks

if TYPE_CHECKING:  # loads torch
    from sam2s_model.evaluation.follow import Prompted


@dataclass(frozen=True)
class PromptEntry:
    """One entry. Exactly one of frame, stamp_ns and name says which image it is about.

    object: the file's number of the object; points, not_on: (x, y), px of the image; box: x0, y0, x1, y1, px
    mask: of a PNG beside the file, everything but 0 is the object
    """

    object: int
    frame: int | None = None
    stamp_ns: int | None = None
    name: str | None = None
    class_name: str = ""
    points: tuple[tuple[float, float], ...] = ()
    not_on: tuple[tuple[float, float], ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None

    @property
    def named_by(self) -> str:
        """Tell by what it names its frame: a key of the file."""
        return next(key for key in FRAME_KEYS if getattr(self, key) is not None)

    @property
    def place(self) -> str:
        """Name object and frame, for a message."""
        at = f"frame {self.frame}" if self.frame is not None else f"the image {self.name}"
        return f"object {self.object} on {at if self.stamp_ns is None else f'stamp {self.stamp_ns} ns'}"

    def is_of(self, frame: Frame) -> bool:
        """Whether it is about this frame."""
        return self.is_about(frame.index, frame.stamp_ns, frame.name)

    def is_about(self, index: int, stamp_ns: int, name: str) -> bool:
        """Whether it is about the frame with this index, stamp and name."""
        if self.frame is not None:
            return self.frame == index
        return self.stamp_ns == stamp_ns if self.stamp_ns is not None else self.name == name


class PromptScript:
    """The prompts of a recording, in the order in which they are applied.

    A frame's prompts for one object are one prompt: points and box together, the last class.

    folder: that the names of masks are relative to
    """

    def __init__(self, entries: Iterable[PromptEntry], folder: Path = Path()):
        self.entries = tuple(entries)
        self.folder = folder

    @classmethod
    def read(cls, path: str | Path) -> PromptScript:
        """Read a file as above. Raises ConfigError that names the entry and what is wrong with it."""
        path = expanded(path)
        try:
            content = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  a safe one
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read as prompts ({error})") from error
        rows = content.get("prompts") if isinstance(content, Mapping) else None
        if not isinstance(rows, list) or not rows:
            raise ConfigError(f"{path} has no prompts: expected `prompts:` and a list with at least one entry")
        return cls([_entry(row, f"{path}, entry {i}") for i, row in enumerate(rows, 1)], path.parent)

    @property
    def mask_files(self) -> list[Path]:
        """The files of the masks that it names, each once."""
        return list(dict.fromkeys(self.folder / entry.mask for entry in self.entries if entry.mask is not None))

    def write(self, path: Path) -> None:
        """Write the file, so that whoever reads it sees the old one or the new one. Raises OSError."""
        rows = [_row(entry) for entry in self.entries]
        part = path.with_name(path.name + ".part")
        part.write_text(yaml.safe_dump({"prompts": rows}, sort_keys=False, default_flow_style=None, width=120))
        part.replace(path)

    def of(self, frame: Frame, ids: Mapping[int, int]) -> tuple[list[int], list[Prompt]]:
        """Return the objects of the file that are prompted on this frame, and their prompts.

        ids: the file's number -> the tracker's id, of known objects. Raises ConfigError for a mask that cannot be read.
        """
        prompts: dict[int, Prompt] = {}
        for entry in self.entries:
            if entry.is_of(frame):
                known = prompts.get(entry.object, Prompt(object_id=ids.get(entry.object, 0)))
                prompts[entry.object] = self._added(known, entry)
        return list(prompts), list(prompts.values())

    def check(self, size: tuple[int, int]) -> None:
        """Check all prompts against the images' size (H, W), before anything is tracked.

        Raises RequestError naming object and frame, ConfigError for a mask that cannot be read, and for entries
        that name frames in two ways and would be no prompt if both are of one frame.
        """
        objects: dict[int, dict[tuple[Any, ...], list[PromptEntry]]] = {}
        for entry in self.entries:
            frames = objects.setdefault(entry.object, {})
            frames.setdefault((entry.frame, entry.stamp_ns, entry.name), []).append(entry)
        for number, frames in objects.items():
            known = 0
            for entries in self._in_order([*frames.values()], size):
                try:
                    self._joined(entries, known).validated(*size)
                except RequestError as error:
                    raise RequestError(error.code, f"{entries[0].place}: {error}") from error
                known = number
            self._check_what_may_be_one(number, [*frames.values()], size)

    def _check_what_may_be_one(self, number: int, frames: list[list[PromptEntry]], size: tuple[int, int]) -> None:
        """Refuse entries of an object that name their frame differently, and were no prompt if it is the same frame.

        Frame 45 may be the image 000045, which is not known before it comes: a box on one and a mask on the other.
        Whether two fit depends on what kind of prompt they are: one of each kind and name stands for all.
        """
        kinds = {}
        for entries in frames:
            given = [entry for entry in entries if entry.points or entry.not_on or entry.box]
            kinds[entries[0].named_by, any(entry.mask for entry in entries), bool(given)] = entries
        for (by, one), (another, other) in combinations(((key[0], kinds[key]) for key in kinds), 2):
            if by == another:
                continue
            try:
                self._joined([*one, *other], number).validated(*size)
            except RequestError as error:
                raise ConfigError(
                    f"{one[0].place} and {other[0].place} may be of one frame, named by {by} and by {another}, "
                    f"and are no prompt together ({error}): name the frames of both in one way"
                ) from error

    def _in_order(self, frames: list[list[PromptEntry]], size: tuple[int, int]) -> list[list[PromptEntry]]:
        """Sort an object's entries, those of each frame together, as they will be applied.

        Where that cannot be told, as of names, one that can begin the object comes first.
        """
        for told in ("frame", "stamp_ns"):
            if all(getattr(entries[0], told) is not None for entries in frames):
                return sorted(frames, key=lambda entries: getattr(entries[0], told))
        return sorted(frames, key=lambda entries: not self._begins(entries, size))

    def _begins(self, entries: list[PromptEntry], size: tuple[int, int]) -> bool:
        try:
            self._joined(entries).validated(*size)
        except RequestError:
            return False
        return True

    def _joined(self, entries: list[PromptEntry], object_id: int = 0) -> Prompt:
        prompt = Prompt(object_id=object_id)
        for entry in entries:
            prompt = self._added(prompt, entry)
        return prompt

    def prompt_of(self, number: int, object_id: int = 0) -> Prompt:
        """Return all entries of an object as one prompt, whatever frames they are of. Raises ConfigError as `of`."""
        return self._joined([entry for entry in self.entries if entry.object == number], object_id)

    def _added(self, prompt: Prompt, entry: PromptEntry) -> Prompt:
        given = [*entry.points, *entry.not_on]
        labels = [POSITIVE] * len(entry.points) + [NEGATIVE] * len(entry.not_on)
        if given and prompt.points is not None and prompt.point_labels is not None:
            given, labels = [*prompt.points, *given], [*prompt.point_labels, *labels]
        prompt = replace(prompt, class_name=entry.class_name or prompt.class_name)
        if given:
            prompt = replace(prompt, points=np.array(given, np.float32), point_labels=np.array(labels, np.int64))
        if entry.box is not None:
            prompt = replace(prompt, box=np.array(entry.box, np.float32))
        return prompt if entry.mask is None else replace(prompt, mask=self._mask(entry.mask))

    def _mask(self, name: str) -> np.ndarray:
        path = self.folder / name
        try:
            return read_labels(path) != 0
        except SourceError as error:
            raise ConfigError(f"the mask of a prompt cannot be read: {error}") from error


def prompt_bytes(path: str | Path) -> bytes:
    """Return what a file of prompts holds, and after it what the masks that it names hold: all that it says.

    Raises ConfigError for a file that cannot be read, also for a mask's that is no mask.
    """
    script, path = PromptScript.read(path), expanded(path)
    try:
        content = b"".join(file.read_bytes() for file in (path, *script.mask_files))
        for file in script.mask_files:
            read_labels(file)
        return content
    except (OSError, SourceError) as error:
        raise ConfigError(f"{path} cannot be read as prompts ({error})") from error


class AppliedScript:
    """Give a script's prompts to a tracker, frame by frame; an object that is known by then is corrected.

    ids: the script's number of an object -> the tracker's id, of all that were prompted so far
    prompted: the script's numbers of the objects that were prompted on the newest frame
    """

    def __init__(self, script: PromptScript, prompt: Callable[[list[Prompt]], Prompted]):
        """prompt: prompts the tracker on the frame that it has just processed, and may raise"""
        self.ids: dict[int, int] = {}
        self.prompted: tuple[int, ...] = ()
        self._script, self._prompt = script, prompt
        self._left = list(script.entries)

    def on(self, frame: Frame) -> Tracks | None:
        """Give the prompts of this frame. Returns its tracks with them in effect, None where there are none.

        Raises RequestError naming the frame, ConfigError for a mask that cannot be read.
        """
        objects, prompts = self._script.of(frame, self.ids)
        self.prompted = tuple(objects)
        if not prompts:
            return None
        try:
            result = self._prompt(prompts)
        except RequestError as error:
            raise RequestError(error.code, f"prompts on frame {frame.name}: {error}") from error
        self.ids.update(zip(objects, result.object_ids, strict=True))
        self._left = [entry for entry in self._left if not entry.is_of(frame)]
        return result.tracks

    @property
    def missed(self) -> list[PromptEntry]:
        """The entries that are about none of the frames that came."""
        return list(self._left)


class _Loader(yaml.SafeLoader):
    """Reads names, classes and masks as texts, whatever number, date or truth value YAML would see in them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, value in node.value:
            if key.value in TEXTS and isinstance(value, yaml.ScalarNode) and value.tag != NULL:
                value.tag = TEXT
        return super().construct_mapping(node, deep)


FRAME_KEYS = ("frame", "stamp_ns", "name")  # keys of the file that say which frame an entry is about
TEXTS = ("name", "class", "mask")  # keys of the file
TEXT, NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
NAMES = {"class": "class_name"}  # in the file -> in `PromptEntry`
KEYS = tuple({v: k for k, v in NAMES.items()}.get(f.name, f.name) for f in fields(PromptEntry))


def _entry(row: Any, where: str) -> PromptEntry:
    if not isinstance(row, Mapping):
        raise ConfigError(
            f"{where} is {row!r}: expected a table such as {{frame: 0, object: 1, box: [10, 20, 30, 40]}}"
        )
    unknown = sorted(set(map(str, row)) - set(KEYS))
    if unknown:
        raise ConfigError(f"{where} has {', '.join(unknown)}: expected some of {', '.join(KEYS)}")
    at = [key for key in FRAME_KEYS if row.get(key) is not None]
    if len(at) != 1:
        raise ConfigError(
            f"{where} says of {len(at)} frames ({', '.join(at)}): expected one of {', '.join(FRAME_KEYS)}"
        )
    try:
        entry = PromptEntry(
            object=_whole(row.get("object", 1)),
            frame=None if row.get("frame") is None else _whole(row["frame"]),
            stamp_ns=None if row.get("stamp_ns") is None else _whole(row["stamp_ns"]),
            name=None if row.get("name") is None else str(row["name"]),
            class_name=str(row.get("class") or ""),
            points=_pairs(row.get("points")),
            not_on=_pairs(row.get("not_on")),
            box=None if row.get("box") is None else _four(row["box"]),
            mask=None if row.get("mask") is None else str(row["mask"]),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{where} cannot be read ({error})") from error
    if entry.object < 1 or (entry.frame or 0) < 0:
        raise ConfigError(f"{where} is of object {entry.object}, frame {entry.frame}: expected from 1, from 0")
    if not (entry.points or entry.not_on or entry.box or entry.mask or entry.class_name):
        raise ConfigError(f"{where} says nothing: expected points, not_on, box, mask or class")
    return entry


def _row(entry: PromptEntry) -> dict[str, Any]:
    """Leave out what was not said."""
    row: dict[str, Any] = {}
    for key in KEYS:
        value = getattr(entry, NAMES.get(key, key))
        if value is not None and value != () and value != "":
            row[key] = (
                [list(p) for p in value] if key in ("points", "not_on") else list(value) if key == "box" else value
            )
    return row


def _whole(value: Any) -> int:
    """Read a whole number. Raises ValueError or OverflowError for what has a fraction or no end."""
    number = int(value)
    if isinstance(value, float) and number != value:
        raise ValueError(f"expected a whole number, not {value}")
    return number


def _pairs(value: Any) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in value or ())


def _four(value: Sequence[Any]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(v) for v in value)
    return x0, y0, x1, y1
