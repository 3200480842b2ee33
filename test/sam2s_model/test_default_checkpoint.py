"""The checkpoint in the package: it loads, is small, and its memory tracks a scene that it was not trained on."""

from __future__ import annotations

import numpy as np

from sam2s_model.checkpoint import default_checkpoint, load_model
from sam2s_model.metrics import iou
from sam2s_model.prompts import Prompt
from sam2s_model.scene import Scene, SceneConfig
from sam2s_model.tracker import Tracker


def mean_iou(model, policy: str) -> float:
    """Of both instruments of one scene over 90 frames, in which they cross,, prompted with their boxes on the first."""
    scene = Scene(SceneConfig(width=320, height=256, frames=90, seed=2))
    tracker = Tracker(model, policy)
    scores = []
    for frame in scene:
        tracks = tracker.step(frame.stamp_ns + 1, np.ascontiguousarray(frame.image))
        if frame.index == 0:
            tracker.prompt(0, [Prompt(box=np.array(state.box)) for state in frame.objects])
        else:
            scores += [iou(tracks.mask(row.object_id), frame.labels == row.label) for row in scene.objects]
    return float(np.mean(scores))


def test_it_is_complete_and_small():
    path = default_checkpoint()
    assert path.stat().st_size < 25e6
    model = load_model(path, device="cpu")
    assert model.name == "sam2s_pico" and model.has_memory and model.image_size == 192


def test_its_memory_tracks_and_beats_the_baseline():
    model = load_model(default_checkpoint(), device="cpu")
    fifo, none = mean_iou(model, "fifo"), mean_iou(model, "none")
    print(f"mean IoU: fifo {fifo:.3f}, none {none:.3f}")
    assert fifo > 0.55
    assert fifo > none
