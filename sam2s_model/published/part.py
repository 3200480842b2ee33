"""The part of a file that has arrived, and of which version of the file it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

from sam2s_model.errors import CheckpointError
from sam2s_model.files.file_locks import lock


class PartFile:
    """``NAME.part`` for a target ``NAME``, open and locked, with ``NAME.part.json``: {"url", "validator"}.

    validator: ETag or Last-Modified of the version that has arrived; "" if the server gave none: it cannot be resumed
    """

    def __init__(self, target: Path, file: BinaryIO):
        self.target = target
        self.path = Path(file.name)
        self.url = self.validator = ""
        self._file = file
        self._note = self.path.with_name(self.path.name + ".json")

    @classmethod
    def open(cls, target: Path) -> PartFile:
        """Open or begin the part of a file. Raises CheckpointError while another process does, OSError."""
        path = target.with_name(target.name + ".part")
        # Unbuffered: a full disk is noticed where it is written to. The part closes it.
        file = open(path, "ab", buffering=0)  # noqa: SIM115
        try:
            lock(file)
            if os.fstat(file.fileno()).st_ino != os.stat(path).st_ino:
                raise FileNotFoundError  # the other one has just finished
        except (BlockingIOError, FileNotFoundError):
            file.close()
            raise CheckpointError(f"{path} is being written by another download") from None
        return cls(target, file)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._file.closed and not self.size:
            self.remove()
        self._file.close()

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return os.fstat(self._file.fileno()).st_size

    def belongs_to(self, url: str) -> None:
        """Say where the file comes from. What came from elsewhere, or is not known to be resumable, is dropped."""
        try:
            note = json.loads(self._note.read_text())
        except (OSError, ValueError):
            note = {}
        kept = isinstance(note, dict) and note.get("url") == url and isinstance(note.get("validator"), str)
        self.url, self.validator = url, note["validator"] if kept else ""
        if not self.validator:
            self.restart("")

    def restart(self, validator: str) -> None:
        """Drop what has arrived: from now on, the version with this validator arrives."""
        self._file.truncate(0)
        self.validator = validator
        self._note.write_text(json.dumps({"url": self.url, "validator": validator}))

    def write(self, block: bytes) -> None:
        """Append. Raises OSError."""
        view = memoryview(block)
        while view:
            view = view[self._file.write(view) :]

    def finish(self, path: Path) -> Path:
        """Give the file its name, over one that is there."""
        os.fsync(self._file.fileno())
        os.replace(self.path, path)
        self._note.unlink(missing_ok=True)
        self._file.close()
        return path

    def remove(self) -> None:
        """Delete what has arrived."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._file.close()
