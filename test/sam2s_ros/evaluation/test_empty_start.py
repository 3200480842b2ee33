"""A recording that is followed without any request: discovery starts what the prototypes know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.discovery.build import build_bank, open_confirmed
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import Tracks
from sam2s_ros.evaluation.empty_start import FollowedRecording, follow_from_nothing, overlap_of_all
from sam2s_ros.interfaces.parameters import NodeConfig

SCENE = "scene:?width=160&height=128&frames={}&seed={}"


@pytest.fixture(scope="module")
def pico():
    return load_model("sam2s_pico", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def bank(pico):
    confirmed = [one for seed in (1, 2, 3) for one in open_confirmed(SCENE.format(20, seed))]
    return build_bank(pico, confirmed, frames=4, class_name="instrument").bank


def follow(pico, bank, **config) -> FollowedRecording:
    tracker = Tracker(pico)
    if bank is not None:
        tracker.discovery.use(bank)
    [scene] = open_confirmed(SCENE.format(5, 11))
    from_mask = config.pop("from_mask", False)
    return follow_from_nothing(tracker, "scene", scene.recording, NodeConfig(**config), from_mask=from_mask)


def test_instruments_are_followed_without_a_request(pico, bank):
    told = follow(pico, bank, auto_prompt="track", auto_prompt_score=0.5, discovery_every=3)
    assert len(told.overlaps) == 4 and told.objects >= 1 and told.events
    assert told.mean > 0.4 and told.share_good == np.mean(np.array(told.overlaps) > 0.5) > 0


def test_nothing_is_followed_where_nothing_is_asked_for_or_known(pico, bank):
    for told in (follow(pico, bank), follow(pico, None, auto_prompt="track", discovery_every=1)):
        assert told.objects == 0 and told.mean == told.share_good == 0.0


def test_the_first_masks_are_an_upper_guide(pico, bank):
    told = follow(pico, bank, from_mask=True)
    assert told.objects >= 1 and told.mean > 0.5 and told.events == []


def test_void_pixels_are_no_errors():
    truth = np.array([[1, 2, 0, 255, 255]], np.uint8)
    for found, expected in (((7, 7, 0, 7, 0), 1.0), ((7, 0, 0, 7, 255), 0.5), ((0, 0, 7, 0, 0), 0.0)):
        tracks = replace(Tracks.empty(0, 1, 5), label_map=np.array([found], np.uint8))
        assert overlap_of_all(tracks, truth) == expected
    assert overlap_of_all(Tracks.empty(0, 1, 5), np.full((1, 5), 255, np.uint8)) == 1.0
