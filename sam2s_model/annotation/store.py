"""What an annotation holds, in one file of SQLite: frames, objects, prompts and masks. A kill loses no action."""

from __future__ import annotations

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from sam2s_model.errors import ConfigError
from sam2s_model.prompting.prompt_script import PromptEntry

FORMAT = 1
TABLES = """
create table if not exists facts(key text primary key, value text not null);
create table if not exists frames(position integer primary key, number integer not null, stamp_ns integer not null,
    name text not null, file text not null, dirty integer not null default 1);
create table if not exists objects(number integer primary key, class text not null, name text not null default '',
    color text not null default '');
create table if not exists entries(id integer primary key autoincrement, position integer not null,
    object integer not null, entry text not null);
create table if not exists masks(position integer not null, object integer not null, runs blob not null,
    score real not null, iou real not null, state integer not null, prompted integer not null, stale integer not null,
    base blob, primary key(position, object));
create index if not exists masks_of_object on masks(object, position);
create table if not exists given(position integer not null, object integer not null, what text not null,
    primary key(position, object, what));
"""
# table -> column of an object's number
OF_OBJECT = {"objects": "number", "entries": "object", "masks": "object", "given": "object"}


@dataclass(frozen=True)
class StoredFrame:
    """A frame of the annotation. number: in the recording, odd frames included; file: in frames/"""

    position: int
    number: int
    stamp_ns: int
    name: str
    file: str


@dataclass(frozen=True)
class StoredMask:
    """The mask of one object on one frame.

    score, iou: 0..1, of the model; state: a `State`; prompted: a person said what it is here
    stale: something before it was corrected since; base: the mask before the first prompt on this frame
    """

    mask: np.ndarray
    score: float = 1.0
    iou: float = 1.0
    state: int = 1
    prompted: bool = False
    stale: bool = False
    base: np.ndarray | None = None

    @property
    def confidence(self) -> float:
        """0..1: how sure the model is that the object is there and the mask is its own."""
        return self.score * self.iou


