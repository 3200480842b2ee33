"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam2s_model.training.evaluate import Score


@dataclass(frozen=True)
class TrainingOutcome:
    """How a run ended.

    steps: done of `config.steps`; checkpoint: the best one where the run keeps that and has one, else the newest
    scores: of the last evaluation, empty without one
    """

    steps: int
    checkpoint: Path
    scores: tuple[Score, ...] = ()
