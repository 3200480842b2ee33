"""sam2s_nano: its convolutional encoder learns statistics only when told to, and it tracks with all its parts."""

from __future__ import annotations

import numpy as np
import torch

from sam2s_model.config import NANO
from sam2s_model.network.image_encoder import RepViT
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker


def statistics(model: Sam2Model) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items() if "running_" in k}


def test_statistics_are_learnt_on_demand():
    torch.manual_seed(0)
    model, image = Sam2Model(NANO, image_size=64), torch.randn(4, 3, 64, 64) + 3
    before = statistics(model)

    def changed() -> bool:
        model.encode_image(image)
        return any((v != before[k]).any() for k, v in statistics(model).items())

    model.train()
    assert before and not changed()
    model.image_encoder.trunk.learn_statistics(True)
    model.eval()
    assert not changed()
    model.train()
    assert changed()
    before = statistics(model)
    model.image_encoder.trunk.learn_statistics(False)
    assert not changed()


def test_learnt_statistics_normalise_alike_in_evaluation():
    """What a network sees while it learns is, in the end, what it sees afterwards."""
    torch.manual_seed(0)
    trunk, image = RepViT(8, (1, 1, 2, 1)), torch.randn(16, 3, 64, 64)
    trunk.learn_statistics(True)
    with torch.no_grad():
        for _ in range(150):
            learning = trunk.train()(image)[-1]
        stored = trunk.eval()(image)[-1]
    assert torch.corrcoef(torch.stack((learning.flatten(), stored.flatten())))[0, 1] > 0.99


def test_it_tracks_and_names_classes(frames):
    torch.manual_seed(0)
    model = Sam2Model(NANO, image_size=64).eval().requires_grad_(False)
    tracker = Tracker(model, "fifo")
    for i, image in enumerate(frames):
        tracks = tracker.step(i + 1, image)
        if i == 0:
            tracker.prompt(0, [Prompt(box=np.array([20, 30, 60, 60], np.float32)) for _ in range(2)])
    assert tracks.object_ids.tolist() == [1, 2]
    assert tracker.outputs.class_logits.shape == (2, 8) and tracker.outputs.class_logits.any()
