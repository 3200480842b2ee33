"""A teacher's answers for many views of images, on disk: the view itself, three levels of features, labels, masks.

The folder only grows at its end, entry by entry, so that a builder that was killed goes on, to the same bytes:

    store.json              what all entries share
    coarse.f16, middle.f16, fine.f16    the levels, (entries, C, h, w) float16, memory-mapped
    blobs.bin               of each entry a JPEG of the view, its label image as PNG, the teacher's masks as packed bits
    entries.jsonl           a line for each entry, written last: what it is, and where its blobs are

At a side of S px an entry has 2 * (C1 (S/16)^2 + C2 (S/8)^2 + C3 (S/4)^2) bytes of features, and about S * S / 2 of
blobs: SAM2's 256, 64 and 32 channels at 384 px are 1.18 MB, and about 0.07.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from sam2s_model.errors import ConfigError, SourceError, TrainingError
from sam2s_model.training.claim import claimed

FORMAT = "sam2s teacher store 1"
HEADER, ENTRIES, BLOBS = "store.json", "entries.jsonl", "blobs.bin"
LEVELS = ("coarse", "middle", "fine")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
SYNC_EVERY = 64  # entries, so that a power cut costs little


@dataclass(frozen=True)
class TaughtView:
    """One view of an image, as it is stored.

    image: (S, S, 3) uint8 RGB; labels: (S, S) uint8 as in `Clip`, None where nobody annotated the image
    classes: label -> name of its class, where it is known; masks: (K, side, side) bool, the teacher's own proposals
    levels: float16, (C, h, w) each, of what the teacher saw in the image
    """

    image: np.ndarray
    labels: np.ndarray | None
    classes: dict[int, str]
    masks: np.ndarray
    levels: tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Entry:
    """recording, frame, view: what it shows; two entries of one recording show the same things

    image, labels, masks: first byte and length of the blobs, length 0: there is none; sides: of the masks, K and side
    """

    recording: str
    frame: int
    view: int
    classes: dict[int, str]
    image: tuple[int, int]
    labels: tuple[int, int]
    masks: tuple[int, int]
    sides: tuple[int, int]


class StoreWriter:
    """Appends entries to a store, a new one or one that is not complete. Use it in a `with`.

    count: of its entries; views: how many it has of each (recording, frame)
    """

    def __init__(self, folder: str | Path, header: Mapping[str, Any]):
        """header: what the entries depend on, plain values, with "levels": three of [C, h, w]

        Raises ConfigError when the folder holds a store of another header, TrainingError when it cannot be written to,
        or another process is at it.
        """
        self.folder, self.count, self._counted = Path(folder), 0, False
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claim = claimed(self.folder)
            try:
                self._open(header)
            except BaseException:
                self._claim.close()
                raise

    def _open(self, header: Mapping[str, Any]) -> None:
        wanted: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **header}))
        path = self.folder / HEADER
        if path.exists():
            _same_header(path, _header(path), wanted)
        else:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(wanted, indent=1, sort_keys=True) + "\n")
            temporary.replace(path)
        self._shapes = [tuple(shape) for shape in wanted["levels"]]
        entries = _entries(self.folder)
        self.count, self.views = len(entries), Counter((e.recording, e.frame) for e in entries)
        self._counted = True
        self._end = max((sum(e.masks) for e in entries), default=0)
        shapes = zip(LEVELS, self._shapes, strict=True)
        lengths = {f"{name}.f16": 2 * int(np.prod(shape)) * self.count for name, shape in shapes}
        lengths |= {BLOBS: self._end, ENTRIES: _whole_lines(self.folder / ENTRIES)}
        self._files = {name: _open_at(self.folder / name, length) for name, length in lengths.items()}

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *problem) -> None:
        with self._claim, nullcontext() if kind is None else suppress(TrainingError), self._writing():
            try:
                self._sync()
            finally:
                for file in self._files.values():
                    with suppress(OSError):  # what was not written then is not written now
                        file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise TrainingError in place of the OSError of what is done inside."""
        try:
            yield
        except OSError as error:
            kept = f"; its {self.count} entries are kept, and the same command goes on" if self._counted else ""
            room = "; make room" if error.errno in NO_ROOM else ""
            raise TrainingError(f"{self.folder} cannot be written to: {error.strerror}{kept}{room}") from error

    def add(self, recording: str, frame: int, view: int, jpeg: bytes, taught: TaughtView) -> None:
        """Write one entry. jpeg: of `taught.image`, what was shown to the teacher. Raises TrainingError."""
        with self._writing():
            self._add(recording, frame, view, jpeg, taught)

    def _add(self, recording: str, frame: int, view: int, jpeg: bytes, taught: TaughtView) -> None:
        labels = b"" if taught.labels is None else encode(".png", taught.labels)
        masks = zlib.compress(np.packbits(taught.masks).tobytes(), 6) if len(taught.masks) else b""
        places = [self._write_blob(blob) for blob in (jpeg, labels, masks)]
        for name, level, shape in zip(LEVELS, taught.levels, self._shapes, strict=True):
            if level.shape != shape or level.dtype != np.float16:
                raise ConfigError(f"the {name} level is {level.shape} {level.dtype}: expected {shape} float16")
            self._files[f"{name}.f16"].write(np.ascontiguousarray(level).tobytes())
        entry = Entry(
            recording=recording,
            frame=frame,
            view=view,
            classes=taught.classes,
            image=places[0],
            labels=places[1],
            masks=places[2],
            sides=(len(taught.masks), taught.masks.shape[-1]),
        )
        self._flush(but=ENTRIES)
        self._files[ENTRIES].write((json.dumps(asdict(entry)) + "\n").encode())
        self._files[ENTRIES].flush()
        self.count += 1
        self.views[recording, frame] += 1
        if self.count % SYNC_EVERY == 0:
            self._sync()

    def _write_blob(self, blob: bytes) -> tuple[int, int]:
        """Append bytes; return their first place, and how many they are."""
        place = self._end, len(blob)
        self._files[BLOBS].write(blob)
        self._end += len(blob)
        return place

    def _flush(self, but: str = "") -> None:
        for name, file in self._files.items():
            if name != but:
                file.flush()

    def _sync(self) -> None:
        self._flush()
        for file in self._files.values():
            os.fsync(file.fileno())


