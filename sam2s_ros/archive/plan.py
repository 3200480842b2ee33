"""Which recordings an archive has, what each is called, and which prompts it has."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.paths import absolute, expanded
from sam2s_model.prompting.prompt_script import prompt_bytes
from sam2s_model.recordings.file_stamp import recording_stamp, source_stamp
from sam2s_model.recordings.layouts import open_layout, recognise_layout
from sam2s_model.recordings.open import recording_name
from sam2s_model.recordings.stream_spec import stream_spec, without_password
from sam2s_model.similar import meant
from sam2s_ros.archive.task import ArchiveTask
from sam2s_ros.commands.options import TrackOptions

if TYPE_CHECKING:  # loads OpenCV
    from sam2s_model.recordings.files import FileRecording

RECORDINGS = "recordings"
BESIDE, INSIDE = ".prompts.yaml", "prompts.yaml"  # clip.mp4: clip.prompts.yaml; of a folder: prompts.yaml in it
MERGE = "tag:yaml.org,2002:merge"
CONSTRUCTED = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str"))
FRAMES = ("frames", "left_frames")  # in the folder of a recording of a data set


def plan_archive(sources: Sequence[str], options: TrackOptions) -> list[ArchiveTask]:
    """Return a task for each recording, in the order of the sources.

    options: of all; `output` is the archive's, `prompts.prompts` a folder of NAME.yaml, a table of `recordings:`, or
        None for the file beside each recording
    Raises ConfigError or SourceError for what can be said before anything is tracked.
    """
    given = options.prompts
    if given.box or given.point or given.points:
        numbers = [source for source in sources if source.lstrip("-").isdecimal() and not Path(source).exists()]
        if numbers:  # --box 120 80 340 260: each option takes one word, so that the others are taken for sources
            raise ConfigError(
                f"there is no source {numbers[0]}: coordinates are one word, --box x0,y0,x1,y1 or --point x,y"
            )
        raise ConfigError(
            "--box, --point and --points are of one recording: give --prompts or --prototypes, or write "
            f"NAME{BESIDE} beside each recording"
        )
    if options.objects or options.save_objects:
        raise ConfigError(
            "--objects and --save-objects are of one recording: give one source, without --jobs and --ray"
        )
    found = [own for source in sources for own in _found_in(source, options.mask_values, options.output)]
    specs, by_spec = [own.spec for own in found], {own.spec: own for own in found}
    keys = _keys(specs)
    files = _prompt_files(keys, specs, given.prompts) if given.prompts else {}
    if given.prompts and not files:
        raise ConfigError(f"--prompts {given.prompts} is of none of the recordings {_some(list(keys.values()))}")
    tasks = []
    for spec in specs:
        prompts = files.get(spec)
        if not given.prompts and not options.sought.prototypes:
            prompts = _beside(by_spec[spec])
        prompts = prompts.resolve() if prompts else None
        # So that a mistake is said before hours of work, and a change during them is noticed.
        digest = hashlib.sha256(prompt_bytes(prompts)).hexdigest() if prompts else ""
        own = replace(
            options, source=absolute(spec), output=options.output / RECORDINGS / keys[spec],
            prompts=replace(given, prompts=prompts),
        )  # fmt: skip
        tasks.append(ArchiveTask(keys[spec], own, tuple(by_spec[spec].stamp), digest))
    return tasks


@dataclass(frozen=True)
class FoundRecording:
    """spec: to open it with; stamp: of its files; folder: that its frames/ is in, of one of a data set"""

    spec: str
    stamp: list[int]
    folder: Path | None = None

    @classmethod
    def of(cls, spec: str, recording: FileRecording) -> FoundRecording:
        """Make it of a data set's recording. Where its images are in no frames/, others may share their folder."""
        frames = recording.images[0].parent
        return cls(spec, recording_stamp(recording), frames.parent if frames.name in FRAMES else None)


