"""Paths as users write them, and files that are written at them."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from sam2s_model.errors import CheckpointError, ConfigError, WriteError


def user_cache() -> Path:
    """Return the folder of what can be made or fetched anew: $XDG_CACHE_HOME/sam2s, else ~/.cache/sam2s."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "sam2s"


def expanded(path: str | Path) -> Path:
    """Expand ~ and ~user as a shell would, which does not do it after an equals sign, nor in a YAML file.

    Raises ConfigError for a user that is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: {error}") from error


def absolute(spec: str) -> str:
    """Make a source's path the same from every folder; "", "scene:?..." and streams stay as they are.

    Raises ConfigError.
    """
    no_path = not spec or spec == "-" or re.match(r"scene:|[a-zA-Z][\w+.-]*://|/dev/|\d+(\?|$)", spec)
    return spec if no_path else str(expanded(spec).resolve())


def with_name(path: Path) -> Path:
    """Make a path absolute, so that its last part is the name of a folder, also of "." and "..".

    A link stays one, with its own name, but where ".." comes after it.
    """
    return path.resolve() if ".." in path.parts else path.absolute()


def expanded_arguments(arguments: list[str]) -> list[str]:
    """Those of a command line, with ~ expanded where it begins one, or what follows the first = of an option."""

    def expand(text: str) -> str:
        begin = re.match(r"--[\w-]+=", text)
        option, value = (begin[0], text[begin.end() :]) if begin else ("", text)
        return option + (str(expanded(value)) if re.match(r"~([A-Za-z_][\w-]*)?(/|$)", value) else value)

    return [expand(text) for text in arguments]


def expanded_table(value: Any) -> Any:
    """Expand ~/ at the beginning of every text in what a YAML file holds."""
    if isinstance(value, dict):
        return {key: expanded_table(own) for key, own in value.items()}
    if isinstance(value, list):
        return [expanded_table(own) for own in value]
    return str(expanded(value)) if isinstance(value, str) and value.startswith("~/") else value


def readable(text: str) -> str:
    r"""Write bytes that are no UTF-8, of the name of a file, as \xe4, since no table and no terminal takes them."""
    try:
        return os.fsencode(text).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of characters, as JSON may have them
        return text.encode("utf-8", "backslashreplace").decode()


def part_of(path: Path) -> Path:
    """Return where a thread writes what is to become a file, beside it; others may write the same file meanwhile."""
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident():x}.part")


def write_whole(path: Path, text: str) -> None:
    """Replace a file: it has the old content or all of the new one, also when the machine goes down. Raises OSError.

    A link stays one: what it leads to is replaced. To what is no file, as /dev/stdout, it is written as it is.
    """
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as device:
            device.write(text)
        return
    path = Path(os.path.realpath(path))
    part = part_of(path)
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path | None = None, option: str = "--output") -> Iterator[None]:
    """Raise WriteError in place of the OSError of what is done inside.

    path: that it names; None: the error's own; option: the one that says where to write
    """
    try:
        yield
    except OSError as error:
        where = path or error.filename
        raise WriteError(f"{where} cannot be written to ({error.strerror}): give another {option}") from error


@contextmanager
def reading_checkpoint(path: str | Path) -> Iterator[None]:
    """Raise CheckpointError in place of the OSError of what is done inside, as of a name that is too long.

    path: as it was given
    """
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} cannot be read: {error.strerror or error}") from error


def write_result(path: Path, text: str) -> None:
    """Replace a file as `write_whole` does. Raises ConfigError where it cannot be written."""
    with writing(path):
        write_whole(path, text)


def check_free(path: Path, *, overwrite: bool, option: str = "--output") -> None:
    """Raise ConfigError when there is a file with something in it, unless it may be written over. option: gave it"""
    try:
        size = path.stat().st_size if path.is_file() else 0
    except OSError as error:
        raise ConfigError(f"{path} cannot be looked at ({error.strerror}): give another {option}") from error
    if size and not overwrite:
        raise ConfigError(f"{path} exists already ({size} bytes): give another name, or --overwrite")


@contextmanager
def claimed_file(path: Path | None, *, overwrite: bool, option: str = "--output") -> Iterator[None]:
    """Know that a result can be written before the work, which takes hours, and not after it. None: there is no file

    A file that is there is left as it is, until what is done inside replaces it, see `write_whole`. Where there is none
    an empty one is made, and removed again when the work fails, or writes nothing. option: the one that gave the path
    Raises ConfigError as `check_free` does, or when it cannot be written.
    """
    if path is None:
        yield
        return
    check_free(path, overwrite=overwrite, option=option)
    there, target = path.exists(), Path(os.path.realpath(path))  # of a link what it leads to, see `write_whole`
    with writing(path, option):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
        if path.is_file():
            TemporaryFile(dir=target.parent).close()  # beside which the result is written first
    try:
        yield
    finally:
        if not there and target.is_file() and not target.stat().st_size:
            target.unlink()
