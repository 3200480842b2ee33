"""The correspondence term: what it compares, and that a student learns a teacher's affinities by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2s_model.training.clip import Clip
from sam2s_model.training.correspondence import affinity_loss, centred_tokens, related


def clip(scene) -> Clip:
    return Clip(np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8), np.uint8), {}, scene=scene)


def test_clips_of_one_scene_that_follow_each_other_are_pairs():
    clips = [clip(scene) for scene in (("a",), ("a",), ("b",), None, None, ("c",), ("c",), ("c",))]
    assert related(clips) == [(0, 1), (5, 6), (6, 7)] and related(clips[2:5]) == []


def test_the_loss_is_the_mean_divergence_of_both_directions():
    torch.manual_seed(0)
    said, target = torch.randn(3, 4, 2, 3), torch.randn(3, 7, 2, 3)
    expected = 0.0
    for a, b in ((0, 2), (2, 0), (1, 0), (0, 1)):
        logs = []
        for features in (said, target):
            tokens = features.flatten(2).numpy().astype(np.float64)
            tokens = tokens - tokens.mean(2, keepdims=True)
            tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
            weights = np.exp(tokens[a].T @ tokens[b] / 0.1)
            logs.append(np.log(weights / weights.sum(1, keepdims=True)))
        own, known = logs
        expected += (np.exp(known) * (known - own)).sum(1).mean() / 2
    assert affinity_loss(said, target, [(0, 2), (1, 0)], 0.1).item() == pytest.approx(expected, rel=1e-4)
    assert affinity_loss(said, target, [], 0.1).item() == 0


def test_scale_shift_and_rotation_of_the_features_do_not_matter():
    torch.manual_seed(0)
    target = torch.randn(2, 6, 3, 3)
    turned = torch.einsum("nchw,kc->nkhw", target, torch.linalg.qr(torch.randn(6, 6))[0]) * 3 + 5
    assert affinity_loss(turned, target, [(0, 1)], 0.07).item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(centred_tokens(target).norm(dim=2), torch.ones(2, 9))


def test_a_student_of_fewer_channels_learns_which_places_are_the_same():
    torch.manual_seed(0)
    places = torch.randn(1, 16, 25).repeat(2, 1, 1)
    order = torch.randperm(25)
    places[1] = places[0][:, order]
    target = places.unflatten(2, (5, 5))
    said = torch.randn(2, 8, 5, 5, requires_grad=True)
    optimiser = torch.optim.Adam([said], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        affinity_loss(said, target, [(0, 1)], 0.07).backward()
        optimiser.step()
    first, second = centred_tokens(said.detach())
    assert torch.equal((first @ second.T).argmax(1), order.argsort())


def test_a_teacher_at_another_size_is_compared_at_the_students():
    torch.manual_seed(0)
    target = torch.nn.functional.interpolate(torch.randn(2, 6, 3, 3), size=(12, 12), mode="nearest")
    small = torch.nn.functional.interpolate(target, size=(3, 3), mode="area")
    wrong = affinity_loss(torch.randn(2, 6, 3, 3), target, [(0, 1)], 0.07).item()
    assert affinity_loss(small, target, [(0, 1)], 0.07).item() < 0.2 * wrong