def _found_in(source: str, mask_values: str, output: Path) -> list[FoundRecording]:
    """Return the recordings of a source.

    All of a data set's, FOLDER#NAME, or the source itself. output: of the archive, which may be inside
    """
    stream = stream_spec(source)
    if stream and not stream.repeatable:
        raise ConfigError(
            f"{stream.shown} is a stream, which is tracked alone: give it without other sources and --jobs"
        )
    if stream:
        return [FoundRecording(source, [])]
    path = expanded(source)
    folder, _, only = source.rpartition("#")
    if folder and not path.exists() and expanded(folder).is_dir():
        try:
            own = [
                recording for recording in open_layout(expanded(folder), "auto", mask_values) if recording.name == only
            ]
        except SourceError:  # said when the recording fails
            own = []
        return [FoundRecording.of(source, own[0]) if own else FoundRecording(source, [])]
    if not path.is_dir() or (path / "frames").is_dir() or not recognise_layout(path):
        return [FoundRecording(source, source_stamp(source, output))]
    found = open_layout(path, "auto", mask_values)
    if len(found) == 1:
        return [FoundRecording.of(source, found[0])]
    return [FoundRecording.of(f"{source}#{recording.name}", recording) for recording in found]


def _keys(specs: Sequence[str]) -> dict[str, str]:
    """Give each recording a name of its own; where two have one name, with that of the folder that they are in.

    Raises ConfigError for a recording that is given twice.
    """
    names = {spec: _name(spec) for spec in specs}
    if len(names) < len(specs):
        twice = next(spec for spec, count in Counter(specs).items() if count > 1)
        raise ConfigError(f"{without_password(twice)} is given twice")
    counts = Counter(names.values())
    keys = {s: name if counts[name] == 1 else f"{_folder(s)}_{name}" for s, name in names.items()}
    same = [key for key, count in Counter(keys.values()).items() if count > 1]
    if same:
        where = [without_password(spec) for spec, key in keys.items() if key == same[0]]
        raise ConfigError(
            f"{_some(where)} have one name, {same[0]}: rename one, or track them into two --output folders"
        )
    return keys


def _name(spec: str) -> str:
    folder, _, name = spec.rpartition("#")
    return (
        f"{recording_name(folder)}_{recording_name(name)}"
        if folder and expanded(folder).is_dir()
        else (recording_name(spec))
    )


def _folder(spec: str) -> str:
    return recording_name(Path(absolute(spec.rpartition("#")[0] or spec)).parent.name)


class _TextLoader(yaml.SafeLoader):
    """Reads every scalar as the text that is written. Merge keys, <<, are followed, which BaseLoader does not do."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag == MERGE]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # a tag in the file, as !!int, is refused
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag in (None, *CONSTRUCTED)
    }


def _prompt_files(keys: Mapping[str, str], specs: Sequence[str], prompts: Path) -> dict[str, Path]:
    """Return the file of each recording that has one. Raises ConfigError."""
    path = expanded(prompts)
    if path.is_dir():
        return {spec: file for spec in specs if (file := path / f"{keys[spec]}.yaml").is_file()}
    try:
        # Names are what is written: 01 is no number, and neither is 010, which YAML takes for 8.
        content = yaml.load(path.read_text(), Loader=_TextLoader)  # noqa: S506  a safe one
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{prompts} cannot be read as prompts ({error})") from error
    table = content.get(RECORDINGS) if isinstance(content, Mapping) else None
    if not table and len(specs) == 1:
        return {specs[0]: path}
    if not isinstance(table, Mapping) or not all(isinstance(file, str) and file for file in table.values()):
        raise ConfigError(
            f"{prompts} is of one recording, and there are {len(specs)}: expected a folder of NAME.yaml, or a file "
            f"with `{RECORDINGS}:` and NAME: FILE of each"
        )
    found: dict[str, Path] = {}
    by_name = {key: spec for spec, key in keys.items()} | {absolute(spec): spec for spec in specs}
    for name, file in table.items():
        spec = by_name.get(name) or by_name.get(absolute(str(path.parent / expanded(name))))
        if spec is None:
            raise ConfigError(
                f"{prompts} has prompts of {without_password(name)!r}, which is none of the recordings "
                f"{_some(list(keys.values()))}{meant(name, keys.values())}"
            )
        found[spec] = path.parent / expanded(file)
    return found


def _beside(found: FoundRecording) -> Path | None:
    path = expanded(found.spec)
    try:
        beside = path / INSIDE if path.is_dir() else path.with_name(path.stem + BESIDE)
        own = [found.folder / INSIDE] if found.folder else []
        return next((file for file in (beside, *own) if file.is_file()), None)
    except (OSError, ValueError):  # a "scene:" may be no name of a file
        return None


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:8], *[f"and {len(names) - 8} more"] * (len(names) > 8)])
