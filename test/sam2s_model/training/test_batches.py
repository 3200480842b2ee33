"""Batches: a function of configuration, seed and step, from every kind of source."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.training.batches import batch, opened
from sam2s_model.training.cache import ByteCache
from sam2s_model.training.data_config import NO_AUGMENTATION, DataConfig, SourceConfig
from sam2s_model.training.pack import TeacherPack

SCENE = SourceConfig("scene", height=64)
SMALL = DataConfig(sources=(SCENE,), size=64, length=4, frames=8, scene_pool=3)


@pytest.fixture
def recording(tmp_path):
    """20 frames with a square that moves over noise, in a folder."""
    rng = np.random.default_rng(0)
    for part in ("frames", "masks"):
        (tmp_path / "clip" / part).mkdir(parents=True)
    for i in range(20):
        image, labels = rng.integers(0, 60, (60, 80, 3), dtype=np.uint8), np.zeros((60, 80), np.uint8)
        image[20:40, i : i + 20], labels[20:40, i : i + 20] = 200, 255
        cv2.imwrite(str(tmp_path / "clip" / "frames" / f"{i}.png"), image)
        cv2.imwrite(str(tmp_path / "clip" / "masks" / f"{i}.png"), labels)
    return SourceConfig("folder", str(tmp_path), class_name="instrument")


@pytest.fixture
def rare(tmp_path):
    """100 frames with an object on six of them."""
    return rarely(tmp_path / "rare", shown=range(40, 46))


def rarely(folder, shown, frames=100):
    for part in ("frames", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(frames):
        labels = np.zeros((48, 64), np.uint8)
        labels[10:30, 20:40] = 1 if i in shown else 0
        cv2.imwrite(str(folder / "frames" / f"{i:03d}.png"), np.full((48, 64, 3), i, np.uint8))
        cv2.imwrite(str(folder / "masks" / f"{i:03d}.png"), labels)
    return SourceConfig("folder", str(folder))


def same(first, second) -> bool:
    return all(
        (a.images == b.images).all() and (a.labels == b.labels).all() for a, b in zip(first, second, strict=True)
    )


def test_batches_are_a_function_of_seed_and_step(recording):
    config = dataclasses.replace(SMALL, sources=(SCENE, recording))
    whole = batch(config, 3, 7)
    batch(config, 3, 8)
    for other in (config, dataclasses.replace(config, workers=3), dataclasses.replace(config, cache_mb=0)):
        assert same(batch(other, 3, 7), whole)
    assert not same(batch(config, 3, 8), whole) and not same(batch(config, 4, 7), whole)


def test_processes_share_a_batch():
    halves = [batch(SMALL, 0, 1, part=(i, 2)) for i in range(2)]
    assert same([halves[0][0], halves[1][0]], batch(SMALL, 0, 1)) and len(halves[0]) == 1


def test_images_and_videos_in_their_shares(recording):
    config = dataclasses.replace(SMALL, sources=(recording,))
    lengths = [[len(clip) for clip in batch(config, 0, step)] for step in range(60)]
    stills = [own for own in lengths if own == [1] * 8]
    assert all(own in ([1] * 8, [4, 4]) for own in lengths) and 4 <= len(stills) <= 22


def test_clips_show_their_object_with_its_class(recording):
    config = dataclasses.replace(SMALL, sources=(recording,), size=96)
    for step in range(10):
        for clip in batch(config, 0, step):
            assert clip.images.shape == (len(clip), 96, 96, 3) and clip.labels.shape == (len(clip), 96, 96)
            assert clip.annotated and clip.classes == {1: config.classes.index("instrument")} and clip.features is None
            assert np.mean(clip.labels[0] == 1) >= config.min_area
            if step == 0:
                gray = clip.images.mean(-1)
                assert gray[clip.labels == 1].mean() > gray[clip.labels == 0].mean()


def test_scenes_bring_their_classes_and_void():
    clips = [clip for step in range(6) for clip in batch(SMALL, 0, step)]
    rows = {row for clip in clips for row in clip.classes.values()}
    assert rows <= set(range(6)) and len(rows) > 2
    assert any((clip.labels == 255).any() for clip in clips) and all(255 not in clip.classes for clip in clips)


def test_a_scene_clip_is_seen_again_until_the_pool_has_moved_on():
    config = dataclasses.replace(
        SMALL, scene_pool=1, scene_fresh=0.5, augment=NO_AUGMENTATION, frames=4, image_share=0.0
    )
    clips = [batch(config, 0, step)[0] for step in range(4)]
    assert same([clips[0]], [clips[1]]) and same([clips[2]], [clips[3]]) and not same([clips[0]], [clips[2]])


def test_a_pool_of_single_images_comes_again(recording):
    pool = DataConfig(sources=(recording, SCENE), size=64, length=1, frames=3, pool=2)
    first, second, third = (batch(pool, 0, step) for step in range(3))
    assert same(first, third) and not same(first, second)
    assert [clip.key for clip in first] == [clip.key for clip in third]
    assert len({clip.key for clip in first + second}) == 6
    clips = dataclasses.replace(pool, length=3, image_share=0.0)
    assert not same(batch(clips, 0, 0), batch(clips, 0, 2)) and batch(clips, 0, 0)[0].key is None


def test_a_clip_of_a_pool_that_a_phase_draws_otherwise_is_another_one():
    scene = dataclasses.replace(SCENE, scenes=1, frames=60)
    pool = DataConfig(
        sources=(scene,), size=64, length=1, frames=4, pool=1, image_share=1.0, scene_pool=1, sampling="vanilla"
    )
    drawn = [
        batch(dataclasses.replace(pool, **changes), 0, 0)[:1]
        for changes in ({}, dict(length=4), dict(length=4, sampling="tsms"), dict(length=4, stride=8))
    ]
    assert not same(drawn[0], drawn[1]), "or one key would do"
    assert len({clip.key for (clip,) in drawn}) == 4
    assert batch(pool, 0, 0)[0].key == drawn[0][0].key


@pytest.mark.parametrize("how", ["divemem", "vanilla", "tsms"])
def test_first_frames_show_an_object_however_rare_it_is(rare, how):
    config = dataclasses.replace(
        SMALL, sources=(rare,), sampling=how, frames=32, image_share=0.0, augment=NO_AUGMENTATION
    )
    clips = [clip for step in range(3) for clip in batch(config, 0, step)]
    assert len(clips) == 24 and all((clip.labels[0] == 1).any() for clip in clips)
    assert len({int(clip.images[0, 0, 0, 0]) for clip in clips}) > 3, "not always the same frame"
    again = [clip for step in range(3) for clip in batch(dataclasses.replace(config, cache_mb=0), 0, step)]
    assert same(clips, again)


def test_an_object_on_the_last_frame_alone_can_be_first(tmp_path):
    config = dataclasses.replace(SMALL, sources=(rarely(tmp_path / "late", {11}, 12),), image_share=0.0, reverse=0.0)
    assert all((clip.labels[0] == 1).any() for step in range(3) for clip in batch(config, 0, step))


def test_masks_that_show_nothing_at_all_are_an_error(tmp_path):
    config = dataclasses.replace(SMALL, sources=(rarely(tmp_path / "none", (), 6),), image_share=0.0)
    with pytest.raises(ConfigError, match="no mask of .*none shows an object: expected one on at least one frame"):
        batch(config, 0, 0)


def test_what_cannot_be_read_is_left_out_the_same_way_each_time(recording, tmp_path):
    for name in ("masks/3.png", "frames/7.png"):
        (tmp_path / "clip" / name).write_bytes(b"damaged")
    config = dataclasses.replace(SMALL, sources=(recording,), augment=NO_AUGMENTATION)
    clips = [batch(config, 0, step) for step in range(8)]
    problems = list(opened(config).unreadable)
    assert (
        len(problems) == 2
        and any("3.png cannot be decoded" in p for p in problems)
        and any("7.png is not" in p for p in problems)
    )
    late = dataclasses.replace(config, cache_mb=3)  # opened anew: nothing is known of the files yet
    assert same(batch(late, 0, 7), clips[7])


def test_when_nothing_can_be_read_that_is_an_error(recording, tmp_path):
    for path in (tmp_path / "clip" / "frames").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(
        SourceError, match="100 files in a row of .* cannot be read, the last: .* is not a readable image"
    ):
        batch(dataclasses.replace(SMALL, sources=(recording,)), 0, 0)


def test_unlabelled_images_are_stills_without_masks(tmp_path, recording):
    cv2.imwrite(str(tmp_path / "1.png"), np.full((40, 50, 3), 90, np.uint8))
    images = SourceConfig("images", str(tmp_path), only=(f"{tmp_path.name}/1",))
    config = dataclasses.replace(SMALL, sources=(images,), image_share=1.0)
    assert all(not c.annotated and not c.labels.any() and c.classes == {} for c in batch(config, 0, 0))
    with pytest.raises(ConfigError, match="only images without masks"):
        batch(dataclasses.replace(config, image_share=0.0), 0, 0)
    both = dataclasses.replace(config, sources=(images, recording), image_share=0.0)
    assert all(clip.annotated for clip in batch(both, 0, 0))


def test_a_teachers_masks_make_a_still_a_video(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:48, 16:48] = 220
    cv2.imwrite(str(tmp_path / "1.png"), image)
    masks, features = image[None, ..., 0] > 0, np.zeros((1, 2, 16, 16), np.float32)
    features[:, 0] = masks[:, ::4, ::4] * 3.0
    name = f"{tmp_path.name}/1"
    TeacherPack.of([name], features, np.zeros(4), np.eye(4)[:2], [masks]).save(tmp_path / "pack")
    source = SourceConfig("images", str(tmp_path), teacher=str(tmp_path / "pack"), class_name="object")
    config = dataclasses.replace(SMALL, sources=(source,), size=64, image_share=0.0, frames=16)
    moved = 0
    for clip in batch(config, 0, 0):
        assert len(clip) == 4 and clip.annotated and clip.classes == {1: 7} and clip.features.shape == (4, 2, 16, 16)
        moved += (clip.labels[0] != clip.labels[-1]).any()
        bright = clip.labels[:, 2::4, 2::4] == 1
        assert np.corrcoef(bright.ravel(), clip.features[:, 0].ravel().astype(float))[0, 1] > 0.7
    assert moved >= 3


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(frames=2), "frames is 2: expected at least length = 4"),
        (dict(sampling="all"), "sampling is 'all': expected one of"),
        (dict(sources=(SourceConfig("folder"),)), "source folder has path '': expected one"),
        (dict(sources=(SourceConfig("scene", "x"),)), "source scene has path 'x': expected none"),
        (dict(sources=(SourceConfig("scene", class_name="spoon"),)), "class_name is 'spoon': expected one of forceps"),
        (dict(sources=(SourceConfig("scene", weight=-1.0),)), "weight is -1.0: expected at least 0"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **change)


def test_no_source_is_refused():
    with pytest.raises(ConfigError, match="data has 0 sources with a weight"):
        batch(DataConfig(), 0, 0)


def test_the_cache_is_bounded_and_keeps_what_was_used_last():
    cache, made = ByteCache(250), []

    def get(key):
        return cache.get(key, lambda: (made.append(key), np.zeros(100, np.uint8))[1])

    for key in "abacab":
        get(key)
    assert made == ["a", "b", "c", "b"] and cache.bytes == 200
    assert cache.get("large", lambda: np.zeros(300, np.uint8)).size == 300 and cache.bytes == 200


def test_frames_are_read_once(recording):
    config = dataclasses.replace(SMALL, sources=(recording,), cache_mb=7)
    batch(config, 0, 0)
    held = opened(config).cache.bytes
    batch(config, 0, 0)
    assert 0 < held == opened(config).cache.bytes
