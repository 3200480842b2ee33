"""Training: losses against their formulas, a run that learns, and a killed run that ends as if it had not been killed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import PICO
from sam2s_model.mask_decoder import Decoded
from sam2s_model.model import Sam2Model
from sam2s_model.errors import ConfigError
from sam2s_model.training.__main__ import Phase, Schedule, train
from sam2s_model.training.clips import Clip, batch, draw_clip
from sam2s_model.training.losses import losses
from sam2s_model.training.rollout import object_masks, rollout


def test_losses_are_their_formulas():
    logits = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
    truth = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    decoded = Decoded(
        torch.stack((logits, logits))[:, None], torch.tensor([0.9, 0.3]), torch.zeros(2, 1), torch.tensor([1.0, -2.0])
    )
    got = losses(decoded, torch.stack((truth, torch.zeros(2, 2))))  # the second object is not there
    p = 1 / (1 + np.exp(-logits.numpy()))
    y = truth.numpy()
    entropy = np.mean(-np.log(np.where(y == 1, p, 1 - p)))
    assert got.entropy.item() == pytest.approx(entropy, rel=1e-5)
    assert got.dice.item() == pytest.approx(1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1), rel=1e-5)
    assert got.iou.item() == pytest.approx(abs(0.9 - 0.5), rel=1e-5)
    assert got.presence.item() == pytest.approx((np.log1p(np.exp(-1.0)) + np.log1p(np.exp(-2.0))) / 2, rel=1e-5)
    assert got.total.item() == pytest.approx(4 * entropy + (got.dice + got.iou + got.presence).item(), rel=1e-5)


def test_clips_are_a_function_of_the_seed():
    first, second = (draw_clip(np.random.default_rng(5), 3, 64) for _ in range(2))
    assert first.images.shape == (3, 64, 64, 3) and first.labels.shape == (3, 64, 64)
    assert (first.images == second.images).all() and (first.labels == second.labels).all()
    assert (first.images != draw_clip(np.random.default_rng(6), 3, 64).images).any()


def test_batches_are_a_function_of_the_step():
    options = dict(fresh=1, frames=4, length=2, size=64)
    first, second, other = (batch(3, step, **options) for step in (7, 7, 8))
    assert [clip.images.shape for clip in first] == [(2, 64, 64, 3)] * 2
    assert all((a.images == b.images).all() and (a.labels == b.labels).all() for a, b in zip(first, second))
    assert any((a.images != b.images).any() for a, b in zip(first, other))


@pytest.mark.parametrize("text", ["128", "a,1,1,1", "64,4,10,2", "64,0,1,1", "64,1,1,1,1"])
def test_a_bad_phase_is_refused(text):
    with pytest.raises(ConfigError, match=f"phase is '{text}': expected"):
        Phase.parse(text)


def test_objects_too_small_to_prompt_are_left_out():
    labels = np.zeros((2, 64, 64), np.uint8)
    labels[:, 10:30, 10:30] = 1
    labels[0, 0, 0] = 2
    labels[1, 40:60, 40:60] = 2
    masks, owner = object_masks([Clip(np.zeros((2, 64, 64, 3), np.uint8), labels)])
    assert masks.shape == (1, 2, 32, 32) and owner.tolist() == [0] and masks[0, 0].sum() == 100


@pytest.mark.parametrize("prompt, frames", [("box", 3), ("point", 3), ("mask", 2)])
def test_every_part_of_the_model_gets_a_gradient(prompt, frames):
    torch.manual_seed(0)
    model = Sam2Model(PICO, image_size=64).train()
    rng = np.random.default_rng(1)
    out = rollout(model, [draw_clip(rng, 3, 64) for _ in range(2)], prompt, rng)
    assert len(out) == frames
    torch.stack([frame.total for frame in out]).mean().backward()
    without = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"image_encoder", "sam_mask_decoder", "memory_attention", "memory_encoder", "obj_ptr_proj"} <= touched, without


def test_a_run_learns_and_a_killed_run_resumes_to_the_same_weights(tmp_path):
    def run(folder, *stops):
        torch.manual_seed(0)
        for steps in stops:
            model = Sam2Model(PICO, image_size=64).train()
            short = Schedule((Phase(64, 1, 6, 4), Phase(96, 2, 4, 4)), lr=2e-3)
            limited = Interrupted(short, steps)
            try:
                train(model, limited, folder)
            except KeyboardInterrupt:
                pass
        return load_model(folder / "model.safetensors", image_size=64, device="cpu"), [
            json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()
        ]

    whole, log = run(tmp_path / "whole", 10)
    assert log[-1]["step"] == 9 and all(np.isfinite(entry["loss"]) for entry in log)
    assert min(entry["loss"] for entry in log[3:]) < log[0]["loss"]
    resumed, _ = run(tmp_path / "killed", 5, 10)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, atol=1e-6, rtol=1e-4)


class Interrupted:
    """A schedule whose run is killed after some steps, having saved."""

    def __init__(self, schedule: Schedule, stop: int):
        self._schedule, self._stop = schedule, stop

    def __getattr__(self, name):
        return getattr(self._schedule, name)

    @property
    def save_every(self) -> int:
        return self._stop

    def rate(self, step: int) -> float:
        if step >= self._stop:
            raise KeyboardInterrupt
        return self._schedule.rate(step)
