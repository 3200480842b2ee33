"""One's own data: what of it is learnt from, and what is held out to see whether that helped."""

from __future__ import annotations

import dataclasses
import shlex
import zlib
from collections.abc import Sequence
from pathlib import Path

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.paths import expanded
from sam2s_model.recordings.layouts import LAYOUTS, recognise_layout
from sam2s_model.training.config import TrainConfig, override
from sam2s_model.training.data_config import SourceConfig
from sam2s_model.training.datasets import Still, TrainingRecording, open_source

SHARE = 5  # one clip of so many is held out, and of a single one a fourth of its frames
MOST_CLIPS = 8
MIN_FRAMES = 3  # with masks, to learn from and to be scored on; the first has the prompt, and DAVIS leaves out the last
LOOKS = 10  # evaluations of a run


def with_own_data(config: TrainConfig, folder: str | Path) -> tuple[TrainConfig, str]:
    """Return a run that learns from a folder of recordings with masks, as far as they are not held out, and a sentence.

    The folder takes the place of the first of `data.sources` that is one of files with masks, of which all else stays;
    its layout is recognised. The run evaluates what is held out before its first step, then ten times, and keeps the
    best. Of several clips some are held out, by their names, of one the last fourth of its frames. Where
    `evaluation.sources` are given, nothing is, nor for class prompts, of which a run makes no evaluations.
    Raises SourceError for a folder that cannot be read or has no masks, ConfigError for classes without a row in
    `data.classes`, for masks without an object, and where too little is left to hold out.
    """
    path = expanded(folder)
    given = next((own for own in config.data.sources if own.kind in LAYOUTS), None)
    kind = (recognise_layout(path) if path.is_dir() else None) or "folder"
    source = dataclasses.replace(given or SourceConfig(), kind=kind, path=str(path))
    recordings = _with_objects(source, config)
    options = config.evaluation
    if config.class_prompts.tokens:
        said = f"{path}: nothing is held out, a run of class prompts has no J&F; `sam2s prototypes score` scores them"
    elif options.sources:
        said = f"{path}: nothing is held out, evaluation.sources is given"
    else:
        source, held, said = _held_out(source, recordings, options.frames)
        every = options.every or -(-config.steps // LOOKS)
        options = dataclasses.replace(options, sources=(held,), every=every, before=True, best=True)
    others = config.data.sources
    sources = tuple(source if own is given else own for own in others) if given else (source, *others)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, sources=sources), evaluation=options), said


def _with_objects(source: SourceConfig, config: TrainConfig) -> list[TrainingRecording]:
    """Return the recordings whose masks show an object. Raises SourceError and ConfigError."""
    found = [r for r in open_source(source, config.data.classes) if not isinstance(r, Still)]
    with_masks = [r for r in found if r.has_masks]
    if not with_masks:
        raise SourceError(
            f"{source.path} has no masks: expected masks/ beside frames/, as `sam2s annotate` writes them where all "
            "objects of a frame are tracked"
        )
    shown = [r for r in with_masks if r.showing(0.0)]
    if not shown:
        frames = sum(len(r.annotated) for r in with_masks)
        raise ConfigError(f"no mask of {source.path} shows an object, on {frames} frames: expected one on at least one")
    _check_classes(source, shown, config.data.classes)
    return shown


def _check_classes(source: SourceConfig, recordings: Sequence[TrainingRecording], classes: tuple[str, ...]) -> None:
    """Raise ConfigError for names of classes that have no row: their objects would be learnt as of no class."""
    if source.label_set:  # which says the classes in place of the recordings
        return
    named = dict.fromkeys(name for r in recordings for name in r.recording.classes.values())
    unknown = [name for name in named if name not in classes]
    if unknown and not source.class_name:
        wanted = shlex.quote(override("data.classes", [*classes, *unknown]))
        raise ConfigError(
            f"{source.path} has objects of the class {', '.join(unknown)}, and data.classes is {', '.join(classes)}: "
            f"expected all of them, as by --set {wanted}"
        )


