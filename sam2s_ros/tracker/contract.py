"""What the node needs of a tracker. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from sam2s_model.prompts import Prompt
from sam2s_model.tracks import Tracks

Answer = TypeVar("Answer")  # of a call that the worker runs: call(tracker) -> Answer


class PromptAnswer(Protocol):
    """See `sam2s_model.tracking.tracker.PromptResult`."""

    @property
    def stamp(self) -> int: ...

    @property
    def object_ids(self) -> tuple[int, ...]: ...

    @property
    def tracks(self) -> Tracks: ...


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

    def prompt(self, stamp: int, prompts: Sequence[Prompt]) -> PromptAnswer: ...

    def remove(self, object_ids: Sequence[int]) -> Tracks | None: ...

    def reset(self) -> None: ...

    def set_policy(self, policy: str) -> None: ...

    def prepare(self) -> None: ...

    def memory_bytes(self) -> int: ...

    def device_description(self) -> str: ...


@dataclass(frozen=True)
class BuiltTracker:
    """A tracker that is ready. chosen: which checkpoint it is, in half a sentence, where the parameters name none."""

    tracker: TrackerLike
    chosen: str = ""
