"""Short and long memory: SLM-SAM2: two memory attentions, one of them for the newest frame alone, fused."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sam2s_model.config import ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.memory.policy import MemorySubset, Policy, Selection
from sam2s_model.tracking.memory.view import BankView

OLDEST = torch.iinfo(torch.int64).min  # frame index, before all that there are


@dataclass(frozen=True)
class ShortLong(Policy):
    """FIFO for the long-term attention, the newest frame, prompted or not, for the short-term one.

    Needs a checkpoint that was trained with both. Raises ConfigError for another.
    """

    def __post_init__(self):
        check_short_attention(self.config)

    def select(self, view: BankView, now: int) -> Selection:
        return replace(super().select(view, now), short=self._newest(view, now))

    def _newest(self, view: BankView, now: int) -> MemorySubset:
        time, frames = view.time(now), torch.cat((view.frames("conditioning"), view.frames("recent")), dim=1)
        past = (frames != EMPTY) & (frames < time)  # those of restored objects are below EMPTY
        column = torch.where(past, frames, OLDEST).argmax(1, keepdim=True)
        codes = (time - 1 - frames.gather(1, column)).clamp(0, self.window - 1)
        return MemorySubset(column, torch.where(column < view.layout.conditioning, self.prompted_code, codes), None)


def check_short_attention(config: ModelConfig) -> None:
    """Check that a model has the second memory attention. Raises ConfigError for another."""
    if not config.short_attention:
        raise ConfigError(
            f"policy is 'slm', but {config.name} has no second memory attention: expected a checkpoint with "
            "recent_memory_attention. and recent_memory_fuser. tensors, or another policy"
        )
