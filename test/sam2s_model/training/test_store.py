"""A teacher's store: the same bytes however often its making was cut short, what is in it, and training from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sam2s_model.config import PICO
from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.network.model import Sam2Model
from sam2s_model.training.batches import batch, clip_numbers
from sam2s_model.training.config import (
    LossConfig,
    OptimizerConfig,
    Phase,
    PromptConfig,
    RolloutConfig,
    TeacherConfig,
    TrainConfig,
)
from sam2s_model.training.data_config import NO_AUGMENTATION, AugmentConfig, DataConfig, SourceConfig
from sam2s_model.training.loop import run_training
from sam2s_model.training.store import BLOBS, ENTRIES, TeacherStore
from sam2s_model.training.teach import TeachConfig, teach
from sam2s_model.training.teacher import Teacher

SIZE = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A video with masks, stills with boxes, stills without masks, and a teacher of random weights."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for part in ("video/clip/frames", "video/clip/masks", "boxed/op/frames", "boxed/op/boxes", "plain/a"):
        (folder / part).mkdir(parents=True)
    for i in range(4):
        image, labels = rng.integers(0, 60, (60, 80, 3), dtype=np.uint8), np.zeros((60, 80), np.uint8)
        image[20:50, 10 + i : 50], labels[20:50, 10 + i : 50] = (200, 90, 30), 7
        labels[:5], labels[5:10] = 9, 3
        cv2.imwrite(str(folder / f"video/clip/frames/{i}.webp"), image)
        cv2.imwrite(str(folder / f"video/clip/masks/{i}.png"), labels)
        cv2.imwrite(str(folder / f"boxed/op/frames/{i}.jpg"), image)
        (folder / f"boxed/op/boxes/{i}.txt").write_text("3 0.4 0.6 0.5 0.5\n")
        cv2.imwrite(str(folder / f"plain/a/{i}.jpg"), 255 - image)
    torch.manual_seed(5)
    model = Sam2Model(PICO)
    with torch.no_grad():  # so that its masks have a shape, and it is sure of them
        for mlp in model.sam_mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight *= 2000
        model.sam_mask_decoder.iou_prediction_head.layers[-1].bias.fill_(3.0)
    save_file(model.state_dict(), folder / "teacher.safetensors")
    (folder / "labels.yaml").write_text("name: x\nclasses: [{id: 4, name: scissors, color: [1, 2, 3]}]\n")
    return folder


@pytest.fixture(scope="module")
def taught(data) -> TeachConfig:
    return TeachConfig(
        checkpoint=str(data / "teacher.safetensors"), size=SIZE, device="cpu", precision="fp32", coarse=2, fine=3,
        sources=(
            SourceConfig("folder", str(data / "video"), values=(7,), ignore=(9,), class_name="object"),
            SourceConfig("boxes", str(data / "boxed"), label_set=str(data / "labels.yaml"), stills=True, views=3),
            SourceConfig("images", str(data / "plain"), views=2),
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(taught, tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("store") / "whole"
    assert teach(taught, folder) == (4 + 12 + 8, [])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_store_that_was_cut_short_twice_ends_with_the_same_bytes(taught, store, tmp_path):
    cut = tmp_path / "cut"
    teach(taught, cut, lambda count: count >= 5)
    with open(cut / "fine.f16", "ab") as file:
        file.write(b"half of an entry")  # as a kill leaves it
    with open(cut / ENTRIES, "ab") as file:
        file.write(b'{"recording": "ha')
    teach(taught, cut, lambda count: count >= 11)
    rows = (cut / ENTRIES).read_bytes().splitlines(keepends=True)
    (cut / ENTRIES).write_bytes(b"".join(rows[:-1]))  # between two views of one image, or before one
    assert teach(taught, cut) == (24, [])
    assert contents(cut) == contents(store)


def test_entries_are_views_and_what_the_teacher_says_of_them(taught, store, data):
    read, teacher = TeacherStore(store), Teacher.load(taught.checkpoint, SIZE, "cpu")
    assert len(read) == 24 == read.header["planned"] and read.size == SIZE
    proposed = 0
    for i, entry in enumerate(read.entries):
        image, labels, masks = read.image(i), read.labels(i), read.masks(i)
        said = teacher.encode(torch.from_numpy(image)[None])
        for level, stored in zip((said.coarse, said.middle, said.fine), read.levels(i), strict=True):
            torch.testing.assert_close(torch.from_numpy(stored), level[0].half(), rtol=0, atol=0)
        assert masks.shape[1:] == (SIZE // 2, SIZE // 2) and masks.dtype == bool
        proposed += len(masks)
        if "video" in entry.recording:
            assert np.unique(labels).tolist() == [0, 7, 255] and entry.classes == {7: "object"}
            assert (labels[:4] == 255).all() and 0.2 < (labels == 7).mean() < 0.35
        elif "boxed" in entry.recording:
            assert set(np.unique(labels)) <= {0, 4, 255} and entry.classes in ({}, {4: "scissors"})
        else:
            assert labels is None
    assert proposed > 10
    boxed = [e for e in read.entries if "boxed" in e.recording]
    assert any(e.classes == {4: "scissors"} for e in boxed), "a sure mask for a box has the box's class"
    whole = [i for i, e in enumerate(read.entries) if e.view == 0 and "plain" in e.recording]
    crops = [i for i, e in enumerate(read.entries) if e.view == 1 and "plain" in e.recording]
    assert len(whole) == len(crops) == 4 and np.abs(read.image(whole[0]).astype(int) - read.image(crops[0])).mean() > 5


def test_a_file_that_cannot_be_read_is_left_out_and_named(taught, tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((50, 50, 3), 60 * i, np.uint8))
    (tmp_path / "1.png").write_bytes(b"damaged")
    count, left_out = teach(
        dataclasses.replace(taught, sources=(SourceConfig("images", str(tmp_path)),)), tmp_path / "store"
    )
    assert count == 2 and len(left_out) == 1 and "1.png is not a readable image" in left_out[0]


def test_a_store_of_something_else_is_refused(taught, store, tmp_path):
    with pytest.raises(ConfigError, match="is of a store with coarse = 2, not 3: give another folder"):
        teach(dataclasses.replace(taught, coarse=3), store)
    with pytest.raises(SourceError, match="is not the head of a teacher's store"):
        TeacherStore(tmp_path)
    with pytest.raises(ConfigError, match="kind 'scene': expected files"):
        dataclasses.replace(taught, sources=(SourceConfig("scene"),))
    with pytest.raises(ConfigError, match="expected some, of size = 96"):
        batch(
            DataConfig(sources=(SourceConfig("store", str(store)),), size=96, length=1, frames=2, image_share=1.0), 0, 0
        )


def views(store: Path, **changes) -> DataConfig:
    known = dict(
        sources=(SourceConfig("store", str(store)),), size=SIZE, length=1, frames=8, views=2, augment=NO_AUGMENTATION
    )
    return DataConfig(**{**known, **changes})


def test_two_views_of_a_scene_follow_each_other_as_the_teacher_saw_them(store):
    read, several = TeacherStore(store), 0
    by_image = {read.image(i).tobytes(): i for i in range(len(read))}
    for step in range(6):
        clips = batch(views(store), 0, step)
        assert len(clips) == 8
        for a, b in zip(clips[::2], clips[1::2], strict=True):
            i, j = (by_image[clip.images[0].tobytes()] for clip in (a, b))
            assert a.scene == b.scene is not None and read.entries[i].recording == read.entries[j].recording
            several += i != j
            for clip, which in ((a, i), (b, j)):
                assert all((x[0] == y).all() for x, y in zip(clip.seen, read.levels(which), strict=True))
    assert several == 24, "every recording of it has more than one view"
    assert len({clip.scene for clip in clips}) == 4


def test_frames_out_of_reach_are_not_related_and_most_limits_the_store(store):
    read = TeacherStore(store)
    frames = {read.image(i).tobytes(): e.frame for i, e in enumerate(read.entries) if "video" in e.recording}
    near = views(store, sources=(SourceConfig("store", str(store), reach=1),))
    for step in range(8):
        clips = batch(near, 0, step)
        for a, b in zip(clips[::2], clips[1::2], strict=True):
            if a.images[0].tobytes() in frames:
                assert abs(frames[a.images[0].tobytes()] - frames[b.images[0].tobytes()]) <= 1
    few = views(store, sources=(SourceConfig("store", str(store), most=3),))
    shown = {clip.images[0].tobytes() for step in range(8) for clip in batch(few, 0, step)}
    assert shown <= {read.image(i).tobytes() for i in range(3)}


def test_the_students_colours_are_its_own_and_processes_share_a_batch(store):
    config = views(store, augment=AugmentConfig(noise=0.1, gray=0.5))
    whole = batch(config, 0, 1)
    assert not any((clip.images[0] == batch(views(store), 0, 1)[i].images[0]).all() for i, clip in enumerate(whole))
    halves = [batch(config, 0, 1, part=(rank, 2)) for rank in range(2)]
    for rank, half in enumerate(halves):
        places = clip_numbers(config, half, (rank, 2))
        assert all((clip.images == whole[place].images).all() for clip, place in zip(half, places, strict=True))
    assert sorted(clip_numbers(config, halves[0], (0, 2)) + clip_numbers(config, halves[1], (1, 2))) == list(range(8))


def recipe(folder: Path, store: Path, taught: TeachConfig, **changes) -> TrainConfig:
    known = dict(
        model="sam2s_pico",
        device="cpu",
        output=str(folder),
        half=False,
        save_every=4,
        log_every=4,
        phases=(Phase(steps=12),),
        data=views(store, augment=AugmentConfig(noise=0.02), min_area=0.001),
        optimizer=OptimizerConfig(lr=1e-3, warmup=1, clip=1.0),
        loss=LossConfig(stride=2, correspondence=1.0, masks=5.0),
        prompts=PromptConfig(clicks=1, correct=1.0, hard=0.8),
        rollout=RolloutConfig(max_objects=2, forced_presence=True),
        teacher=TeacherConfig(taught.checkpoint),
    )
    return TrainConfig(**{**known, **changes})


def test_training_from_a_store_learns_and_resumes_to_the_same_weights(store, taught, tmp_path, monkeypatch):
    run_training(recipe(tmp_path / "whole", store, taught), quiet=True)
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    for name in ("features", "correspondence"):
        assert log[-1][name] < log[0][name], name
    assert log[0]["masks"] > 0 and log[0]["empty"] < 1 and log[0]["unreadable"] == 0
    monkeypatch.setattr(Teacher, "encode", None)  # what it saw is in the store
    for stop in (3, 6):
        run_training(recipe(tmp_path / "cut", store, taught), lambda step, stop=stop: step >= stop, quiet=True)
    run_training(recipe(tmp_path / "cut", store, taught), quiet=True)
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_damaged_store_is_named(store, tmp_path):
    for path in store.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / BLOBS).write_bytes((store / BLOBS).read_bytes()[:100])
    with pytest.raises(SourceError, match=r"entry \d+ of .* has \d+ of \d+ bytes"):
        [TeacherStore(tmp_path).image(i) for i in range(24)]
    (tmp_path / "fine.f16").write_bytes(b"")
    with pytest.raises(SourceError, match="is not a complete teacher's store"):
        TeacherStore(tmp_path)
