"""The prompts of the objects that are tracked, as a file."""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from sam2s_model.errors import ConfigError, RequestError
from sam2s_model.files.file_locks import lock
from sam2s_model.prompting.strokes import Stroke
from sam2s_model.prompts import Prompt

VERSION = 1
NO_ID = 2**32  # ids in messages are less


@dataclass(frozen=True)
class PromptSet:
    """What a tracker that takes the place of another needs to know.

    size: (H, W) of the images, px; prompts: of each object in the order they were given, by the id it had then
    next_id: greater than any id that was given; given: s since 1970, when the newest of the prompts was given
    by_person: the objects of them whose class a person has given
    """

    size: tuple[int, int]
    prompts: Mapping[int, Sequence[Prompt]]
    next_id: int = 1
    given: float = 0.0
    by_person: Collection[int] = ()


class PromptFile:
    """A JSON file with one PromptSet. Coordinates as in `Prompt`; masks are PNG in base64.

    path: as it was given; what it is a link to is read and written
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = Path(os.path.realpath(path))  # one file has one lock, whatever its names are
        self._lock: IO[str] | None = None  # held while it is open

    @property
    def _part(self) -> Path:
        return self._file.with_name(self._file.name + ".part")

    def hold(self) -> None:
        """Keep the file from all other trackers, also of other processes, until `release` or the end of this one.

        Raises ConfigError while another one has it, or where `write` would fail now.
        """
        try:
            self._refuse_folder()
            self._lock = self._opened_lock()
            lock(self._lock)
        except BlockingIOError as error:
            self.release()
            raise ConfigError(
                f"prompts_file {self.path} is kept by another tracker, and each would overwrite what the other keeps: "
                "give each its own"
            ) from error
        except OSError as error:
            self.release()
            raise self._unwritable(error) from error
        self.check_writable()

    def _opened_lock(self) -> IO[str]:
        """Open the file that is locked, which stays: whoever removed it would let two trackers lock one each."""
        path = self._file.with_name(self._file.name + ".lock")
        try:
            return path.open("w")
        except PermissionError:
            return path.open()  # another user's, of a tracker of before

    def _refuse_folder(self) -> None:
        if self._file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def release(self) -> None:
        """Let other trackers have the file. Nothing is done where it is not held."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def check_writable(self) -> None:
        """Raise ConfigError where `write` would fail now. What the file holds stays as it is."""
        try:
            self._refuse_folder()
            self._part.write_text("")
            self._part.unlink()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"prompts_file {self.path} cannot be written ({error.strerror}): make its folder writable, "
            "give another path, or leave it empty to keep no prompts"
        )

    def write(self, prompts: PromptSet) -> None:
        """Replace the file: whoever reads it sees the old set or the new one. Raises OSError."""
        height, width = prompts.size
        rows = [
            {"object": object_id, **_to_json(prompt)}
            for object_id, given in prompts.prompts.items()
            for prompt in given
        ]
        head = {"version": VERSION, "height": height, "width": width, "next_id": prompts.next_id}
        told = {"given": prompts.given, "by_person": sorted(prompts.by_person)}
        text = json.dumps({**head, **told, "prompts": rows}, indent=1)
        self._part.write_text(text + "\n")
        os.replace(self._part, self._file)

    def read(self) -> PromptSet | None:
        """Read the file; None when there is none. Raises ConfigError for one that is not a set of prompts."""
        try:
            content = json.loads(self._file.read_text())
            if content["version"] != VERSION:
                raise ValueError(f"its version is {content['version']}: expected {VERSION}")
            size = int(content["height"]), int(content["width"])
            prompts: dict[int, list[Prompt]] = {}
            for row in content["prompts"]:
                own = prompts.setdefault(int(row["object"]), [])
                given = replace(_from_json(row), object_id=min(1, len(own)))  # all but the first are corrections
                own.append(replace(given.validated(*size), object_id=0))
            next_id = max(int(content.get("next_id", 1)), 1, *(object_id + 1 for object_id in prompts))
            if next_id >= NO_ID:
                raise ValueError(f"its next id is {next_id}: expected less than {NO_ID}")
            # a file of before there was a time in it has that of the file
            at = float(content.get("given", self._file.stat().st_mtime))
            by_person = prompts.keys() & map(int, content.get("by_person", ()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, OverflowError, KeyError, TypeError, cv2.error) as error:
            what = str(error) if isinstance(error, (OSError, RequestError)) else f"{type(error).__name__}: {error}"
            raise ConfigError(f"{self.path} is not a file of saved prompts ({what}): remove it") from error
        return PromptSet(size, prompts, next_id, at, by_person)


def _to_json(prompt: Prompt) -> dict[str, Any]:
    row: dict[str, Any] = {"class": prompt.class_name}
    for name in ("points", "point_labels", "box"):
        value = getattr(prompt, name)
        if value is not None:
            row[name] = np.asarray(value).tolist()
    if prompt.mask is not None:
        _, png = cv2.imencode(".png", np.asarray(prompt.mask, np.uint8) * 255)
        row["mask"] = base64.b64encode(png.tobytes()).decode()
    if prompt.granularity:
        row["granularity"] = float(prompt.granularity)
    if prompt.strokes:
        row["strokes"] = [{"points": np.asarray(s.points).tolist(), "label": int(s.label)} for s in prompt.strokes]
    if prompt.tube:
        row["tube"] = True
    return row


def _from_json(row: Mapping[str, Any]) -> Prompt:
    mask = row.get("mask")
    if mask is not None:
        mask = cv2.imdecode(np.frombuffer(base64.b64decode(mask), np.uint8), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError("a mask is not PNG")
    strokes = tuple(Stroke(np.array(s["points"], np.float32), s["label"]) for s in row.get("strokes", ()))
    return Prompt(
        0, row["class"], row.get("points"), row.get("point_labels"), row.get("box"), mask,
        granularity=row.get("granularity", 0.0), strokes=strokes, tube=row.get("tube", False),
    )  # fmt: skip
