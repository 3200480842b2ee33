"""Names for results: what an earlier run has left there is not written over unless that is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeVar

from sam2s_model.errors import ConfigError
from sam2s_model.paths import absolute, expanded, writing

RECORDED = (
    "overlay.mp4",
    "overlay_*.mp4",
    "masks.mcap",
    "frames.jsonl",
    "tracks.csv",
    "recorder.json",
)  # by the recorder
MAX_NAMED = 3
Result = TypeVar("Result")


class FolderTaken(ConfigError):
    """A folder has results of another run, which stay."""


def present(folder: Path, names: Sequence[str]) -> list[Path]:
    """Files of a folder with these names. names: patterns of `Path.glob`"""
    return [path for name in names for path in sorted(folder.glob(name))] if folder.is_dir() else []


def claim(
    folder: Path,
    names: Sequence[str],
    *,
    overwrite: bool,
    inputs: Iterable[str | Path] = (),
    files: Iterable[Path] = (),
    mark: tuple[str, Mapping[str, Any]] | None = None,
) -> None:
    """Make a folder for results with these names; what it has of them is removed with `overwrite`.

    inputs: what is read, as it was given: paths, data sets, streams and scenes, "" is none; a folder stands for all in
    it
    files: that are read, as `Recording.files` of a source that is opened: results may lie in the folder of their source
    mark: name, one of `names`, and content of a JSON file that is made at once: of several processes that claim the
    folder at a time, one makes it
    Raises FolderTaken when it has some and `overwrite` is false, or another process was faster. Raises ConfigError when
    one that would be removed is read, before any is removed, or when it cannot be written to.
    """
    with writing(folder):
        found = present(folder, names)
        if found and not overwrite:
            shown = ", ".join(str(path.relative_to(folder)) for path in found[:MAX_NAMED])
            more = ", ..." if len(found) > MAX_NAMED else ""
            raise FolderTaken(f"{folder} has results already ({shown}{more}): give another --output, or --overwrite")
        for given in inputs if found else ():
            _check_not_read(given, folder, found)
        read = {way for file in files for way in _ways_to(file)} if found else set()
        for path in found:
            if _ways_to(path) & read:
                raise ConfigError(f"--overwrite would remove {path}, which is read: give another --output")
        for path in found:
            path.unlink()
        for inner in sorted({p for path in found for p in path.parents if folder in p.parents}, reverse=True):
            if not any(inner.iterdir()):
                inner.rmdir()
        folder.mkdir(parents=True, exist_ok=True)
        if mark is not None:
            _make_mark(folder, *mark)


def _make_mark(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    try:
        with (folder / name).open("x", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
    except FileExistsError as error:
        raise FolderTaken(f"another process writes its results to {folder}: give another --output") from error


@contextmanager
def unclaimed_if_alone(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Remove the mark of `claim` where what is done inside fails while nothing else with these names is there."""
    try:
        yield
    except BaseException:
        if len(mark := present(folder, names)) == 1:
            mark[0].unlink()
        raise


def _check_not_read(given: str | Path, folder: Path, found: Sequence[Path]) -> None:
    """Raise ConfigError when an input is one of these files of a folder, or has one in it.

    An input that has the whole folder somewhere below it, as `.` has, is not read there.
    """
    spec = str(given)
    if not spec or absolute(spec) == spec and not spec.startswith("/"):
        return  # a stream or a scene
    data_set, _, recording = spec.rpartition("#")
    paths = {expanded(spec).resolve()} | ({(expanded(data_set) / recording).resolve()} if data_set else set())
    for path in paths - set(folder.resolve().parents):
        for file in found:
            if path in _ways_to(file) or path in (file.parent.resolve() / file.name).parents:
                raise ConfigError(f"--overwrite would remove {file}, which {spec} is read from: give another --output")


def _ways_to(file: Path) -> set[Path]:
    """Return where a file is, and where what it may be a link to is."""
    return {file.parent.resolve() / file.name, file.resolve()}


def check_masks_are_ours(folder: Path, summary: str, command: str) -> None:
    """Raise ConfigError where masks/ has PNG files, and `summary` does not say that they are of this command.

    Ground truth of a data set is there, too, when its folder is given by mistake: not even --overwrite replaces that.
    """
    with writing(folder):
        if not present(folder, ("masks/*.png",)):
            return
    try:
        ours = json.loads((folder / summary).read_text()).get("command") == command
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise ConfigError(f"{folder / 'masks'} has PNG files that are not of `sam2s {command}`: give another --output")


def free_folder(folder: Path, names: Sequence[str]) -> Path:
    """Return the first of `folder`, folder_2, folder_3, ... that has nothing of these names."""
    others = (folder.with_name(f"{folder.name}_{number}") for number in count(2))
    return folder if not present(folder, names) else next(other for other in others if not present(other, names))


def free_file(path: Path) -> Path:
    """Return the first of `path`, and of its name with _2, _3, ... before the suffix, that is not there."""
    others = (path.with_stem(f"{path.stem}_{number}") for number in count(2))
    return next(one for one in chain([path], others) if not one.exists())


def chosen_folder(
    given: Path | None, default: str, names: Sequence[str], *, overwrite: bool, say: Callable[[str], Any]
) -> Path:
    """Return the folder that was given, or the default one; where that has results, another, which is said."""
    if given is not None or overwrite:
        return given or Path(default)
    free = free_folder(Path(default), names)
    if free != Path(default):
        say(f"{default} has results of an earlier run, which stay: these go to {free}")
    return free


def in_chosen_folder(
    given: Path | None,
    default: str,
    names: Sequence[str],
    run: Callable[[Path], Result],
    *,
    overwrite: bool,
    say: Callable[[str], Any],
) -> tuple[Path, Result]:
    """Run something in its `chosen_folder`; in the next one where a process that began meanwhile has claimed that.

    run: claims the folder that it is given before it does what cannot be done again
    Returns the folder and what `run` returns. Raises what it raises.
    """
    before: Path | None = None
    while True:
        folder = chosen_folder(given, default, names, overwrite=overwrite, say=say)
        try:
            return folder, run(folder)
        except FolderTaken:
            if given is not None or overwrite or folder == before:
                raise
            before = folder