class TeacherStore:
    """Reads a store, complete or still growing: the entries that were there when it was opened.

    header: see `StoreWriter`; entries: in the order in which they were written
    related: recording -> numbers of its entries
    """

    def __init__(self, folder: str | Path):
        """Open a store. Raises SourceError when it is not complete."""
        self.folder = Path(folder)
        self.header = _header(self.folder / HEADER)
        self.entries = _entries(self.folder)
        self.related: dict[str, list[int]] = {}
        for i, entry in enumerate(self.entries):
            self.related.setdefault(entry.recording, []).append(i)
        self._levels: list[np.ndarray] = []
        try:
            self._blobs = os.open(self.folder / BLOBS, os.O_RDONLY)
            for name, shape in zip(LEVELS, self.header["levels"], strict=True):
                path = self.folder / f"{name}.f16"
                if self.entries:
                    self._levels.append(np.memmap(path, np.float16, "r", shape=(len(self.entries), *shape)))
        except (OSError, ValueError, KeyError) as error:
            raise SourceError(f"{folder} is not a complete teacher's store ({error})") from error

    @staticmethod
    @lru_cache(maxsize=16)
    def load(folder: str | Path) -> TeacherStore:
        """Open a store as the constructor does, once in a process."""
        return TeacherStore(folder)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def size(self) -> int:
        """Side of the views, px."""
        return int(self.header["size"])

    def levels(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (C, h, w) float16 each, coarse, middle, fine."""
        coarse, middle, fine = (np.array(level[i]) for level in self._levels)
        return coarse, middle, fine

    def image(self, i: int) -> np.ndarray:
        """Return the view, (S, S, 3) uint8 RGB. Raises SourceError."""
        return decode_rgb(self._blob(i, self.entries[i].image))

    def labels(self, i: int) -> np.ndarray | None:
        """Return the labels, (S, S) uint8, or None. Raises SourceError."""
        place = self.entries[i].labels
        if not place[1]:
            return None
        labels = cv2.imdecode(np.frombuffer(self._blob(i, place), np.uint8), cv2.IMREAD_GRAYSCALE)
        if labels is None:
            raise SourceError(f"the labels of entry {i} of {self.folder} cannot be decoded")
        return labels

    def masks(self, i: int) -> np.ndarray:
        """Return the masks, (K, side, side) bool. Raises SourceError."""
        count, side = self.entries[i].sides
        if not count:
            return np.zeros((0, side, side), bool)
        try:
            packed = zlib.decompress(self._blob(i, self.entries[i].masks))
        except zlib.error as error:
            raise SourceError(f"the masks of entry {i} of {self.folder} cannot be decoded ({error})") from error
        return (
            np.unpackbits(np.frombuffer(packed, np.uint8), count=count * side * side)
            .reshape(count, side, side)
            .astype(bool)
        )

    def _blob(self, i: int, place: tuple[int, int]) -> bytes:
        first, length = place
        blob = os.pread(self._blobs, length, first)
        if len(blob) != length:
            raise SourceError(f"entry {i} of {self.folder} has {len(blob)} of {length} bytes")
        return blob


def encode(kind: str, image: np.ndarray, *options: int) -> bytes:
    """Return the bytes of an image file of a kind, such as ".png"."""
    return cv2.imencode(kind, image, list(options))[1].tobytes()


def decode_rgb(jpeg: bytes) -> np.ndarray:
    """Decode an image to (H, W, 3) uint8 RGB. Raises SourceError."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise SourceError(f"an image of {len(jpeg)} bytes in a store cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _header(path: Path) -> dict[str, Any]:
    try:
        header = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} is not the head of a teacher's store ({error})") from error
    if header.get("format") != FORMAT:
        raise SourceError(f"{path} has the format {header.get('format')!r}: expected {FORMAT!r}")
    return header


def _same_header(path: Path, before: dict, now: dict) -> None:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"{path} is of a store with {key} = {before.get(key)!r}, not {now.get(key)!r}: give another folder"
            )


def _entries(folder: Path) -> list[Entry]:
    """Read the complete ones."""
    path = folder / ENTRIES
    return [_entry(line) for line in path.read_bytes()[: _whole_lines(path)].splitlines()] if path.exists() else []


def _entry(line: bytes) -> Entry:
    row: dict[str, Any] = json.loads(line)
    places = {name: tuple(row[name]) for name in ("image", "labels", "masks", "sides")}
    return Entry(**{**row, **places, "classes": {int(label): name for label, name in row["classes"].items()}})


def _whole_lines(path: Path) -> int:
    """Count the bytes up to the end of the last line that is whole."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0


def _open_at(path: Path, length: int) -> BinaryIO:
    """Open a file to append to, cut to a length. Raises SourceError when it is shorter."""
    file = path.open("ab")
    if file.tell() < length:
        file.close()
        raise SourceError(
            f"{path} has {path.stat().st_size} bytes, {length} belong to entries that are written: begin anew"
        )
    file.truncate(length)
    return file
