"""No memory: each frame is prompted with the mask of the frame before and its box (`previous_mask`).

The fallback for checkpoints that hold only SAM2's image half, and the baseline that every memory has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sam2s_model.tracking.memory.policy import Policy


@dataclass(frozen=True)
class PreviousMask(Policy):
    """Nothing is remembered but the newest masks."""

    uses_memory: ClassVar[bool] = False
