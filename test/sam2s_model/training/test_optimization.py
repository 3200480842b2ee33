"""The learning rate, the groups of weights, their average, and the log."""

from __future__ import annotations

import math

import pytest
import torch

from sam2s_model.config import PICO
from sam2s_model.network.model import Sam2Model
from sam2s_model.training.config import OptimizerConfig, Phase, TrainConfig
from sam2s_model.training.log import Log, plot_log
from sam2s_model.training.optimization import Average, learning_rate, make_optimizer, set_learning_rate

CONFIG = TrainConfig(
    phases=(Phase(steps=60), Phase(steps=40, lr=0.5)),
    optimizer=OptimizerConfig(lr=1e-2, final=0.1, warmup=10, encoder_lr=0.2),
)


@pytest.mark.parametrize("step, expected", [(0, 0.1 * 1.0), (4, 0.5), (10, 1.0), (50, 0.55), (60, None), (99, None)])
def test_the_rate_rises_then_follows_a_cosine_times_the_phases_factor(step, expected):
    cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 100))
    factor = min(1, (step + 1) / 10) * cosine * (1 if step < 60 else 0.5)
    assert learning_rate(CONFIG, step) == pytest.approx(1e-2 * factor)
    if expected is not None:
        assert learning_rate(CONFIG, step) == pytest.approx(1e-2 * expected, rel=0.03)


def test_vectors_and_embeddings_do_not_decay_and_the_encoder_has_its_own_rate():
    model = Sam2Model(PICO, 64)
    model.no_mem_embed.requires_grad_(False)
    optimizer = make_optimizer(model.named_parameters(), CONFIG)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}
    assert "no_mem_embed" not in found and len(found) == len(names) - 1
    assert found["memory_attention.layers.0.linear1.weight"]["weight_decay"] == 0.1
    for name in (
        "memory_attention.layers.0.linear1.bias",
        "maskmem_tpos_enc",
        "sam_mask_decoder.mask_tokens.weight",
        "no_obj_ptr",
    ):
        assert found[name]["weight_decay"] == 0, name
    set_learning_rate(optimizer, 1e-3)
    assert found["image_encoder.neck.convs.0.conv.weight"]["lr"] == pytest.approx(2e-4)
    assert found["memory_attention.layers.0.linear1.weight"]["lr"] == pytest.approx(1e-3)


def test_the_average_forgets_the_first_weights_and_keeps_counters():
    average = Average({"w": torch.zeros(2), "n": torch.tensor(0)}, 0.9)
    expected = 0.0
    for step in range(30):
        average.update({"w": torch.full((2,), float(step)), "n": torch.tensor(step)}, step)
        decay = min(0.9, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * step
    assert average.state["w"].tolist() == pytest.approx([expected] * 2, rel=1e-5) and average.state["n"].item() == 29


def test_no_average_is_the_newest_weights():
    average = Average({"w": torch.zeros(2)}, 0.0)
    average.update({"w": torch.tensor([3.0, 4.0])}, 100)
    assert average.state["w"].tolist() == [3, 4]


def test_lines_of_steps_that_are_done_again_are_forgotten_and_so_is_a_torn_one(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    for step in range(5):
        log.write({"step": step, "loss": 1.0 / (step + 1)})
    with open(log.path, "a") as file:
        file.write('{"step": 5, "lo')
    assert [line["step"] for line in log.lines()] == [0, 1, 2, 3, 4]
    log.forget_from(3)
    assert [line["step"] for line in log.lines()] == [0, 1, 2] and log.path.read_text().endswith("\n")


def test_a_plot_of_loss_and_scores(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: no plot")
    log = Log(tmp_path / "log.jsonl")
    for step in range(1, 6):
        log.write({"step": step, "loss": 1.0 / step, "iou_seen": None if step == 2 else 0.1 * step})
    log.write({"step": 5, "jf": 42.0})
    assert plot_log(log, tmp_path / "plot.png") == ""
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
