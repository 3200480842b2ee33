"""What the node needs of a tracker. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import numpy as np

from sam2s_model.config import TrackerConfig
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import Tracks

if TYPE_CHECKING:  # loads torch
    from sam2s_model.discovery.discover import Proposal
    from sam2s_model.discovery.finder import Discovery
    from sam2s_model.discovery.rediscovery import Rediscovered
    from sam2s_model.network.model import Sam2Model
    from sam2s_model.recall.memories import SavedObjects

Answer = TypeVar("Answer")  # of a call that the worker runs: call(tracker) -> Answer


class PromptAnswer(Protocol):
    """See `sam2s_model.tracking.tracker.PromptResult`."""

    @property
    def stamp(self) -> int: ...

    @property
    def object_ids(self) -> tuple[int, ...]: ...

    @property
    def tracks(self) -> Tracks: ...

    @property
    def prompts(self) -> tuple[Prompt, ...]: ...

    @property
    def by_person(self) -> tuple[int, ...]: ...


@runtime_checkable
class TrackerLike(Protocol):
    """`sam2s_model.tracking.tracker.Tracker`, or what stands in its place; each member is described there.

    One thread owns it: the worker's, which makes it and calls everything here.
    """

    @property
    def name(self) -> str: ...

    @property
    def object_ids(self) -> tuple[int, ...]: ...

    @property
    def next_id(self) -> int: ...

    @property
    def revision(self) -> int: ...

    @property
    def newest(self) -> Tracks | None: ...

    def step(self, stamp: int, image: np.ndarray, following: np.ndarray | None = None) -> Tracks: ...

    def prompt(self, stamp: int, prompts: Sequence[Prompt], *, learn: bool = True) -> PromptAnswer: ...

    def remove(self, object_ids: Sequence[int]) -> Tracks | None: ...

    def reset(self) -> None: ...

    def set_policy(self, policy: str) -> None: ...

    def prepare(self) -> None: ...

    def memory_bytes(self) -> int: ...

    def device_description(self) -> str: ...


class DiscoveringTracker(TrackerLike, Protocol):
    """What discovery and saved objects need besides: the real tracker has it, and so has what wraps one."""

    @property
    def discovery(self) -> Discovery: ...

    @property
    def model(self) -> Sam2Model: ...

    @property
    def label_set(self) -> LabelSet: ...

    @property
    def config(self) -> TrackerConfig: ...

    def discover(self, class_name: str = "", stamp: int = 0) -> list[Proposal]: ...

    def rediscover(self, *, find: bool = True, recondition: bool = True) -> list[Rediscovered]: ...

    def saved_objects(self, object_ids: Sequence[int] = ()) -> SavedObjects: ...

    def restore_objects(self, saved: SavedObjects) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class BuiltTracker:
    """A tracker that is ready.

    chosen: which checkpoint it is, in half a sentence, where the parameters name none
    close: called when nothing more will be asked of it
    """

    tracker: TrackerLike
    chosen: str = ""
    close: Callable[[], None] = lambda: None
