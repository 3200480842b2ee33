"""Teachers: what their loss is, packs and live ones, and that nothing of them is in the checkpoint."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sam2s_model.checkpoint import load_model
from sam2s_model.config import PICO
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.network.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT
from sam2s_model.training.batches import batch
from sam2s_model.training.config import LossConfig, OptimizerConfig, Phase, PromptConfig, TeacherConfig, TrainConfig
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.distillation import Distillation, unlike
from sam2s_model.training.loop import run_training
from sam2s_model.training.objects import choose_objects
from sam2s_model.training.pack import TeacherPack
from sam2s_model.training.rollout import encode_clips
from sam2s_model.training.teacher import Teacher

SCENE = SourceConfig("scene", height=64, scenes=2, frames=8)
DATA = DataConfig(sources=(SCENE,), size=64, length=2, frames=4, scene_pool=2, image_share=0.0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A random model as a checkpoint."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(Sam2Model(PICO).state_dict(), path)
    return path


def config(folder, **changes) -> TrainConfig:
    known = dict(
        model="sam2s_pico",
        device="cpu",
        output=str(folder),
        data=DATA,
        phases=(Phase(steps=12),),
        log_every=4,
        optimizer=OptimizerConfig(lr=2e-3, warmup=1, clip=1.0),
        loss=LossConfig(stride=2),
        prompts=PromptConfig(clicks=0),
    )
    return TrainConfig(**{**known, **changes})


def test_unlike_is_one_minus_the_cosine_where_the_teacher_is_known():
    rng = np.random.default_rng(0)
    said, target = rng.normal(size=(2, 5, 3, 4)).astype(np.float32), rng.normal(size=(2, 5, 3, 4)).astype(np.float32)
    target[1, :, 0] = np.nan
    cosine = (said * target).sum(1) / np.linalg.norm(said, axis=1) / np.linalg.norm(target, axis=1)
    expected = (1 - cosine[0]).mean() + (1 - cosine[1, 1:]).mean()
    tensor = torch.tensor(said, requires_grad=True)
    got = unlike(tensor, torch.tensor(target))
    assert got.item() == pytest.approx(expected, rel=1e-5)
    got.backward()
    assert tensor.grad.isfinite().all() and not tensor.grad[1, :, 0].any()


def test_features_are_compared_at_the_teachers_size():
    said = torch.randn(1, 4, 4, 4)
    assert unlike(said, torch.nn.functional.interpolate(said, size=(8, 8), mode="bilinear")).item() < 0.2
    assert unlike(torch.ones(1, 4, 4, 4), -torch.ones(1, 4, 2, 2)).item() == pytest.approx(2)


def test_a_student_learns_the_features_of_a_live_teacher(tmp_path, teacher):
    run_training(config(tmp_path, teacher=TeacherConfig(str(teacher), 64)), quiet=True)
    said = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert said[-1]["features"] < 0.8 * said[0]["features"] and said[0]["masks"] >= 0
    assert not any("heads" in name for name in load_file(tmp_path / "model.safetensors"))
    assert load_model(tmp_path / "model.safetensors", device="cpu").has_memory


def test_a_teacher_with_the_same_decoder_is_compared_on_all_levels(tmp_path, teacher):
    asked = config(tmp_path, teacher=TeacherConfig(str(teacher)))
    model = Sam2Model(asked.model_config(), 64)
    clips = batch(DATA, 0, 0)
    distillation = Distillation(model, asked)
    assert not distillation.heads
    seen = distillation.teacher_features(clips)
    assert seen.coarse.shape[-2:] == (4, 4)  # at the clips' size
    assert distillation.feature_loss(model, clips, seen, seen).item() == 0
    for level in ("coarse", "middle", "fine"):
        shifted = getattr(seen, level) + getattr(seen, level).flatten(1).std(1)[:, None, None, None]
        loss = distillation.feature_loss(model, clips, dataclasses.replace(seen, **{level: shifted}), seen)
        assert loss.item() == pytest.approx(distillation.frames(clips) / 3, rel=1e-3), level


def test_a_teacher_with_another_decoder_needs_a_head(tmp_path, teacher):
    asked = config(tmp_path, model="sam2s_nano", teacher=TeacherConfig(str(teacher)))
    model = Sam2Model(asked.model_config(), 64)
    distillation = Distillation(model, asked)
    clips = batch(DATA, 0, 0)
    encoded, seen = encode_clips(model, clips), distillation.teacher_features(clips)
    expected = unlike(distillation.heads["live"](encoded.coarse), seen.coarse)
    torch.testing.assert_close(distillation.feature_loss(model, clips, encoded, seen), expected)


def test_clips_that_come_again_are_looked_at_once(tmp_path, teacher, monkeypatch):
    asked = config(tmp_path, teacher=TeacherConfig(str(teacher)))
    distillation = Distillation(Sam2Model(asked.model_config(), 64), asked)
    looked = []
    encode = Teacher.encode
    monkeypatch.setattr(Teacher, "encode", lambda self, images: looked.append(len(images)) or encode(self, images))
    pool = dataclasses.replace(DATA, length=1, pool=2)
    seen = [distillation.teacher_features(batch(pool, 0, step)) for step in (0, 1, 2)]
    assert len(looked) == 2 * pool.frames
    assert torch.equal(seen[0].fine, seen[2].fine) and not torch.equal(seen[0].fine, seen[1].fine)
    distillation.teacher_features(batch(DATA, 0, 0))
    distillation.teacher_features(batch(DATA, 0, 0))
    assert len(looked) == 2 * pool.frames + 4  # two clips, twice: others are not kept


def test_a_run_with_a_teacher_resumes_to_the_same_result(tmp_path, teacher):
    live = dict(teacher=TeacherConfig(str(teacher), 64), phases=(Phase(steps=6),))
    run_training(config(tmp_path / "whole", **live), quiet=True)
    run_training(config(tmp_path / "cut", **live), lambda step: step >= 3, quiet=True)
    run_training(config(tmp_path / "cut", **live), quiet=True)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_masks_are_the_teachers_for_the_same_prompts(tmp_path, teacher):
    clips = batch(DATA, 0, 0)
    objects = choose_objects(clips, range(len(clips)), (0, 0), 2, 0.001)
    asked = config(tmp_path, teacher=TeacherConfig(str(teacher), 128))
    distillation = Distillation(Sam2Model(asked.model_config(), 64), asked)
    ask = distillation.masks(distillation.teacher_features(clips), objects, 2, 64)
    points = torch.rand(len(objects), 2, 2) * 64
    labels = torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]).expand(len(objects), -1)
    got = ask(points, labels)
    alone = Teacher.load(teacher, 128, "cpu")
    for row, owner in enumerate(objects.owner):
        features = alone.encode(torch.from_numpy(clips[owner].images[:1]))
        expected = alone.decode(features, points[row : row + 1] / 64, labels[row : row + 1])[0].sigmoid()
        torch.testing.assert_close(got.best[row : row + 1], expected.clone(), atol=1e-4, rtol=1e-3)
    assert got.masks.shape[1] == 1 and ask(points[:, :1], labels[:, :1] * 0 + 1).masks.shape[1] == 3, (
        "a click has three answers"
    )


def test_packed_features_teach_where_there_are_some(tmp_path):
    clips = batch(DATA, 0, 0)
    rng = np.random.default_rng(0)
    pack = TeacherPack.of(
        ["a"], rng.normal(size=(1, 6, 4, 4)), np.zeros(8), np.zeros((6, 8)), [np.zeros((0, 4, 4), bool)]
    )
    pack.save(tmp_path / "pack.safetensors")
    source = dataclasses.replace(SCENE, teacher=str(tmp_path / "pack.safetensors"))
    asked = config(tmp_path, data=dataclasses.replace(DATA, sources=(source,)))
    model = Sam2Model(asked.model_config(), 64)
    distillation = Distillation(model, asked)
    targets = rng.normal(size=(2, 6, 4, 4)).astype(np.float16)
    clips = [clips[0], dataclasses.replace(clips[1], features=targets)]
    coarse = torch.randn(4, model.config.dim, 4, 4)
    encoded = dataclasses.make_dataclass("Encoded", ["coarse"])(coarse)
    assert distillation.frames(clips) == 2 and distillation.frames(clips[:1]) == 0
    expected = unlike(distillation.heads["pack"](coarse[2:]), torch.tensor(targets))
    torch.testing.assert_close(distillation.feature_loss(model, clips, encoded, None), expected)


def test_two_packs_are_refused(tmp_path):
    sources = tuple(dataclasses.replace(SCENE, teacher=f"{name}.safetensors") for name in "ab")
    with pytest.raises(ConfigError, match="data has the packs a.safetensors, b.safetensors: expected one"):
        Distillation(Sam2Model(PICO), config(tmp_path, data=dataclasses.replace(DATA, sources=sources)))


def test_without_a_teacher_there_is_nothing_to_learn(tmp_path):
    distillation = Distillation(Sam2Model(PICO), config(tmp_path))
    assert not list(distillation.parameters()) and distillation.teacher_features([]) is None
    assert distillation.frames(batch(DATA, 0, 0)) == 0
