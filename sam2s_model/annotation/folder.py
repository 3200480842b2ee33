"""The folder of an annotation: what is in it, and the files that are made of what is known.

frames/NAME.jpg  masks/NAME.png  classes.yaml    a data set as `sam2s train` and `sam2s eval` read it
prompts.yaml                                     what was said, as `sam2s annotate --apply` reads it
annotation.sqlite                                all of it; the files above are made of this one
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from sam2s_model.annotation.frames import read_image, take_frames
from sam2s_model.annotation.plan import to_track
from sam2s_model.annotation.store import AnnotationStore, StoredFrame, StoredMask
from sam2s_model.colours import UNKNOWN_CLASS, instance_colour
from sam2s_model.errors import ConfigError
from sam2s_model.files.file_locks import lock
from sam2s_model.paths import expanded, with_name, write_whole
from sam2s_model.prompting.prompt_script import PromptEntry, PromptScript
from sam2s_model.recordings.class_file import CLASS_FILE
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.recording import Recording
from sam2s_model.results.label_png import write_label_png
from sam2s_model.semantics import ClassLabel, LabelSet, rgb

DATABASE, PROMPTS, LOCK = "annotation.sqlite", "prompts.yaml", "annotation.lock"
FRAMES, MASKS, GIVEN = "frames", "masks", "prompt_masks"


@dataclass(frozen=True)
class AnnotatedObject:
    """number: in prompts.yaml, and its value in the masks; name, color: what people call it, "" for none"""

    number: int
    class_name: str
    name: str = ""
    color: str = ""


class AnnotationFolder:
    """One folder, open here alone. Its files agree with what is known when a call returns.

    recording: needed the first time alone; later it must be the one of before
    limit, say: as of `take_frames`
    on_frame: told how many are copied, and of how many, None where that is not known
    revision: counts changes
    count_recorded: returns how many frames the recording has, which may be more than were taken; None: not known
    recording_name: what it is called in its data set, by itself by its file or folder
    recording_path: of its file, or of the folder that its images are in
    Raises ConfigError for a folder of another recording, topic, size or label set, one with masks or prompts that are
    of no annotation, or one that is open elsewhere, SourceError for a recording without a readable frame.
    """

    def __init__(
        self,
        folder: Path,
        recording: Recording,
        label_set: LabelSet,
        *,
        limit: int = 0,
        on_frame: Callable[[int, int | None], Any] = lambda done, total: None,
        say: Callable[[str], Any] = lambda line: None,
    ):
        self.folder, self.label_set = folder, label_set
        self.count_recorded, self.recording_name = recording.count_frames, recording.name
        self.recording_path = _path_of(recording)
        self._lock = threading.RLock()
        self._held = 0  # calls of `at_once` that are under way
        self.revision = 0
        _check_free(folder)
        try:
            (folder / MASKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written to ({error.strerror}): give another --output") from error
        self._claim = _claimed(folder)
        try:
            self.store = AnnotationStore(folder / DATABASE)
            self._check_facts(recording)
            take_frames(recording, folder / FRAMES, self.store, limit, on_frame, say)
            self.frames: list[StoredFrame] = self.store.frames()
            self.size = self.store.size
            self.flush()
        except BaseException:
            self._claim.close()
            raise

    def _check_facts(self, recording: Recording) -> None:
        spec = recording.spec if recording.kind == "scene" else str(Path(recording.spec).resolve())
        height, width = recording.size
        facts = {"spec": spec, "topic": recording.topic, "label_set": self.label_set.name, "size": [height, width]}
        known = self.store.facts
        for key, value in facts.items():
            if known.get(key, value) != value:  # those of older annotations have no topic
                was, now = (f"{own[1]}x{own[0]}" if key == "size" else own for own in (known[key], value))
                raise ConfigError(
                    f"{self.folder} is an annotation whose {key} is {was}, not {now}: give another --output"
                )
        classes = [[label.id, label.name, list(label.color)] for label in self.label_set.classes]
        own_bits = recording.sample_bits if isinstance(recording, FileRecording) else 0  # frames of others become JPEG
        self._bits = max(own_bits, known.get("sample_bits", 0))
        more = {"classes": classes, "fps": recording.fps, "sample_bits": self._bits}
        self.store.put_facts({"format": 1, **facts, **more})

    def close(self) -> None:
        self.store.close()
        self._claim.close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Bring the files up to date once, after all that is done inside, which is on disk as ever."""
        with self._lock:
            self._held += 1
            try:
                yield
            finally:
                self._held -= 1
                self.flush()

    # ---- what there is

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def objects(self) -> dict[int, AnnotatedObject]:
        return {number: AnnotatedObject(number, *row) for number, row in self.store.objects().items()}

    def image(self, position: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises SourceError when the file is gone."""
        return read_image(self.folder / FRAMES / self.frames[position].file, self._bits)

    def masks(self, position: int) -> dict[int, StoredMask]:
        """Return number -> mask of each object that has one on this frame."""
        return self.store.masks(position)

    def labels(self, masks: Mapping[int, StoredMask]) -> np.ndarray:
        """Return the label image (H, W) uint8 of a frame. Where masks overlap, the one a person gave is in front."""
        out = np.zeros(self.size, np.uint8)
        for number, found in sorted(masks.items(), key=lambda item: (item[1].prompted, item[0])):
            out[found.mask] = number
        return out

    def colours(self) -> dict[int, tuple[int, int, int]]:
        """Return label -> RGB."""
        of_class = {label.name: label.color for label in self.label_set.classes}
        return {
            number: instance_colour(of_class.get(own.class_name, UNKNOWN_CLASS), number)
            for number, own in self.objects.items()
        }

    def to_track(self, end: int | None = None) -> dict[int, np.ndarray]:
        """Return number -> positions before `end` that an object is still to be tracked to; none: left out."""
        return to_track(self.store.table(), self.objects, len(self) if end is None else end)

    def has_said(self, entry: PromptEntry, position: int) -> bool:
        """Whether the same points and box were given for this object on a frame already; of masks see `has_mask`."""
        given = (own for _, _, own in self.store.entries(position, entry.object))
        said = [(own.points, own.not_on, own.box) for own in given if own.points or own.not_on or own.box]
        return (entry.points, entry.not_on, entry.box) in said

    def has_mask(self, number: int, position: int, mask: np.ndarray) -> bool:
        """Whether this mask, (H, W) bool, was given for this object on a frame already.

        Raises ConfigError for the file of one that was given and is gone.
        """
        given = [own for _, _, own in self.store.entries(position, number) if own.mask is not None]
        kept = (PromptScript([own], self.folder).prompt_of(number).mask for own in given)
        return any(own is not None and np.array_equal(own, mask) for own in kept)

    # ---- files

    def flush(self, positions: Sequence[int] | None = None) -> None:
        """Bring prompts.yaml, classes.yaml and the masks up to date. positions: of masks; None: all, and the rest"""
        with self._lock:
            if self._held:
                return
            try:
                self._flush(positions)
            except OSError as error:
                raise ConfigError(f"{self.folder} cannot be written to ({error.strerror or error})") from error

    def _flush(self, positions: Sequence[int] | None) -> None:
        objects, colours = self.objects, self.colours()
        dirty = self.store.dirty() if positions is None else positions
        first = self.store.first_prompts()
        for position in dirty:
            name = f"{self.frames[position].name}.png"
            begun = {number for number, at in first.items() if at <= position}
            if begun and begun <= self.store.fresh(position):  # only what is written is decoded
                self._write_labels(self.folder / MASKS, name, self.labels(self.masks(position)), colours)
            else:
                (self.folder / MASKS / name).unlink(missing_ok=True)
        self.store.set_dirty(dirty, False)
        if positions is not None:
            return
        entries = [entry for _, _, entry in self.store.entries()]
        if entries:
            PromptScript(entries).write(self.folder / PROMPTS)
            table = {own.number: own.class_name for own in objects.values()}
            write_whole(self.folder / CLASS_FILE, yaml.safe_dump(table))
        else:
            for name in (PROMPTS, CLASS_FILE):
                with suppress(FileNotFoundError):
                    (self.folder / name).unlink()

    def _write_labels(
        self, folder: Path, name: str, labels: np.ndarray, colours: dict[int, tuple[int, int, int]] | None = None
    ) -> None:
        """Write a palette PNG, whole or not at all."""
        folder.mkdir(exist_ok=True)
        path = folder / Path(name).name
        part = path.with_name(path.name + ".part")
        write_label_png(part, labels, colours or {1: (255, 255, 255)})
        os.replace(part, path)


def label_set_of(folder: Path) -> LabelSet | None:
    """Return the label set of the annotation in a folder, None where there is none. Raises ConfigError."""
    if not (folder / DATABASE).is_file():
        return None
    store = AnnotationStore(folder / DATABASE)
    try:
        facts = store.facts
    finally:
        store.close()
    if not facts.get("classes"):  # it was ended before it began
        return None
    return LabelSet(facts["label_set"], tuple(ClassLabel(number, name, rgb(c)) for number, name, c in facts["classes"]))


def _path_of(recording: Recording) -> Path:
    if isinstance(recording, FileRecording):
        return with_name(recording.images[0].parent)
    return Path(recording.name) if recording.kind == "scene" else with_name(expanded(recording.spec))


def _check_free(folder: Path) -> None:
    """Raise ConfigError for files that an annotation would replace or remove, in a folder that is none."""
    if (folder / DATABASE).exists():
        return
    masks = [path for path in sorted((folder / MASKS).glob("*")) if not path.name.startswith(".")]
    found = next((path for path in (*masks, folder / CLASS_FILE, folder / PROMPTS) if path.exists()), None)
    if found is not None:
        raise ConfigError(
            f"{folder} has {found.relative_to(folder)} but no {DATABASE}: it is of no annotation, and would be "
            "replaced; give another --output"
        )


def _claimed(folder: Path) -> IO[str]:
    """Hold a folder until the file that is returned is closed, or the process ends. Raises ConfigError."""
    file = (folder / LOCK).open("w")
    try:
        lock(file)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError):
            why = "is open in another sam2s annotate: close that, or"
        else:
            why = f"cannot be locked ({error.strerror}):"
        raise ConfigError(f"{folder} {why} give another --output") from error
    return file
