"""What the parity tests ask of every implementation: frames one by one, prompts on the newest, raw outputs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

DELTA, THRESHOLD = 0.05, 0.98  # of the published interactive predictor's stability


@dataclass(frozen=True)
class Settings:
    """stability: a single mask that is not stable gives way; binarise: the memory of a prompted frame has no doubts."""

    name: str
    stability: bool
    binarise: bool


VOS = Settings("vos", stability=False, binarise=False)
"""The published evaluation on video object segmentation."""
INTERACTIVE = Settings("interactive", stability=True, binarise=True)
"""The published interactive predictor, less the filling of holes, for which the oracles need CUDA."""


@dataclass(frozen=True)
class Click:
    """A prompt, px of the square model input.

    points: (P, 2) x y, with labels (P,), 1 on the object, 0 not; or box: (4,) x0 y0 x1 y1; or mask: (S, S) bool
    """

    points: np.ndarray | None = None
    labels: np.ndarray | None = None
    box: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Answer:
    """One object on one frame.

    logits: (S/4, S/4) fp32; iou: predicted, 0..1; object_logit: of the decoder, on a frame with a mask prompt too
    pointer: (dim,)
    distances: how far each decision on the way was from turning out otherwise, by its name; an oracle's only. "object":
    the object score's logit; "mask": lead of the best candidate, in logits of the IoU; "stable": ratio of areas
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


@dataclass(frozen=True)
class Decoding:
    """What an oracle's decoder said and its predictor drops; all as in Answer."""

    iou: float
    object_logit: float
    distances: dict[str, float]

    @classmethod
    def of(cls, ious: Tensor, object_logit: Tensor, stability: dict[str, float]) -> Decoding:
        """ious: of the one mask, or of the three candidates; stability: from `watch_stability`, taken out of it."""
        distances = {"object": abs(object_logit.item()), **stability}
        if ious.numel() > 1:
            distances["mask"] = _lead(ious)
        stability.clear()
        return cls(ious.max().item(), object_logit.item(), distances)


def watch_stability(decoder: nn.Module) -> dict[str, float]:
    """Have a decoder note, in the dictionary that is returned, how clear its newest decisions about stability were."""
    noted: dict[str, float] = {}
    decide: Callable = decoder._dynamic_multimask_via_stability

    def noting(logits: Tensor, ious: Tensor):
        """logits (..., 4, h, w), ious (..., 4), of one object; the first is the single mask."""
        single = logits.flatten(0, -4)[0, 0]
        inner, outer = ((single > edge).sum().item() for edge in (DELTA, -DELTA))
        noted["stable"] = abs(inner / outer - THRESHOLD) if outer else 1 - THRESHOLD
        if inner < THRESHOLD * outer:
            noted["mask"] = _lead(ious[..., 1:])
        return decide(logits, ious)

    decoder._dynamic_multimask_via_stability = noting
    return noted


def unbounded(iou: float) -> float:
    """0..1 -> the logit that the network said."""
    iou = min(max(iou, 1e-30), 1 - 2.0**-24)
    return math.log(iou / (1 - iou))


def _lead(ious: Tensor) -> float:
    best, second = ious.flatten().topk(2).values.tolist()
    return unbounded(best) - unbounded(second)
