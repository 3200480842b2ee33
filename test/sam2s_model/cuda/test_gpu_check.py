"""`sam2s doctor --gpu` on the stand-in: each part runs to its end, passes, and finds planted faults."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stand_in import SMALL, cuda, joined

from sam2s_model.acceleration import graphs
from sam2s_model.acceleration.compiling import FOLDER
from sam2s_model.acceleration.graphs import CudaCapture
from sam2s_model.bench.timing import Spread
from sam2s_model.errors import ConfigError
from sam2s_model.gpu_check import computation, living, rollouts, speed
from sam2s_model.gpu_check.part import FAIL, OK, WARN, Check, Setting
from sam2s_model.gpu_check.parts import PARTS
from sam2s_model.network.model import Sam2Model


def small(side: int) -> Sam2Model:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Sam2Model(SMALL, side).eval().requires_grad_(False)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
    return model


class Small(Setting):
    def images(self, count: int = 12, height: int = 72, width: int = 96) -> list[np.ndarray]:
        size = min(height, 96), min(width, 128)
        return [np.random.default_rng(i).integers(0, 255, (*size, 3), dtype=np.uint8) for i in range(min(count, 3))]


@pytest.fixture
def setting(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER, str(tmp_path / "programs"))
    monkeypatch.setattr(graphs, "_free_streams", {})
    monkeypatch.setattr(CudaCapture, "refused", "")
    monkeypatch.setattr(rollouts, "POLICIES", ["match"])
    with cuda(old=False) as device:
        yield Small(torch.device("cuda:0"), {"small": small}, side=64, frames=13, long=40, timed=3)
        assert not device.faults


def run(number: int, setting: Setting) -> list:
    (part,) = (part for part in PARTS if part.number == number)
    return list(part.run(setting))


LONG = (7, 8, 10)  # whole streams, which test_rollouts.py and test_tracking.py have in the quick run


@pytest.mark.parametrize(
    "number",
    [pytest.param(n, marks=pytest.mark.full if n in LONG else ()) for n in (1, 2, 4, 5, 6, 7, 8, 10, 13, 14, 16)],
)
def test_a_part_finds_nothing_wrong(setting, number):
    found = run(number, setting)
    assert found and all(check.level == OK for check in found), [check for check in found if check.level != OK]
    assert all(check.expected and check.got for check in found)
    if number == 2:
        assert any("keys cached" in check.what for check in found)


def test_a_folder_that_programs_cannot_be_kept_in_is_found(setting, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER, str(tmp_path / "file" / "programs"))
    (found,) = (check for check in run(1, setting) if check.what == "what torch compiles")
    assert found.level == WARN and found.got.endswith("cannot be written to") and FOLDER in found.advice


def test_numbers_are_those_of_the_list():
    assert [part.number for part in PARTS] == list(range(1, 17))


def test_half_precision_is_judged(setting):
    """The small model's random weights amplify what a trained one's do not: what is checked is that all parts are."""
    found = run(3, setting)
    assert {check.what.split(" (")[0] for check in found if "bfloat16" in check.what} >= {
        "small: image encoder",
        "small: memory encoder",
    }
    assert all("relative L2" in check.expected for check in found)


def test_a_capture_that_fails_is_got_over(setting):
    found = run(9, setting)
    assert [check.level for check in found[:3]] == [OK] * 3, found
    assert CudaCapture.refused


def test_waits_of_a_graphed_step_are_none(setting, monkeypatch):
    monkeypatch.setattr(rollouts, "follow", lambda tracker, images, frames: own(tracker, images, 8))
    found = run(11, setting)
    assert all(check.level == OK for check in found), found


own = rollouts.follow


def test_two_threads(setting, monkeypatch):
    caught = living._caught

    def on_the_stand_in(run, problems):
        with joined():
            caught(run, problems)

    monkeypatch.setattr(living, "_caught", on_the_stand_in)
    found = run(12, replace(setting, frames=3))
    assert all(check.level == OK for check in found), found


@pytest.mark.full
def test_speed_is_told_whatever_it_is(setting, monkeypatch):
    def no_compiler(self):
        raise ConfigError("no compiler here")

    monkeypatch.setattr(Sam2Model, "compile_encoder", no_compiler)
    monkeypatch.setattr(speed, "WARM", 4)
    found = run(15, setting)
    assert sum("FPS" in check.got for check in found) == 6 and all(check.level != FAIL for check in found)


def test_a_compiled_encoder_is_compared_with_one_that_is_not(setting, monkeypatch):
    """What is expected is what decides, and the advice is about it."""
    spreads = iter([Spread(5.0, 5.0, 5.0, 5.0, 9)] * 6 + [Spread(6.0, 6.0, 6.0, 6.0, 9)])
    monkeypatch.setattr(Sam2Model, "compile_encoder", lambda self: None)
    monkeypatch.setattr(speed, "_times", lambda *_: (next(spreads), [0.0]))
    for other in ("_first_mask", "_kernels"):
        monkeypatch.setattr(speed, other, lambda *_: Check(OK, "beside it", "", ""))
    found = [check for check in run(15, setting) if "compiled" in check.what]
    assert [(check.level, check.expected, check.advice) for check in found] == [
        (WARN, "median at most 1.05 times the 5.00 ms without compilation", "leave compile at false")
    ]


def test_each_gpu_is_started_as_a_node_starts_it(setting, monkeypatch):
    """Its encoder is compiled, and the project's own kernels serve it; what cannot be is a failure."""
    compiled, served = [], [True, False]
    monkeypatch.setattr(living, "pays_off", lambda device: device.type == "cuda")
    monkeypatch.setattr(Sam2Model, "compile_encoder", lambda self: compiled.append(self))
    monkeypatch.setattr(living, "kernels", SimpleNamespace(serves=lambda x: served[0]))
    monkeypatch.setattr(living, "follow", lambda *_: [])
    assert [check.level for check in run(16, setting)] == [OK, OK] and len(compiled) == 1
    served.pop(0)
    assert [check.level for check in run(16, setting)] == [FAIL, OK]

    def lacks(self):
        raise ConfigError("torch cannot: no Triton")

    monkeypatch.setattr(Sam2Model, "compile_encoder", lacks)
    (found, _) = run(16, setting)
    assert found.level == FAIL and found.got == "torch cannot: no Triton"


def test_another_result_is_found(setting, monkeypatch):
    """A part fails where the device computes something else."""
    encode = Sam2Model.encode_image

    def wrong(self, image):
        features = encode(self, image)
        return replace(features, coarse=features.coarse * 1.01) if self.device.type == "cuda" else features

    monkeypatch.setattr(Sam2Model, "encode_image", wrong)
    levels = {check.what: check.level for check in computation.networks_in_fp32(setting)}
    assert levels["small: image encoder (0), fp32"] == FAIL and levels["small: mask decoder (0), fp32"] == OK
