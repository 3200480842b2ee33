"""The folder of a recording: a free one, so that none is lost; what a recorder that was killed has left is mended."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from sam2s_model.errors import ConfigError
from sam2s_ros.processes.results import RECORDED, present
from sam2s_ros.recorder.whole_mcap import is_locked, is_whole, mend

BAG, LINES, TABLE = "masks.mcap", "frames.jsonl", "tracks.csv"


def open_folder(output: Path, *, overwrite: bool, say: Callable[[str], Any]) -> tuple[Path, TextIO]:
    """Open a folder without a recording, and the file LINES in it: `output`, or output_2, output_3, ...

    overwrite: remove the recording that is in `output`
    say: told when it is another folder, and what was mended in those before it, one sentence at a time
    Raises ConfigError when the folder cannot be written to, or is being recorded into and is to be overwritten.
    """
    try:
        # "." and ".." have no name for others to be numbered by
        output = output.resolve() if ".." in output.parts else output.absolute()
        if overwrite:
            _remove(output)
        for number in count(1):
            folder = output if number == 1 else output.parent / f"{output.name}_{number}"
            if present(folder, RECORDED):
                _mend(folder / BAG, say)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lines = (folder / LINES).open("x", buffering=1)  # each line is in the file at once
            except FileExistsError:
                continue  # another recorder was faster
            if number > 1:
                say(f"{output} has a recording, which stays: this one goes to {folder} (overwrite is false)")
            return folder, lines
    except OSError as error:
        raise ConfigError(f"{output} cannot be written to ({error.strerror}): give another folder") from error
    raise AssertionError("count ends")


def _remove(folder: Path) -> None:
    found = present(folder, RECORDED)
    if any(path.name == BAG and is_locked(path) for path in found):
        raise ConfigError(f"{folder} is being recorded into by another process: give another folder")
    for path in found:
        path.unlink()


def _mend(bag: Path, say: Callable[[str], Any]) -> None:
    try:
        if bag.is_file() and not is_whole(bag):
            messages = mend(bag)
            if messages is not None:
                say(f"{bag} was cut, as when the power fails: it was mended, with {messages} messages")
    except OSError as error:
        say(f"{bag} was cut and cannot be mended ({error.strerror}): `mcap recover` does so too")
