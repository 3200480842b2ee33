"""What the parity tests ask of every implementation: frames one by one, prompts on the newest, raw outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

VIDEO_LENGTH = 1000  # frames that a video is said to have: a stream is long, and pointer ages are divided by 15


@dataclass(frozen=True)
class Settings:
    """stability: a single mask that is not stable gives way; binarise: the memory of a prompted frame has no doubts."""

    stability: bool
    binarise: bool


VOS = Settings(stability=False, binarise=False)
"""The published evaluation on video object segmentation."""
INTERACTIVE = Settings(stability=True, binarise=True)
"""The published interactive predictor, less the filling of holes, for which the oracles need CUDA."""


@dataclass(frozen=True)
class Click:
    """A prompt, px of the square model input. points (P, 2) x y with labels (P,), or box (4,) x0 y0 x1 y1, or mask (S, S)."""

    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    box: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Answer:
    """One object on one frame.

    logits: (S/4, S/4) fp32; iou: predicted, 0..1; object_logit: of the decoder, on a frame with a mask prompt too
    pointer: (dim,)
    distances: how far each decision on the way was from turning out otherwise, by its name
    """

    logits: Tensor
    iou: float
    object_logit: float
    pointer: Tensor
    distances: dict[str, float] = field(default_factory=dict)


class Oracle(ABC):
    """An implementation that tracks objects through a stream of square images."""

    @abstractmethod
    def step(self, image: Tensor) -> dict[int, Answer]:
        """Track all objects into the next frame. image: (1, 3, S, S), normalised."""

    @abstractmethod
    def prompt(self, object_id: int, click: Click) -> Answer:
        """Start an object on the newest frame, or correct it there: the frame becomes conditioning."""
