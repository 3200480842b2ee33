"""Whole runs: one that is killed ends as if it had not been, two processes do what one does, frozen weights stay."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sam2s_model.checkpoint import load_model
from sam2s_model.config import PICO, ModelConfig
from sam2s_model.errors import CheckpointError, ConfigError, TrainingError
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import MEMORY_PARTS, Sam2Model
from sam2s_model.training import loop
from sam2s_model.training.config import (
    EvaluationConfig,
    LossConfig,
    OptimizerConfig,
    Phase,
    PromptConfig,
    TrainConfig,
    as_table,
)
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.loop import run_training
from sam2s_model.training.start import start_model
from sam2s_model.training.state import load_state, save_state

ROOT = Path(__file__).resolve().parents[3]
SCENE = SourceConfig("scene", height=64, scenes=2, frames=12)
CONFIG = TrainConfig(
    model="sam2s_pico",
    device="cpu",
    half=False,
    save_every=3,
    log_every=3,
    phases=(Phase(steps=4, length=1, frames=4), Phase(steps=8)),
    data=DataConfig(sources=(SCENE,), size=64, length=3, frames=6, scene_pool=4, image_share=0.25),
    optimizer=OptimizerConfig(lr=1e-3, warmup=3, clip=1.0, ema=0.9),
    loss=LossConfig(stride=2, entropy_steps=10),
    prompts=PromptConfig(clicks=1),
)


def config(folder: Path, **changes) -> TrainConfig:
    return dataclasses.replace(CONFIG, output=str(folder), **changes)


def lines(folder: Path, *without: str) -> list[dict]:
    found = [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", *without)} for line in found]


def assert_same_weights(first: Path, second: Path, **close) -> None:
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert a.keys() == b.keys()
    torch.testing.assert_close(b, a, **close or dict(atol=0, rtol=0))  # names the tensor that differs


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """12 steps at once."""
    folder = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    outcome = run_training(config(folder), quiet=True)
    assert outcome.steps == 12
    return folder


def test_a_run_learns_and_leaves_a_checkpoint_log_and_recipe(whole):
    log = lines(whole)
    assert [line["step"] for line in log] == [3, 6, 9, 12]
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    model = load_model(whole / "model.safetensors", device="cpu")
    assert model.has_memory and model.config.long_term_embedding and model.config.num_classes == 8
    assert yaml.safe_load((whole / "config.yaml").read_text()) == as_table(config(whole))


def test_a_run_that_was_stopped_goes_on_to_the_same_result(whole, tmp_path):
    for stop in (2, 7, 11):
        assert run_training(config(tmp_path), lambda step, stop=stop: step >= stop, quiet=True).steps == stop
    assert run_training(config(tmp_path), quiet=True).steps == 12
    assert lines(tmp_path) == lines(whole)
    assert_same_weights(whole, tmp_path)


def test_a_killed_process_loses_nothing_that_was_saved(whole, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_table(config(tmp_path / "run"))))
    command = [sys.executable, "-m", "sam2s_model.training", str(tmp_path / "config.yaml")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    options = dict(cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    process = subprocess.Popen(command, **options)
    limit = time.monotonic() + 120
    while not (tmp_path / "run" / "state.pt").exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, said
    done = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"]
    assert 3 <= done < 12
    assert run_training(config(tmp_path / "run"), quiet=True).steps == 12
    assert lines(tmp_path / "run") == lines(whole)
    assert_same_weights(whole, tmp_path / "run")


def test_a_finished_run_is_not_done_again(whole, monkeypatch):
    monkeypatch.setattr(loop.Trainer, "update", lambda *_: pytest.fail("a step was done"))
    before = lines(whole)
    assert run_training(config(whole), quiet=True).steps == 12 and lines(whole) == before


def test_a_run_goes_on_when_the_program_has_learnt_new_options(tmp_path):
    asked = config(tmp_path, phases=(Phase(steps=2, length=1, frames=2),))
    save_state(tmp_path, {"step": 7}, asked)
    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    del stored["config"]["loss"]["correspondence"], stored["config"]["data"]["sources"][0]["threshold"]
    torch.save(stored, tmp_path / "state.pt")
    assert load_state(tmp_path, asked)["step"] == 7
    with pytest.raises(ConfigError, match="holds a run with loss.correspondence = 0.0, not 1.0"):
        load_state(
            tmp_path, dataclasses.replace(asked, loss=LossConfig(stride=2, entropy_steps=10, correspondence=1.0))
        )


def test_a_folder_with_another_run_is_refused(whole):
    with pytest.raises(
        ConfigError, match=r"holds a run with optimizer.lr = 0.001, not 0.1: give another output folder"
    ):
        run_training(config(whole, optimizer=dataclasses.replace(CONFIG.optimizer, lr=0.1)), quiet=True)
    (whole.parent / "broken").mkdir()
    (whole.parent / "broken" / "state.pt").write_bytes(b"no state")
    with pytest.raises(TrainingError, match="state.pt is not the state of a run"):
        run_training(config(whole.parent / "broken"), quiet=True)


def test_two_processes_do_what_one_does_with_the_same_batch(whole, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(as_table(config(tmp_path / "run"))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-m", "sam2s_model.training", str(tmp_path / "config.yaml")]
    options = dict(cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    processes = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **options)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [line["step"] for line in lines(tmp_path / "run")] == [3, 6, 9, 12]
    for one, two in zip(lines(whole), lines(tmp_path / "run"), strict=True):
        assert {k: v for k, v in two.items() if v is not None} == pytest.approx(
            {k: v for k, v in one.items() if v is not None}, rel=2e-2, abs=1e-3
        )
    first, last = lines(whole)[0], lines(tmp_path / "run")[0]
    assert last["loss"] == pytest.approx(first["loss"], rel=1e-4)
    assert_same_weights(whole, tmp_path / "run", atol=3e-3, rtol=1e-2)


def test_a_batch_in_parts_is_the_same_batch(whole, tmp_path):
    parted = config(tmp_path, optimizer=dataclasses.replace(CONFIG.optimizer, accumulate=3), phases=CONFIG.phases)
    run_training(parted, lambda step: step >= 4, quiet=True)
    assert lines(tmp_path)[0]["loss"] == pytest.approx(lines(whole)[0]["loss"], rel=1e-4)


@pytest.mark.parametrize("names", [("image_half",), ("image_encoder", "sam_prompt_encoder.mask_downscaling")])
def test_frozen_weights_stay_bit_equal_and_all_others_learn(tmp_path, names):
    frozen = config(
        tmp_path, freeze=names, phases=(Phase(steps=4),), data=dataclasses.replace(CONFIG.data, image_share=0.0)
    )
    before = start_model(frozen, lambda text: None).state_dict()
    trainer = loop.Trainer(frozen, loop.World(), quiet=True)
    trainer.run()
    after = trainer.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    if names == ("image_half",):
        assert changed and all(name.startswith(MEMORY_PARTS) for name in changed)
        for part in ("memory_attention.", "memory_encoder.", "obj_ptr_proj.", "sam_mask_decoder.pred_obj_score_head."):
            assert any(name.startswith(part) for name in changed), part
    else:
        assert not any(name.startswith(names) for name in changed)
        assert any(name.startswith("sam_prompt_encoder.") for name in changed) and any(
            n.startswith("sam_mask_decoder.") for n in changed
        )


def test_a_phase_can_leave_the_image_encoder_as_it_is(tmp_path):
    asked = config(tmp_path, phases=(Phase(steps=3, learn_encoder=False),))
    before = start_model(asked, lambda text: None).state_dict()
    run_training(asked, quiet=True)
    after = load_file(tmp_path / "model.safetensors")
    fine = ("image_encoder.", "sam_mask_decoder.conv_s0", "sam_mask_decoder.conv_s1")
    assert all(torch.equal(after[k], v) for k, v in before.items() if k.startswith(fine))
    assert all(
        not torch.equal(after[k], v) for k, v in before.items() if k.startswith("memory_attention.layers.0.self")
    )


def test_a_run_can_take_the_decoder_of_another_model(tmp_path):
    torch.manual_seed(3)
    given = Sam2Model(ModelConfig.from_name("sam2_hiera_tiny"), 64).state_dict()
    save_file({k: v for k, v in given.items() if not k.startswith(MEMORY_PARTS)}, tmp_path / "tiny.safetensors")
    asked = config(tmp_path, model="sam2s_nano", decoder_from=str(tmp_path / "tiny.safetensors"))
    state = start_model(asked).state_dict()
    same = {k for k, v in state.items() if k in given and given[k].shape == v.shape and torch.equal(v, given[k])}
    decoder = {
        k for k in state if k.startswith(("sam_prompt_encoder.", "sam_mask_decoder.transformer.", "no_mem_embed"))
    }
    assert decoder and decoder <= same and "sam_mask_decoder.conv_s0.weight" not in same
    assert (state["memory_attention.norm.weight"] < 0.5).all()
    with pytest.raises(CheckpointError, match="does not fit sam2s_pico"):
        start_model(dataclasses.replace(asked, model="sam2s_pico"))


def test_the_package_as_a_start_is_the_same_with_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # where the default for tracking is another
    assert start_model(config(tmp_path, model="auto", init="package"), lambda text: None).name == "sam2s_nano"


def test_what_to_freeze_must_be_there(tmp_path):
    with pytest.raises(
        ConfigError, match="freeze names 'decoder': expected image_half or the beginning of a weight's name"
    ):
        run_training(config(tmp_path, freeze=("decoder",)), quiet=True)
    with pytest.raises(ConfigError, match="expected that something is left to learn"):
        run_training(
            config(
                tmp_path,
                freeze=tuple({n.split(".")[0] for n, _ in Sam2Model(CONFIG.model_config()).named_parameters()}),
            ),
            quiet=True,
        )


def test_batch_statistics_are_learnt_only_where_a_phase_says_so(tmp_path):
    small = dict(model="sam2s_nano", data=dataclasses.replace(CONFIG.data, frames=2, length=1, scene_pool=1))
    for learns in (True, False):
        trainer = loop.Trainer(
            config(tmp_path / str(learns), phases=(Phase(steps=1, learn_statistics=learns),), **small),
            loop.World(),
            quiet=True,
        )
        before = {
            name: value.clone() for name, value in trainer.model.state_dict().items() if name.endswith("running_mean")
        }
        trainer.run()
        moved = any(not torch.equal(trainer.model.state_dict()[name], value) for name, value in before.items())
        assert before and moved == learns


def test_a_run_can_start_from_an_image_half(tmp_path):
    torch.manual_seed(3)
    source = Sam2Model(PICO).state_dict()
    half = {name: value for name, value in source.items() if not name.startswith(MEMORY_PARTS)}
    save_file(half, tmp_path / "half.safetensors")
    told: list[str] = []
    model = start_model(config(tmp_path, init=str(tmp_path / "half.safetensors")), told.append)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in half.items())
    assert "lacks long_term_tpos_enc, mask_downsample" in told[0] and "start from random weights" in told[0]
    save_file(source, tmp_path / "whole.safetensors")
    model = start_model(config(tmp_path, init=str(tmp_path / "whole.safetensors")), told.append)
    assert torch.equal(model.long_term_tpos_enc, model.maskmem_tpos_enc[-1:])
    save_file({**half, "extra": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="is not a checkpoint of sam2s_pico: 1 differences, 'extra'"):
        start_model(config(tmp_path, init=str(tmp_path / "other.safetensors")), told.append)


def test_a_second_memory_attention_starts_as_the_first_and_silent(tmp_path):
    torch.manual_seed(3)
    source = Sam2Model(PICO).state_dict()
    save_file(source, tmp_path / "whole.safetensors")
    told: list[str] = []
    asked = config(tmp_path, init=str(tmp_path / "whole.safetensors"), short_attention=True)
    model = start_model(asked, told.append).eval()
    assert "the second starts as the first" in told[0] and not any("recent_memory_attention" in text for text in told)
    state = model.state_dict()
    assert torch.equal(
        state["recent_memory_attention.layers.1.linear1.weight"], source["memory_attention.layers.1.linear1.weight"]
    )
    tokens, (h, w) = torch.randn(1, 2, model.memory_tokens, model.config.memory_dim), model.grid
    features = ImageFeatures(torch.randn(1, model.config.dim, h, w), torch.zeros(0), torch.zeros(0))
    args = features, tokens, torch.tensor([[0, 6]]), torch.randn(1, 1, model.config.dim), torch.ones(1, 1), None
    with torch.no_grad():
        alone = model.with_memory(*args)
        both = model.with_memory(*args, (tokens[:, :1], torch.tensor([[0]])))
    torch.testing.assert_close(both.features, alone.features, atol=1e-4, rtol=1e-4)


def test_time_can_be_limited(tmp_path):
    outcome = run_training(config(tmp_path, max_minutes=1e-6), quiet=True)
    assert outcome.steps == 0 and (tmp_path / "state.pt").exists() and outcome.checkpoint.exists()


def test_evaluation_is_in_the_log_and_in_the_outcome(tmp_path):
    options = EvaluationConfig(sources=(SCENE,), every=2, frames=4)
    outcome = run_training(config(tmp_path, phases=(Phase(steps=3),), evaluation=options), quiet=True)
    told = [line for line in lines(tmp_path) if "jf" in line]
    assert [line["step"] for line in told] == [2, 3] and [score.name for score in outcome.scores] == list(
        told[0]["jf_each"]
    )
    assert len(outcome.scores) == 2


def test_a_loss_that_is_no_number_ends_the_run(tmp_path, monkeypatch):
    trainer = loop.Trainer(config(tmp_path, phases=(Phase(steps=40, length=1, frames=1),)), loop.World(), quiet=True)
    with torch.no_grad():
        trainer.model.no_mem_embed.fill_(float("nan"))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(TrainingError, match="the gradient was not finite for 20 steps"):
        trainer.run()
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if name != "no_mem_embed")


def test_bfloat16_learns_as_well(tmp_path, whole):
    run_training(config(tmp_path, precision="bf16"), quiet=True)
    assert lines(tmp_path)[-1]["loss"] == pytest.approx(lines(whole)[-1]["loss"], rel=0.25)