class AnnotationStore:
    """The file. Every method may be called in any thread; what is done in `writing` is there as a whole, or not.

    Raises ConfigError for a file that is none of these.
    """

    def __init__(self, path: Path):
        self._path, self._lock, self._depth = path, threading.RLock(), 0
        self._size: tuple[int, int] | None = None
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5.0)
            # A log beside the file: after kill -9 it is read again, and a reader never waits.
            self._database.execute("pragma journal_mode=wal")
            self._database.execute("pragma synchronous=normal")
            self._database.executescript(TABLES)
        except sqlite3.Error as error:
            raise ConfigError(f"{path} cannot be opened as an annotation ({error})") from error
        found = self.facts.get("format", FORMAT)
        if found != FORMAT:
            raise ConfigError(f"{path} is an annotation of format {found}: expected {FORMAT}")

    def close(self) -> None:
        with self._lock:
            self._database.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make all that is written inside one transaction. May be nested. Raises ConfigError when the disk refuses."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth == 1:
                    self._database.execute("begin immediate")
                yield
                if self._depth == 1:
                    self._database.execute("commit")
            except sqlite3.OperationalError as error:
                self._roll_back()
                raise ConfigError(f"{self._path} cannot be written to ({error})") from error
            except BaseException:
                self._roll_back()
                raise
            finally:
                self._depth -= 1

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("rollback")

    def _rows(self, query: str, *values: Any) -> list[tuple]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    def _write(self, query: str, *values: Any) -> None:
        with self.writing():
            self._database.execute(query, values)

    # ---- facts and frames

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the recording: spec, size, fps, label_set, ..."""
        return {key: json.loads(value) for key, value in self._rows("select key, value from facts")}

    def put_facts(self, facts: Mapping[str, Any]) -> None:
        with self.writing():
            self._size = None  # it may be among them
            for key, value in facts.items():
                self._write("insert or replace into facts values(?, ?)", key, json.dumps(value))

    def add_frame(self, frame: StoredFrame) -> None:
        self._write(
            "insert or replace into frames(position, number, stamp_ns, name, file) values(?, ?, ?, ?, ?)",
            frame.position, frame.number, frame.stamp_ns, frame.name, frame.file,
        )  # fmt: skip

    def frames(self) -> list[StoredFrame]:
        rows = self._rows("select position, number, stamp_ns, name, file from frames order by position")
        return [StoredFrame(*row) for row in rows]

    def dirty(self) -> list[int]:
        """Return the positions whose mask file is not yet as the masks here are."""
        return [row[0] for row in self._rows("select position from frames where dirty order by position")]

    def set_dirty(self, positions: Iterable[int], dirty: bool = True) -> None:
        with self.writing():
            rows = [(int(dirty), position) for position in positions]
            self._database.executemany("update frames set dirty = ? where position = ?", rows)

    # ---- objects and prompts

    def objects(self) -> dict[int, tuple[str, str, str]]:
        """Return number -> class, name, colour."""
        return {row[0]: row[1:] for row in self._rows("select number, class, name, color from objects order by number")}

    def put_object(self, number: int, class_name: str, name: str = "", color: str = "") -> None:
        self._write("insert or replace into objects values(?, ?, ?, ?)", number, class_name, name, color)

    def remove_object(self, number: int) -> None:
        """Remove an object with all that is known of it."""
        with self.writing():
            self._set_dirty_from_first(number)
            for table, column in OF_OBJECT.items():
                self._write(f"delete from {table} where {column} = ?", number)

    def rows_of(self, number: int) -> dict[str, list[tuple]]:
        """Return all that is known of an object, as `put_rows` takes it; masks stay packed."""
        return {table: self._rows(f"select * from {table} where {key} = ?", number) for table, key in OF_OBJECT.items()}

    def put_rows(self, rows: Mapping[str, list[tuple]]) -> None:
        """Put back what `rows_of` has returned of an object that was removed since."""
        with self.writing():
            for table, found in rows.items():
                for row in found:
                    self._write(f"insert or replace into {table} values({', '.join('?' * len(row))})", *row)
            for number in {row[0] for row in rows["objects"]}:
                self._set_dirty_from_first(number)

    def _set_dirty_from_first(self, number: int) -> None:
        """Mark all frames from an object's first mask on: without its mask none of them has all of its masks."""
        first = "(select min(position) from masks where object = ?)"
        self._write(f"update frames set dirty = 1 where position >= {first}", number)

    def entries(self, position: int | None = None, number: int | None = None) -> list[tuple[int, int, PromptEntry]]:
        """Return id, position and entry of each prompt, by position, then in the order in which they were given."""
        rows = self._rows(
            "select id, position, entry from entries where (?1 is null or position = ?1) "
            "and (?2 is null or object = ?2) order by position, id", position, number,
        )  # fmt: skip
        return [(key, at, _entry(json.loads(text))) for key, at, text in rows]

    def put_entry(self, position: int, entry: PromptEntry, key: int | None = None) -> int:
        """Add a prompt, or put one in the place of that with this id. Returns its id."""
        with self.writing():
            cursor = self._database.execute(
                "insert or replace into entries(id, position, object, entry) values(?, ?, ?, ?)",
                (key, position, entry.object, json.dumps(asdict(entry))),
            )
            return int(cursor.lastrowid or 0)

    def remove_entries(self, ids: Iterable[int]) -> None:
        with self.writing():
            self._database.executemany("delete from entries where id = ?", [(key,) for key in ids])

    def given(self, position: int, number: int) -> set[str]:
        """Return what files have said of an object on a frame, also what a person has replaced since."""
        rows = self._rows("select what from given where position = ? and object = ?", position, number)
        return {row[0] for row in rows}

    def put_given(self, position: int, number: int, what: str, instead_of: str = "") -> None:
        """Remember what a file has said. instead_of: what it stands in place of, as a pattern of LIKE"""
        with self.writing():
            where = "position = ? and object = ? and what like ?"
            self._write(f"delete from given where {where}", position, number, instead_of)
            self._write("insert or replace into given values(?, ?, ?)", position, number, what)

    # ---- masks

    def mask(self, position: int, number: int) -> StoredMask | None:
        return self.masks(position, number).get(number)

    def masks(self, position: int, number: int | None = None) -> dict[int, StoredMask]:
        """Return number -> mask of each object that has one on this frame."""
        rows = self._rows(
            "select object, runs, score, iou, state, prompted, stale, base from masks "
            "where position = ?1 and (?2 is null or object = ?2) order by object", position, number,
        )  # fmt: skip
        return {row[0]: self._stored(*row[1:]) for row in rows}

    def _stored(self, runs, score, iou, state, prompted, stale, base) -> StoredMask:
        size = self.size
        before = None if base is None else _decoded(base, size)
        return StoredMask(_decoded(runs, size), score, iou, state, bool(prompted), bool(stale), before)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every frame."""
        if self._size is None:
            height, width = self.facts["size"]
            self._size = height, width
        return self._size

    def fingerprint(self, position: int) -> int:
        """Return a number that changes with what is known of a frame."""
        rows = self._rows(
            "select object, runs, state, prompted, stale from masks where position = ? order by object", position
        )
        return zlib.crc32(repr(rows).encode())

    def put_mask(self, position: int, number: int, found: StoredMask) -> None:
        base = None if found.base is None else _encoded(found.base)
        with self.writing():
            self._write(
                "insert or replace into masks values(?, ?, ?, ?, ?, ?, ?, ?, ?)",
                position, number, _encoded(found.mask), float(found.score), float(found.iou), int(found.state),
                int(found.prompted), int(found.stale), base,
            )  # fmt: skip
            self.set_dirty([position])

    def remove_masks(self, number: int, first: int, end: int) -> None:
        """Remove the masks of an object in [first, end)."""
        with self.writing():
            where = "position >= ? and position < ?"
            self._write(f"delete from masks where object = ? and {where}", number, first, end)
            self._write(f"update frames set dirty = 1 where {where}", first, end)

    def set_stale(self, number: int, first: int, end: int) -> None:
        """Mark what was tracked of an object in [first, end) as in need of being tracked again."""
        with self.writing():
            where = "position >= ? and position < ?"
            self._write(f"update masks set stale = 1 where object = ? and not prompted and {where}", number, first, end)
            self._write(f"update frames set dirty = 1 where {where}", first, end)

    def fresh(self, position: int) -> set[int]:
        """Return the objects that have a mask on this frame which is not stale."""
        return {row[0] for row in self._rows("select object from masks where position = ? and not stale", position)}

    def positions(self, number: int) -> list[int]:
        """Return where an object has a mask."""
        return [row[0] for row in self._rows("select position from masks where object = ?", number)]

    def first_prompts(self) -> dict[int, int]:
        """Return number -> the first frame on which a person said what the object is."""
        return dict(self._rows("select object, min(position) from masks where prompted group by object"))

    def table(self) -> np.ndarray:
        """Return all masks without their pixels: rows of position, object, confidence, state, prompted, stale."""
        rows = self._rows("select position, object, score * iou, state, prompted, stale from masks order by position")
        return np.array(rows, np.float64).reshape(-1, 6)


def _encoded(mask: np.ndarray) -> bytes:
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]


def _decoded(runs: bytes, size: tuple[int, int]) -> np.ndarray:
    return coco_mask.decode({"size": list(size), "counts": runs}).astype(bool)


def _entry(row: dict[str, Any]) -> PromptEntry:
    """Make tuples of what JSON has as lists."""
    row |= {key: tuple(tuple(point) for point in row[key]) for key in ("points", "not_on")}
    return PromptEntry(**{**row, "box": None if row["box"] is None else tuple(row["box"])})