def _held_out(
    source: SourceConfig, recordings: Sequence[TrainingRecording], most: int
) -> tuple[SourceConfig, SourceConfig, str]:
    """Return what is learnt from, what is held out, and a sentence. most: frames of a recording that are evaluated"""
    if len(recordings) == 1:
        return _stretch(source, recordings[0], most)
    names = _clips(recordings, most)
    if not names:
        longest = max(len(r.annotated) for r in recordings)
        raise ConfigError(
            f"no recording of {source.path} can be held out, the longest has {longest} frames with masks: expected "
            f"one with at least {MIN_FRAMES} from the first that shows an object, among its first {most} frames, which "
            "are evaluated (evaluation.frames)"
        )
    learnt = dataclasses.replace(source, without=(*source.without, *names))
    held = dataclasses.replace(source, only=tuple(names))
    return learnt, held, f"held out: {', '.join(names)}, of {len(recordings)} clips"


def _clips(recordings: Sequence[TrainingRecording], most: int) -> list[str]:
    """Choose clips by a sum over their names, so that others which are added later change little.

    The last clip with an object of some class is not held out, unless there is no other to hold out.
    """
    wanted = min(MOST_CLIPS, max(1, len(recordings) // SHARE))
    able = sorted((r for r in recordings if _scored(r, r.annotated, most)), key=lambda r: zlib.crc32(r.name.encode()))
    held: list[str] = []
    for recording in able:
        left = [r for r in recordings if r.name not in held and r is not recording]
        if _classes(recording) <= set().union(*map(_classes, left)):
            held.append(recording.name)
        if len(held) == wanted:
            return held
    return held or [r.name for r in able[:1]]


def _classes(recording: TrainingRecording) -> set[str]:
    return set(recording.recording.classes.values())


def _stretch(source: SourceConfig, recording: TrainingRecording, most: int) -> tuple[SourceConfig, SourceConfig, str]:
    """Hold out a fourth of the frames with masks of one clip: the last ones, or, where they show little, the first."""
    frames = recording.annotated
    count = max(MIN_FRAMES, len(frames) // 4)
    if len(frames) < 2 * MIN_FRAMES:
        raise ConfigError(
            f"{source.path} has {len(frames)} frames with masks: expected at least {2 * MIN_FRAMES}, or several "
            f"recordings: {MIN_FRAMES} to learn from, and {MIN_FRAMES} held out to see whether that helped"
        )
    one = dataclasses.replace(source, only=(recording.name,))
    first, end = source.begin, source.begin + len(recording)
    for last in (True, False):
        split = len(frames) - count if last else count
        early, late = frames[:split], frames[split:]
        held, learnt = (late, early) if last else (early, late)
        evaluated = late[0] + most if last else most
        if _scored(recording, held, evaluated) and _shown(recording, learnt):
            cut = first + late[0]
            before, after = dataclasses.replace(one, end=cut), dataclasses.replace(one, begin=cut)
            begin, end = (cut, end) if last else (first, cut)
            said = (
                f"held out: frames {begin} to {end - 1} of {recording.name}, the only clip: how it does on others, "
                "another clip would say"
            )
            return (before, after, said) if last else (after, before, said)
    raise ConfigError(
        f"{source.path} shows objects on {len(_shown(recording, frames))} of {len(frames)} frames with masks: expected "
        f"some both among the {count} held out, the last or the first, of which {most} are evaluated "
        "(evaluation.frames), and among the others"
    )


def _shown(recording: TrainingRecording, frames: Sequence[int]) -> list[int]:
    found = set(recording.showing(0.0))
    return [frame for frame in frames if frame in found]


def _scored(recording: TrainingRecording, frames: Sequence[int], end: int) -> bool:
    """Whether there is a frame to be scored before `end`: after the first with an object, not the last with masks."""
    evaluated = [frame for frame in frames if frame < end]
    first = next(iter(_shown(recording, evaluated)), None)
    return first is not None and sum(frame >= first for frame in evaluated) >= MIN_FRAMES
