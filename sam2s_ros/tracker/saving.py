"""A tracker whose prompts are kept in a file, so that a process that takes its place can go on with its objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import Tracks
from sam2s_ros.processes.log import Logger
from sam2s_ros.tracker.contract import DiscoveringTracker, PromptAnswer, TrackerLike
from sam2s_ros.tracker.prompt_file import PromptFile, PromptSet

if TYPE_CHECKING:  # loads torch
    from sam2s_model.discovery.discover import Proposal
    from sam2s_model.discovery.finder import Discovery
    from sam2s_model.discovery.rediscovery import Rediscovered
    from sam2s_model.network.model import Sam2Model
    from sam2s_model.recall.memories import SavedObjects


class SavingTracker:
    """Wraps a tracker; a file has the prompts of the objects that are tracked.

    tracker: warmed up; file: where the prompts are kept
    kept: prompts of each object that the file has, as many as the tracker remembers: the first and the newest
    saved: prompts to begin with: they are applied to the first image, in the order they were given
    max_age: s since the newest of them was given, beyond which none is applied, by the clock `now`; 0: no limit
    log: told what was restored, or why not
    unsaved: why the file does not have the prompts, "" when it has
    """

    def __init__(
        self,
        tracker: TrackerLike,
        file: PromptFile,
        *,
        kept: int,
        saved: PromptSet | None,
        log: Logger,
        max_age: float = 0.0,
        now: Callable[[], float] = time.time,
    ):
        self.tracker = tracker
        self.unsaved = ""
        self._file, self._kept, self._saved, self._log = file, kept, saved, log
        self._max_age, self._now = max_age, now
        self._given: dict[int, list[Prompt]] = {}
        self._given_at = 0.0  # s, of `now`, when the newest of them came
        self._by_person: frozenset[int] = frozenset()  # those of them whose class a person has given
        self._began = False  # whether the prompts in the file are of this tracker, also where they were removed since

    # What changes the objects

    def step(self, stamp: int, image: np.ndarray, following: np.ndarray | None = None) -> Tracks:
        tracks = self.tracker.step(stamp, image, following)
        if self._saved is None:
            return tracks
        saved, self._saved = self._saved, None
        self._restore(saved, tracks.size)
        return self.tracker.newest or tracks

    def prompt(self, stamp: int, prompts: Sequence[Prompt], *, learn: bool = True) -> PromptAnswer:
        result = self.tracker.prompt(stamp, prompts, learn=learn)
        if _note(self._given, result, self._kept):
            self._given_at = self._now()
        self._by_person = self._by_person.difference(result.object_ids).union(result.by_person)
        self._save(result.tracks.size)
        return result

    def remove(self, object_ids: Sequence[int]) -> Tracks | None:
        tracks = self.tracker.remove(object_ids)
        self._given = {i: given for i, given in self._given.items() if i in self.tracker.object_ids}
        if tracks is not None:
            self._save(tracks.size)
        return tracks

    def reset(self) -> None:
        newest = self.tracker.newest
        self.tracker.reset()
        self._saved = None
        if self._given and newest is not None:
            self._given = {}
            self._save(newest.size)

    def _save(self, size: tuple[int, int]) -> None:
        """Write what was given, and the next id, which alone is written to a file of before as long as nothing was."""
        self._began = self._began or bool(self._given)
        by_person = self._by_person.intersection(self._given)
        own = PromptSet(size, self._given, self.tracker.next_id, self._given_at, by_person)
        try:
            if not self._began and (held := self._file.read()) is not None:
                own = replace(held, next_id=max(own.next_id, held.next_id))
            self._file.write(own)
        except (OSError, ConfigError) as error:
            self.unsaved = f"the prompts were not saved to {self._file.path}: {error}"
        else:
            self.unsaved = ""

    def _restore(self, saved: PromptSet, size: tuple[int, int]) -> None:
        """Apply the first prompts of all objects, then the second ones, and so on; all, or none.

        They begin under new ids: nobody has seen yet that what is prompted there is what had the old one. The file is
        written when all are there again: until then, and where they are not, it keeps what it has.
        """
        ids: dict[int, int] = {}
        given: dict[int, list[Prompt]] = {}
        age = self._now() - saved.given
        try:
            if saved.size != size:
                (height, width), (height_now, width_now) = saved.size, size
                raise ConfigError(f"they are of images of {width}x{height}, this one is {width_now}x{height_now}")
            if saved.prompts and self._max_age and not abs(age) <= self._max_age:
                when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s later than the system's clock says it is"
                raise ConfigError(
                    f"the newest prompt of objects {_listed(saved.prompts)} was given {when} "
                    f"(restore_max_age is {self._max_age:g} s): prompt again"
                )
            for turn in range(max(map(len, saved.prompts.values()), default=0)):
                old = [i for i, given in saved.prompts.items() if turn < len(given)]
                prompts = [replace(saved.prompts[i][turn], object_id=ids.get(i, 0)) for i in old]
                result = self.tracker.prompt(0, prompts, learn=False)
                ids.update(zip(old, result.object_ids, strict=True))
                _note(given, result, self._kept)
            classes = {i: _class_of(saved.prompts[i]) for i in saved.by_person}
            named = [Prompt(ids[i], name) for i, name in classes.items() if name]
            if named:  # nothing is learnt of it
                self.tracker.prompt(0, named)
        except Exception as error:
            if ids:
                self.tracker.remove(list(ids.values()))
            self._log.warning(f"the prompts in {self._file.path} were not restored: {error}")
            if not isinstance(error, Sam2sError):
                raise
        else:
            self._given, self._given_at = given, saved.given
            self._by_person = frozenset(prompt.object_id for prompt in named)
            self._save(size)
            renamed = f", {_listed(ids)} as {_listed(ids.values())}" if ids else ""
            self._log.info(
                f"{len(ids)} objects were restored from {self._file.path}{renamed}, where they were prompted then, the "
                f"last time {age:.0f} s ago: check that their masks are right now"
            )

    # What it leaves to the tracker

    @property
    def name(self) -> str:
        return self.tracker.name

    @property
    def object_ids(self) -> tuple[int, ...]:
        return self.tracker.object_ids

    @property
    def next_id(self) -> int:
        return self.tracker.next_id

    @property
    def revision(self) -> int:
        return self.tracker.revision

    @property
    def newest(self) -> Tracks | None:
        return self.tracker.newest

    def set_policy(self, policy: str) -> None:
        self.tracker.set_policy(policy)

    def prepare(self) -> None:
        self.tracker.prepare()

    def discover(self, class_name: str = "", stamp: int = 0) -> list[Proposal]:
        return self._discovering.discover(class_name, stamp)

    def rediscover(self, *, find: bool = True, recondition: bool = True) -> list[Rediscovered]:
        return self._discovering.rediscover(find=find, recondition=recondition)

    def saved_objects(self, object_ids: Sequence[int] = ()) -> SavedObjects:
        return self._discovering.saved_objects(object_ids)

    def restore_objects(self, saved: SavedObjects) -> tuple[int, ...]:
        ids = self._discovering.restore_objects(saved)
        if (newest := self.newest) is not None:
            self._save(newest.size)  # that these ids are given
        return ids

    @property
    def discovery(self) -> Discovery:
        return self._discovering.discovery

    @property
    def model(self) -> Sam2Model:
        return self._discovering.model

    @property
    def label_set(self) -> LabelSet:
        return self._discovering.label_set

    @property
    def config(self) -> TrackerConfig:
        return self._discovering.config

    @property
    def _discovering(self) -> DiscoveringTracker:
        return cast("DiscoveringTracker", self.tracker)

    def memory_bytes(self) -> int:
        return self.tracker.memory_bytes()

    def device_description(self) -> str:
        return self.tracker.device_description()


def _note(given: dict[int, list[Prompt]], answer: PromptAnswer, kept: int) -> bool:
    """Add an answered request to the prompts of each object: the first and the newest, `kept` in all.

    What corrects or names an object without prompts, one that was loaded, is left out: alone it would start another.
    Return whether any was added that says where an object is.
    """
    added = False
    for object_id, prompt in zip(answer.object_ids, answer.prompts, strict=True):
        if prompt.object_id and object_id not in given:
            continue
        own = given.setdefault(object_id, [])
        if prompt.class_name:  # the one that gave it may be dropped
            own[:] = [replace(earlier, class_name=prompt.class_name) for earlier in own]
        if prompt.only_names:
            continue
        own.append(prompt)
        added = True
        del own[1 : len(own) - kept + 1]
    return added


def _class_of(prompts: Sequence[Prompt]) -> str:
    """Return the class that an object's prompts give it, the newest that gives one; "" where none does."""
    return next((prompt.class_name for prompt in reversed(prompts) if prompt.class_name), "")


def _listed(object_ids: Iterable[int]) -> str:
    return ", ".join(map(str, object_ids))
