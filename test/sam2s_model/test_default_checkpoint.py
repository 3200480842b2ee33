"""The checkpoints in the package: they load, are small, and their memory tracks scenes that they were not trained on."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.checkpoint import default_checkpoint, load_model
from sam2s_model.config import NANO_CLASSES
from sam2s_model.flops import count
from sam2s_model.metrics import iou
from sam2s_model.prompts import Prompt
from sam2s_model.published.catalog import packaged_checkpoints
from sam2s_model.scene import Scene, SceneConfig
from sam2s_model.tracker import Tracker


def mean_iou(model, policy: str) -> float:
    """Of both instruments of one scene over 60 frames, in which they cross, prompted with their boxes on the first."""
    scene = Scene(SceneConfig(width=320, height=256, frames=60, seed=2))
    tracker = Tracker(model, policy)
    scores = []
    for frame in scene:
        tracks = tracker.step(frame.stamp_ns + 1, np.ascontiguousarray(frame.image))
        if frame.index == 0:
            tracker.prompt(0, [Prompt(box=np.array(state.box)) for state in frame.objects])
        else:
            scores += [iou(tracks.mask(row.object_id), frame.labels == row.label) for row in scene.objects]
    return float(np.mean(scores))


@pytest.mark.parametrize("name, size", [("sam2s_nano", 512), ("sam2s_pico", 192)])
def test_they_are_complete_and_small(name, size):
    path = packaged_checkpoints()[name]
    assert path.stat().st_size < 25e6
    model = load_model(path, device="cpu")
    assert model.name == name and model.has_memory and not model.missing and model.image_size == size


def test_nano_is_the_default_and_within_its_budget():
    assert default_checkpoint() == packaged_checkpoints()["sam2s_nano"]
    model = load_model(default_checkpoint(), device="cpu")
    operations = count(model.config, memories=11)
    assert sum(p.numel() for p in model.parameters()) < 12e6 and operations.total < 12e9
    assert model.config.long_term_embedding and model.config.num_classes == len(NANO_CLASSES)


@pytest.mark.parametrize("name, size, least", [("sam2s_nano", 256, 0.6), ("sam2s_pico", 192, 0.55)])
def test_their_memory_tracks_and_beats_the_baseline(name, size, least):
    model = load_model(packaged_checkpoints()[name], image_size=size, device="cpu")
    fifo, none = mean_iou(model, "fifo"), mean_iou(model, "none")
    print(f"mean IoU of {name}: fifo {fifo:.3f}, none {none:.3f}")
    assert fifo > least
    assert fifo > none


def test_the_default_of_nano_is_what_follows_best_with_it():
    """Correspondences, which nothing was trained for, beside the memory that was: also on the scene that it was trained on."""
    model = load_model(packaged_checkpoints()["sam2s_nano"], image_size=384, device="cpu")
    assert Tracker(model).policy_name == "match"
    match, fifo = mean_iou(model, "match"), mean_iou(model, "fifo")
    print(f"mean IoU of sam2s_nano at 384 px: match {match:.3f}, fifo {fifo:.3f}")
    assert match > 0.8 and match > fifo
