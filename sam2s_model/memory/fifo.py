"""First in, first out: SAM2's own memory (arXiv 2408.00714 sec. 4): the prompted frames and the last six."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam2s_model.config import ModelConfig
from sam2s_model.memory.bank import EMPTY


@dataclass(frozen=True)
class Selection:
    """What N objects attend to, as columns of the bank. Only columns that at least one object uses are named.

    slots: F columns of the spatial memories; codes: (N, F) temporal code of each; allowed: (N, F) bool
    pointer_slots: P columns; ages: (N, P) frames since each; pointer_allowed: (N, P) bool
    """

    slots: np.ndarray
    codes: np.ndarray
    allowed: np.ndarray
    pointer_slots: np.ndarray
    ages: np.ndarray
    pointer_allowed: np.ndarray


class Fifo:
    """Attend to all prompted frames and the `num_memories - 1` newest; to pointers of the `max_pointers - 1` newest.

    Frames without the object count like all others: dropping them costs 6 to 8 J&F on instruments (SAM2S, table 2).

    window, pointer_window: ages, in frames, of the oldest memory and pointer that is attended to
    """

    uses_memory = True

    def __init__(self, config: ModelConfig):
        self.window = config.num_memories - 1
        self.pointer_window = config.max_pointers - 1

    def select(self, frames: np.ndarray, pointer_frames: np.ndarray, conditioning: int, now: int) -> Selection:
        """Choose from slots that hold `frames` (N, slots), the first `conditioning` of them prompted, for frame `now`."""
        age = now - frames
        past = (frames != EMPTY) & (age > 0)
        prompted = np.arange(frames.shape[1]) < conditioning
        allowed = past & (prompted | (age <= self.window))
        codes = np.where(prompted, self.window, np.clip(age - 1, 0, self.window - 1))
        pointer_age = now - pointer_frames
        pointer_past = (pointer_frames != EMPTY) & (pointer_age > 0)
        pointer_prompted = np.arange(pointer_frames.shape[1]) < conditioning
        pointer_allowed = pointer_past & (pointer_prompted | (pointer_age <= self.pointer_window))
        slots, pointer_slots = np.flatnonzero(allowed.any(0)), np.flatnonzero(pointer_allowed.any(0))
        return Selection(
            slots,
            codes[:, slots],
            allowed[:, slots],
            pointer_slots,
            np.where(pointer_allowed, pointer_age, 0)[:, pointer_slots],
            pointer_allowed[:, pointer_slots],
        )
