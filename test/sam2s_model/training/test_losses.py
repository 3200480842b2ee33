"""Each loss against its formula in numpy, and what does not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam2s_model.training.config import LossConfig
from sam2s_model.training.losses import FrameLosses, achieved_iou, dice_loss, focal, frame_losses, soften

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (2, 3, 12, 12)).astype(np.float32)
TRUTH = np.zeros((2, 12, 12), bool)
TRUTH[0, 3:8, 2:9] = TRUTH[1, 0:4, 6:12] = True
VALID = np.ones((2, 12, 12), bool)
VALID[1, :, 10:] = False
DEFAULTS = LossConfig()
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))


def losses(
    logits=LOGITS, truth=TRUTH, valid=VALID, config=DEFAULTS, iou=None, score=(1.0, -2.0), **more
) -> FrameLosses:
    iou = np.full(logits.shape[:2], 0.25, np.float32) if iou is None else iou
    return frame_losses(*map(torch.tensor, (logits, iou, score, truth, valid)), config, **more)


def test_softening_is_a_convolution_with_the_5x5_gaussian():
    place = np.arange(5) - 2
    kernel = np.exp(-(place[:, None] ** 2 + place**2) / 2)
    kernel /= kernel.sum()
    padded = np.pad(TRUTH[0].astype(float), 2, mode="edge")
    expected = [[(kernel * padded[y : y + 5, x : x + 5]).sum() for x in range(12)] for y in range(12)]
    got = soften(torch.tensor(TRUTH).float(), 1.0)[0].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert 0 < got[3, 2] < got[5, 5] == pytest.approx(1) and got[11, 11] == 0


def test_a_full_mask_stays_full_at_the_border():
    assert (soften(torch.ones(1, 9, 9), 2.0) > 0.99999).all()


def test_focal_loss_is_its_formula_for_hard_and_for_soft_targets():
    for target in (TRUTH[0].astype(float), RNG.uniform(0, 1, (12, 12))):
        p, y = P[0, 0], target
        entropy = -(y * np.log(p) + (1 - y) * np.log(1 - p))
        expected = (0.25 * y + 0.75 * (1 - y)) * entropy * (1 - (p * y + (1 - p) * (1 - y))) ** 2
        got = focal(torch.tensor(LOGITS[0, 0]), torch.tensor(target, dtype=torch.float32), 0.25, 2.0)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_focal_loss_without_alpha_and_gamma_is_cross_entropy():
    x, y = torch.tensor(LOGITS[0, 0]), torch.tensor(TRUTH[0]).float()
    torch.testing.assert_close(focal(x, y, -1.0, 0.0), F.binary_cross_entropy_with_logits(x, y, reduction="none"))


def test_dice_is_its_formula_and_ignores_void():
    got = dice_loss(torch.tensor(LOGITS), torch.tensor(TRUTH).float(), torch.tensor(VALID).float()).numpy()
    for n in range(2):
        for c in range(3):
            p, y = P[n, c][VALID[n]], TRUTH[n][VALID[n]]
            assert got[n, c] == pytest.approx(1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1), rel=1e-5)


def test_achieved_iou_ignores_void_and_is_1_for_two_empty_masks():
    got = achieved_iou(torch.tensor(LOGITS), torch.tensor(TRUTH), torch.tensor(VALID)).numpy()
    found, truth = (LOGITS[1, 2] > 0)[VALID[1]], TRUTH[1][VALID[1]]
    assert got[1, 2] == pytest.approx((found & truth).sum() / (found | truth).sum())
    nothing = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert achieved_iou(torch.full((1, 1, 4, 4), -1.0), nothing, ~nothing).item() == 1


def test_the_mask_that_fits_best_is_taught_and_all_learn_their_iou():
    logits = torch.tensor(LOGITS, requires_grad=True)
    iou = torch.full((2, 3), 0.25, requires_grad=True)
    config = LossConfig(arl_sigma=0.0)
    weights = torch.tensor(VALID).float()
    arl = focal(logits, torch.tensor(TRUTH).float()[:, None], 0.25, 2.0)
    arl = (arl * weights[:, None]).sum((2, 3)) / weights.sum((1, 2))[:, None]
    each = 20 * arl + dice_loss(logits, torch.tensor(TRUTH).float(), weights)
    best = each.argmin(1)
    got = frame_losses(logits, iou, torch.zeros(2), torch.tensor(TRUTH), torch.tensor(VALID), config)
    assert (20 * got.arl + got.dice).item() == pytest.approx(each.gather(1, best[:, None]).sum().item(), rel=1e-5)
    (got.arl + got.dice).backward(retain_graph=True)
    taught = logits.grad.abs().sum((2, 3)) > 0
    assert torch.equal(taught, F.one_hot(best, 3).bool())
    achieved = achieved_iou(logits.detach(), torch.tensor(TRUTH), torch.tensor(VALID))
    assert got.iou.item() == pytest.approx((0.25 - achieved).abs().mean(1).sum().item(), rel=1e-5)
    got.iou.backward()
    assert (iou.grad != 0).all()


def test_an_object_that_is_not_there_counts_for_occlusion_alone():
    truth = TRUTH.copy()
    truth[1] = False
    got, first = losses(truth=truth), losses(LOGITS[:1], TRUTH[:1], VALID[:1], score=(1.0,))
    for name in ("arl", "entropy", "dice", "iou"):
        assert getattr(got, name).item() == pytest.approx(getattr(first, name).item(), rel=1e-5), name
    assert got.occlusion.item() == pytest.approx(np.log1p(np.exp(-1.0)) + np.log1p(np.exp(-2.0)), rel=1e-5)
    assert got.seen.item() == 1


def test_a_frame_without_ground_truth_teaches_nothing():
    got = losses(valid=np.zeros_like(VALID))
    assert all(getattr(got, name).item() == 0 for name in ("arl", "entropy", "dice", "iou", "occlusion", "seen"))


def test_classes_count_only_where_they_are_known():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    got = losses(class_logits=logits, rows=torch.tensor([-1, 2]))
    assert got.tsl.item() == pytest.approx(np.log(np.exp([0.0, 3.0, 1.0]).sum()) - 1.0, rel=1e-5)
    assert (got.classified.item(), got.right.item()) == (1, 0)
    assert losses(class_logits=logits, rows=torch.tensor([0, 1])).right.item() == 2


def test_masks_of_a_teacher_are_soft_targets():
    soft = RNG.uniform(0.1, 0.9, (2, 12, 12)).astype(np.float32)
    got = losses(LOGITS[:, :1], teacher=torch.tensor(soft)[:, None])
    expected = -(soft * np.log(P[:, 0]) + (1 - soft) * np.log(1 - P[:, 0]))
    assert got.masks.item() == pytest.approx(sum(expected[n][VALID[n]].mean() for n in range(2)), rel=1e-4)


def test_each_candidate_learns_the_same_one_of_a_teacher_with_the_same_decoder():
    soft = RNG.uniform(0.1, 0.9, LOGITS.shape).astype(np.float32)
    expected = -(soft * np.log(P) + (1 - soft) * np.log(1 - P))
    expected = sum(expected[n][:, VALID[n]].mean() for n in range(2))
    assert losses(teacher=torch.tensor(soft)).masks.item() == pytest.approx(expected, rel=1e-4)


def test_masks_are_compared_at_the_size_of_the_truth():
    small = LOGITS[:, :1, ::2, ::2].copy()
    large = F.interpolate(torch.tensor(small), size=(12, 12), mode="bilinear").numpy()
    assert losses(small).dice.item() == pytest.approx(losses(large).dice.item(), rel=1e-6)


def test_the_total_has_the_published_weights():
    got = losses(class_logits=torch.tensor([[2.0, -1.0], [0.0, 3.0]]), rows=torch.tensor([1, 0]))
    expected = 20 * got.arl + got.dice + got.iou + got.occlusion + 0.1 * got.tsl
    assert got.total(LossConfig(), 0).item() == pytest.approx(expected.item(), rel=1e-6)


def test_cross_entropy_gives_way_to_arl():
    got, config = losses(), LossConfig(entropy=3.0, entropy_steps=10)
    rest = (got.dice + got.iou + got.occlusion).item()
    for step, share in ((0, 1.0), (5, 0.5), (10, 0.0), (99, 0.0)):
        expected = share * 3 * got.entropy.item() + (1 - share) * 20 * got.arl.item() + rest
        assert got.total(config, step).item() == pytest.approx(expected, rel=1e-5)


def test_sums_of_frames_add_up():
    got = losses() + losses()
    assert got.dice.item() == pytest.approx(2 * losses().dice.item()) and got.seen.item() == 4
