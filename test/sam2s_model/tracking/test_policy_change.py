"""One policy follows another while an object is out of sight: it is found again, or the change is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.prompts import Prompt
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.tracker import Tracker


@pytest.fixture(scope="module")
def nano():
    return load_model(resolve_checkpoint("sam2s_nano"), image_size=256, device="cpu")


@pytest.fixture(scope="module")
def views():
    """A view with instruments, the same without any, and the mask of one of them."""
    shown = Scene(SceneConfig(width=320, height=256, frames=2, seed=0))[0]
    seen = np.ascontiguousarray(shown.image)
    masks = (shown.labels > 0) & (shown.labels < 255)
    hidden = cv2.inpaint(seen, cv2.dilate(masks.astype(np.uint8), np.ones((9, 9))), 3, cv2.INPAINT_TELEA)
    return seen, hidden, shown.labels == np.unique(shown.labels[masks])[0]


class Stream:
    """A tracker with an object that was prompted on the first frame."""

    def __init__(self, model, policy: str, views, **options):
        self.seen, self.hidden, mask = views
        self.stamp = 0
        self.tracker = Tracker(model, policy, TrackerConfig(**options))
        self.step(self.seen)
        self.tracker.prompt(0, [Prompt(mask=mask)])

    def step(self, image: np.ndarray) -> int:
        """Return the object's area, px."""
        self.stamp += 40_000_000
        tracks = self.tracker.step(self.stamp, image)
        return int(tracks.areas[0]) if len(tracks) else 0


@pytest.mark.parametrize(
    ("policy", "following"),
    [("match", "auto"), ("fifo", "match"), ("fifo+match", "match"), ("match", "fifo+match"), ("match", "fifo"),
     ("fifo", "none")],
)  # fmt: skip
def test_an_object_that_is_out_of_sight_is_found_after_the_change(nano, views, policy, following):
    stream = Stream(nano, policy, views)
    area = stream.step(stream.seen)
    assert [stream.step(stream.hidden) for _ in range(3)][-1] == 0, "or the test says nothing"
    stream.tracker.set_policy(following)
    stream.step(stream.hidden)
    assert area > 500 and max(stream.step(stream.seen) for _ in range(2)) > area / 2


def test_what_was_prompted_without_labels_is_found_after_a_change_in_two_steps(nano, views):
    stream = Stream(nano, "fifo", views)
    area = stream.step(stream.seen)
    assert [stream.step(stream.hidden) for _ in range(3)][-1] == 0
    for following in ("fifo+match", "match"):
        stream.tracker.set_policy(following)
        stream.step(stream.hidden)
    assert area > 500 and max(stream.step(stream.seen) for _ in range(2)) > area / 2
    bank = stream.tracker._segmenter.bank
    assert (bank.states["label_frames"][0, : bank.layout.conditioning] == 1).any(), "the newest frame that showed it"


def test_a_change_in_two_steps_that_would_lose_an_object_is_refused(nano, views):
    stream = Stream(nano, "fifo", views, prompt_history=2)
    assert [stream.step(stream.hidden) for _ in range(3)][-1] == 0
    stream.tracker.set_policy("fifo+match")
    with pytest.raises(ConfigError, match=r"'match' would never find object 1 again, which none of the last 2 frames"):
        stream.tracker.set_policy("match")
    assert stream.tracker.policy_name == "fifo+match"


def test_a_change_that_would_lose_an_object_is_refused_and_changes_nothing(nano, views):
    stream = Stream(nano, "match", views, prompt_history=2)
    area = stream.step(stream.seen)
    assert [stream.step(stream.hidden) for _ in range(3)][-1] == 0
    with pytest.raises(ConfigError, match=r"'fifo' would never find object 1 again, which none of the last 2 frames"):
        stream.tracker.set_policy("fifo")
    assert stream.tracker.policy_name == "match" and stream.step(stream.seen) > area / 2


def test_what_was_prompted_is_copied_and_not_the_newest_mask(model, frames):
    box = Prompt(box=np.array([20, 30, 60, 60], np.float32))
    tracker = Tracker(model, "match")
    for i, image in enumerate(frames[:4]):
        tracker.step(i + 1, image)
        if i in (0, 2):
            tracker.prompt(0, [Prompt(object_id=1, box=box.box) if i else box])
    bank, store = tracker._segmenter.bank, tracker.matches.store
    tracker.set_policy("match")
    assert tracker._segmenter.bank is bank, "the same policy: nothing happens"
    for following in ("fifo+match", "match"):
        tracker.set_policy(following)
        assert tracker._segmenter.bank.prompted_frames(0) == [0, 2] and tracker.matches.store is store
        assert tracker._segmenter.bank.states["label_frames"][0, :2].tolist() == [0, 2]
        assert tracker.saved_objects().objects[0].frames == (0, 2)


