"""SAMURAI's gates and its choice of masks, worked by hand; and the filter of its boxes."""

from __future__ import annotations

import pytest
import torch

from sam2s_model.tracking.memory import BankView, Samurai, kalman

PASSES, UNSURE, GONE = dict(iou=0.9), dict(iou=0.5), dict(logit=-3.0)


@pytest.mark.parametrize(
    "frames, passed, attended",
    [
        ([PASSES] * 3, [1, 2, 3], {0: 6, 3: 0, 2: 1, 1: 2}),
        ([PASSES, PASSES, UNSURE, GONE, PASSES, PASSES], [1, 2, 5, 6], {0: 6, 6: 0, 5: 1, 2: 2, 1: 3}),
        ([PASSES, PASSES, GONE, GONE], [1, 2], {0: 6, 4: 0, 2: 1, 1: 2}),  # the frame before is always there
        ([PASSES] * 9 + [UNSURE] * 9, [4, 5, 6, 7, 8, 9], {0: 6, 18: 0, 9: 1, 8: 2, 7: 3, 6: 4, 5: 5}),
    ],
    ids=["all pass", "0.5 is not above 0.5, and gone is gone", "the newest does not pass", "six at most"],
)
def test_only_frames_that_pass_are_remembered(script, small, frames, passed, attended):
    run = script(Samurai(small))
    run.prompt(0)
    for frame, scores in enumerate(frames, start=1):
        run.track(frame, **scores)
    assert run.held("passed") == passed and run.attended(len(frames) + 1) == attended


def moving(run, frames: int) -> None:
    """A box that moves to the right by 1/2 px a frame, from x = 0."""
    for frame in range(1, frames + 1):
        run.track(frame, box=(frame // 2, 4, frame // 2 + 4, 8))


@pytest.mark.parametrize("frames, chosen", [(13, 0), (14, 1)])
def test_motion_counts_once_the_object_was_stable(script, small, frames, chosen):
    """The prompt and 14 frames are 15. Masks: far away with an IoU of 0.8 -> 0.75 * 0.8 = 0.6; where the object should
    be, with 0.7 -> at least 0.25 * 0.5 + 0.75 * 0.7 = 0.65."""
    run = script(Samurai(small))
    run.prompt(0, box=(0, 4, 4, 8))
    moving(run, frames)
    masks = torch.full((1, 2, 16, 16), -1.0)
    masks[0, 0, 12:16, 12:16] = 1.0
    x = (frames + 1) // 2
    masks[0, 1, 4:8, x : x + 4] = 1.0
    assert run.policy.choose(BankView(run.bank, [0]), masks, torch.tensor([[0.8, 0.7]])).item() == chosen


def test_a_jump_does_not_pass_and_a_prompt_starts_anew(script, small):
    run = script(Samurai(small))
    run.prompt(0, box=(0, 4, 4, 8))
    moving(run, 16)
    run.track(17, box=(0, 12, 4, 16))
    assert 17 not in run.held("passed")
    run.prompt(17, box=(0, 12, 4, 16))
    assert BankView(run.bank, [0]).state("stable").tolist() == [1]
    run.track(18, box=(10, 0, 14, 4))
    assert 18 in run.held("passed"), "without a stable motion it is not asked"


def test_an_object_that_is_not_followed_is_no_longer_stable(script, small):
    run = script(Samurai(small))
    run.prompt(0)
    moving(run, 16)
    run.track(17, iou=0.2)
    assert BankView(run.bank, [0]).state("stable").tolist() == [0]
    run.track(18, logit=-2.0)
    assert BankView(run.bank, [0]).state("stable").tolist() == [0], "nothing to start from"
    run.track(19)
    assert BankView(run.bank, [0]).state("stable").tolist() == [1]


def test_the_filter_is_the_one_of_matrices():
    """The four separate filters against one with an 8 x 8 covariance, written as in a textbook."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([10.0, 20.0, 40.0, 60.0]) + 3 * torch.randn(12, 4, generator=generator)
    mean, covariance = kalman.start(boxes[:1])
    move = torch.eye(8)
    move[:4, 4:] = torch.eye(4)
    see = torch.eye(4, 8)

    def deviations(h, position, velocity=None, aspect=1e-2):
        place = [position * h, position * h, aspect, position * h]
        return torch.tensor(place + ([velocity * h, velocity * h, 1e-5, velocity * h] if velocity else []))

    def measured(box):
        x0, y0, x1, y1 = box
        return torch.stack(((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / (y1 - y0), y1 - y0))

    x = torch.cat((measured(boxes[0]), torch.zeros(4)))
    p = torch.diag(deviations(x[3], 2 / 20, 10 / 160) ** 2)
    for box in boxes[1:]:
        noise = torch.diag(deviations(x[3], 1 / 20, 1 / 160) ** 2)
        x, p = move @ x, move @ p @ move.T + noise
        s = see @ p @ see.T + torch.diag(deviations(x[3], 1 / 20, aspect=1e-1) ** 2)
        gain = p @ see.T @ torch.linalg.inv(s)
        x, p = x + gain @ (measured(box) - see @ x), p - gain @ s @ gain.T
        mean, covariance = kalman.update(*kalman.predict(mean, covariance), box[None])
    torch.testing.assert_close(torch.cat((mean[0, :, 0], mean[0, :, 1])), x, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(covariance[0, :, 0], p.diagonal()[:4], atol=1e-4, rtol=1e-3)
