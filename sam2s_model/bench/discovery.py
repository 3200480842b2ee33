"""What a look of discovery costs beside a step: passes of the mask decoder, and ms."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from sam2s_model.bench.timing import Spread
from sam2s_model.config import TrackerConfig
from sam2s_model.network.mask_decoder import Candidates
from sam2s_model.network.model import Sam2Model
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.tracker import Tracker


@dataclass(frozen=True)
class DiscoveryCosts:
    """name: of model and policy; batches: prompts in each pass of the mask decoder

    look, step: ms of a look, and of a step without objects
    """

    name: str
    batches: tuple[int, ...]
    look: Spread
    step: Spread


def discovery_costs(model: Sam2Model, config: TrackerConfig, repeats: int = 10, policy: str = "auto") -> DiscoveryCosts:
    """Look at frames of the procedural scene, 640 x 512 px, once more than `repeats`: the first one warms up.

    policy: as of `Tracker`
    """
    scene, tracker = Scene(SceneConfig(frames=repeats + 1)), Tracker(model, policy, config)
    steps, looks = [], []
    batches: list[int] = []
    decode = model.candidates

    def counted(conditioned: torch.Tensor, *arguments, **options) -> Candidates:
        batches.append(len(conditioned))
        return decode(conditioned, *arguments, **options)

    model.candidates = counted  # type: ignore[method-assign]
    try:
        for number, frame in enumerate(scene, start=1):
            batches.clear()
            began = time.perf_counter()
            tracker.step(number, frame.image)
            stepped = time.perf_counter()
            tracker.discover()
            steps.append(1e3 * (stepped - began))
            looks.append(1e3 * (time.perf_counter() - stepped))
    finally:
        del model.candidates
    return DiscoveryCosts(tracker.name, tuple(batches), Spread.of(looks[1:]), Spread.of(steps[1:]))