@pytest.mark.parametrize("following", ["match", "fifo+match"])
def test_a_mask_that_was_kept_while_an_object_is_hidden_is_not_learnt(pico, views, following):
    stream = Stream(pico, "none", views, object_score_gating=False)
    area, dark = stream.step(stream.seen), np.zeros_like(stream.seen)
    assert area > 500 and stream.step(dark) == 0, "or the test says nothing"
    newest = stream.tracker._history.newest.index
    assert (stream.tracker._segmenter.bank.mask([0], newest) > 0).any(), "the last that showed it"
    stream.tracker.set_policy(following)
    states = stream.tracker._segmenter.bank.states
    learnt = states["label_frames"][0] == newest
    assert learnt.any() and not states["labels"][0, learnt].any(), "it was not there"
    assert [stream.step(dark) for _ in range(2)] == [0, 0]
    assert max(stream.step(stream.seen) for _ in range(2)) > area / 2


FIRST, FIX = np.array([20, 30, 60, 60], np.float32), np.array([30, 40, 110, 100], np.float32)


def changed(model, frames, policies, prompted=(0,), box=FIRST, **options) -> Tracker:
    """A tracker of one object that was prompted on some of four frames, and then has followed other policies."""
    tracker = Tracker(model, policies[0], TrackerConfig(**options))
    for i, image in enumerate(frames[:4]):
        tracker.step(i + 1, image)
        if i in prompted:
            tracker.prompt(0, [Prompt(object_id=int(i > prompted[0]), box=box)])
    for following in policies[1:]:
        tracker.set_policy(following)
    return tracker


@pytest.mark.parametrize(
    ("policies", "prompted", "held", "then"),
    [
        (("none", "fifo"), (0,), [3], [1]),
        (("none", "match"), (0,), [3], [1]),
        (("fifo", "match"), (0,), [3], [1]),
        (("none", "fifo+match"), (0,), [3], [1]),
        (("fifo", "fifo+match", "match"), (0,), [0, 3], [0, 1]),
        (("fifo", "fifo+match", "match"), (0, 2), [0, 3], [0, 1]),  # as many as there is room for
        (("none", "match"), (0, 3), [3], [1, 3]),  # a person has prompted that one
    ],
)
def test_a_late_correction_leaves_no_tracked_mask_among_the_prompted(model, frames, policies, prompted, held, then):
    """The newest frame that showed the object had stood for its prompted ones; the correction has changed it."""
    tracker = changed(model, frames, policies, prompted, max_conditioning=2)
    bank = tracker._segmenter.bank
    assert sorted(bank.prompted_frames(0)) == held, "or the test says nothing"
    tracker.prompt(2, [Prompt(object_id=1, box=FIX)])
    assert sorted(bank.prompted_frames(0)) == then and not bank.aside
    count = len(then)
    told = bank.frames[0, :2].tolist(), bank.pointer_frames[0, :2].tolist(), bank.host_pointer_frames[0, :2].tolist()
    assert all(frames == bank.host_frames[0, :2].tolist() for frames in told)
    assert (bank.host_frames[0, count:2] == EMPTY).all(), "those that hold one are the first"
    if tracker.matches:
        labelled = [frame for frame in bank.states["label_frames"][0, :2].tolist() if frame != EMPTY]
        assert set(labelled) <= set(then) and 1 in labelled
    assert len(tracker.step(5, frames[4])) == 1


@pytest.mark.parametrize("on", [1, 3])
def test_a_late_correction_replaces_the_memory_of_a_tracked_mask_that_stood_for_others(pico, on):
    clip = Scene(SceneConfig(width=160, height=128, frames=5, seed=2))
    frames = [np.ascontiguousarray(frame.image) for frame in clip]
    first, fix = (np.array(one.box, np.float32) for one in clip[0].objects[:2])
    tracker = changed(pico, frames, ("match", "fifo+match"), box=first)
    bank = tracker._segmenter.bank
    assert bank.prompted_frames(0) == [0]
    tracked, labels = bank.spatial[0, 0].clone(), bank.states["labels"][0, 0].clone()
    tracker.prompt(on + 1, [Prompt(object_id=1, box=fix)])
    assert bank.prompted_frames(0) == [0, on] and not torch.equal(bank.spatial[0, 1], tracked)
    for store in (bank.spatial, bank.pointers):
        assert torch.equal(store[0, 0], store[0, 1])
    assert torch.equal(bank.states["labels"][0, 0], labels), "a person has said those"
    if on == 1:
        corrected = bank.spatial[0, 0].clone()
        tracker.prompt(3, [Prompt(object_id=1, box=first)])
        assert torch.equal(bank.spatial[0, 0], corrected), "the nearest prompt says it, whichever came first"

    later = changed(pico, frames, ("match", "fifo+match"), box=first)
    later.step(5, frames[4])
    later.prompt(0, [Prompt(object_id=1, box=fix)])
    kept = later._segmenter.bank.spatial[0, 0]
    assert torch.equal(kept, tracked), "what is said of a later frame changes none before"

    segmenter = later._segmenter
    before = dict(segmenter.memory.stand_ins)
    saved = segmenter.save([1])
    later.prompt(2, [Prompt(object_id=1, box=fix)])
    assert segmenter.memory.stand_ins != before
    with torch.inference_mode():
        segmenter.restore(saved)
    assert segmenter.memory.stand_ins == before != {}, "as after a prompt that has failed"
    later.reset()
    assert later._segmenter.memory.stand_ins == {}
