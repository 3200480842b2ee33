"""Base maps that err are better, and flicker less, where masklets have one class all over."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.open import open_recording
from sam2s_model.semantic_maps.refine import DEFAULTS, RefineConfig, masklets, refine, tracker_for_refining
from sam2s_model.semantic_maps.scores import MapScore
from sam2s_model.semantic_maps.sources import class_ids, maps_in, noisy_maps, true_map
from sam2s_model.semantics import ClassLabel, LabelSet

SCENE = "scene:?width=160&height=128&frames=9&seed=12"


@pytest.fixture(scope="module")
def tracker():
    return tracker_for_refining(load_model("sam2s_pico", device="cpu", precision="fp32"))


@pytest.fixture(scope="module")
def recording():
    return open_recording(SCENE)


@pytest.fixture(scope="module")
def labels(recording):
    names = sorted(set(recording.classes.values()))
    return LabelSet("own", tuple(ClassLabel(i, name, (i, 0, 0)) for i, name in enumerate(names, start=1)))


def test_noisy_maps_of_the_scene_are_refined(tracker, recording, labels):
    ids = class_ids(recording, labels)
    base_of = noisy_maps("noisy:3", ids)
    before, after, found = MapScore(), MapScore(), []
    for one in refine(tracker, ((f, base_of(f)) for f in recording), RefineConfig(window=6)):
        before.add(one.base, true_map(one.frame, ids))
        after.add(one.map, true_map(one.frame, ids))
        found.append(one)
    assert [one.frame.index for one in found] == list(range(9)) and tracker.object_ids == ()
    assert all(np.array_equal(one.base, base_of(one.frame)) for one in found)
    assert 0 < found[0].masklets <= 32 and len({one.masklets for one in found[6:]}) == 1  # the last window is short
    assert after.mean_iou > before.mean_iou + 0.05
    assert after.flicker < 0.9 * before.flicker


def test_where_no_class_has_the_share_the_maps_stay(tracker, recording):
    """Each frame votes for another class: none has the majority."""
    frames = [(frame, np.full(frame.image.shape[:2], frame.index + 1, np.uint8)) for frame in recording][:3]
    for one, (_, base) in zip(refine(tracker, frames), frames, strict=True):
        assert one.masklets and np.array_equal(one.map, base)
    free = list(refine(tracker, frames, RefineConfig(min_share=0.0)))
    assert any((one.map != base).any() for one, (_, base) in zip(free, frames, strict=True))


def test_masklets_are_apart_from_one_another_and_as_many_as_asked(tracker, recording):
    tracker.reset()
    tracker.step(1, recording.frame(0).image)
    found = masklets(tracker, RefineConfig())
    for i, one in enumerate(found):
        for other in found[:i]:
            assert (one & other).sum() <= 0.75 * min(one.sum(), other.sum())
    assert len(found) > 1 and len(masklets(tracker, RefineConfig(masklets=1))) == 1
    assert tracker.config.discovery_grid == 16
    tracker.reset()
    tracker.step(1, np.zeros_like(recording.frame(0).image))
    strict = tracker_for_refining(tracker.model, options=TrackerConfig(**{**DEFAULTS, "discovery_min_iou": 1.0}))
    strict.step(1, np.zeros_like(recording.frame(0).image))
    assert masklets(strict, RefineConfig()) == []
    tracker.reset()


def test_a_map_of_another_size_is_named(tracker, recording):
    with pytest.raises(SourceError, match="the map of 000000 is 7x5: expected 160x128"):
        list(refine(tracker, [(recording.frame(0), np.zeros((5, 7), np.uint8))]))


def test_maps_come_from_a_folder_by_the_names_of_the_frames(recording, labels, tmp_path):
    with pytest.raises(SourceError, match="is no folder"):
        maps_in(tmp_path / "none")
    with pytest.raises(SourceError, match="has no class images"):
        maps_in(tmp_path)
    import cv2

    cv2.imwrite(str(tmp_path / "000001.png"), np.full((4, 4), 7, np.uint8))
    read = maps_in(tmp_path)
    assert (read(recording.frame(1)) == 7).all()
    with pytest.raises(SourceError, match=r"no class image 000000.png: expected one for each frame; it has 1"):
        read(recording.frame(0))
    (tmp_path / "000001.png").rename(tmp_path / os.fsdecode(b"bild_\xe4.png"))
    assert (maps_in(tmp_path)(replace(recording.frame(1), name=r"bild_\xe4")) == 7).all()
    with pytest.raises(SourceError, match=r"it has 1, such as bild_\\xe4.png"):
        maps_in(tmp_path)(recording.frame(0))
    with pytest.raises(ConfigError, match="noisy:x: expected noisy"):
        noisy_maps("noisy:x", {1: 1})
    with pytest.raises(ConfigError, match="names the classes"):
        noisy_maps("noisy", {})
    with pytest.raises(ConfigError, match="is not in label set 'other'"):
        class_ids(recording, LabelSet("other", (ClassLabel(1, "spoon", (1, 1, 1)),)))
    truth, ids = recording.frame(0).truth, class_ids(recording, labels)
    assert all((true_map(recording.frame(0), ids)[truth.masks[v]] == ids[v]).mean() > 0.7 for v in truth.masks)
