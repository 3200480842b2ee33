"""A captured step leads to what a plain one does. Where there is no GPU, what a CUDA graph does is done on the CPU.

`Recorded` keeps the operations that a function called and repeats them on the same tensors with the same numbers, as a
graph does: whatever the host decided in between is not decided again. What CUDA cannot capture, because the host waits
for the device or gives it something, is refused.
"""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from sam2s_model.acceleration.graphs import Graphs
from sam2s_model.config import PICO, POLICY_NAMES, TrackerConfig
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.segmenter import Segmenter
from sam2s_model.tracking.tracker import Tracker

BOX, OTHER = np.array([20, 30, 60, 60], np.float32), np.array([90, 70, 140, 110], np.float32)
CLICK = dict(points=np.array([[70, 60]], np.float32), point_labels=np.array([1]))
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "_unique2", "equal")
POLICIES = [name for name in POLICY_NAMES if name != "slm"]
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in WAITS:
            raise RuntimeError(f"{name} cannot be captured: the host and the device wait for each other")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result


class Recorded:
    """What `graphs.CudaGraph` is on CUDA. A function runs while it is recorded, so the first replay does nothing."""

    def __init__(self, function):
        with Calls() as recorded:
            self.result = function()
        self._calls, self._fresh = recorded.calls, True

    def replay(self):
        if not self._fresh:
            for func, args, options, result in self._calls:
                self._again(func, args, options, result)
        self._fresh = False

    def _again(self, func, args, options, result):
        inputs = {t.untyped_storage().data_ptr() for t in tensors((args, options))}
        outputs = tensors(result)
        shares = any(t.untyped_storage().data_ptr() in inputs for t in outputs)
        if shares and not func._schema.is_mutable:
            return  # a view is one still
        new = func(*args, **options)
        if not shares:
            for kept, value in zip(outputs, tensors(new), strict=True):
                kept.copy_(value)


def recorded(device):
    return Recorded


def tensors(values):
    return [value for value in tree_flatten(values)[0] if isinstance(value, torch.Tensor)]


def follow(model, frames, policy, capture=None, count=50, queued=False, **config):
    """A stream with all that changes: objects come, are corrected, named and removed.

    queued: each step is given the next image, too
    Returns the tracker, and each frame's outputs and tracks.
    """
    tracker = Tracker(model, policy, TrackerConfig(**config), capture=capture)
    found = []
    for i in range(count):
        following = frames[(i + 1) % len(frames)] if queued else None
        tracks = tracker.step((i + 1) * 33_000_000, frames[i % len(frames)], following)
        if i == 1:
            tracks = tracker.prompt(0, [Prompt(box=BOX)]).tracks
        if i == 5:
            tracks = tracker.prompt(0, [Prompt(box=OTHER)]).tracks
        if i == 24:
            tracks = tracker.prompt(tracks.stamp, [Prompt(object_id=1, **CLICK)]).tracks
        if i == 27:
            tracker.prompt(tracks.stamp - 2 * 33_000_000, [Prompt(object_id=2, **CLICK)])
            tracks = tracker.newest
        if i == 30:
            tracks = tracker.prompt(0, [Prompt(object_id=1, class_name=tracker.label_set.classes[1].name)]).tracks
        if i == 46:
            tracks = tracker.remove([1])
        found.append((tracker.outputs, tracks))
    return tracker, found


# The others are parts of these, or like one; cuda/test_rollouts.py has all of them, shorter.
QUICK = ("fifo", "match")
BOTH_WAYS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.full) for name in POLICIES]


@pytest.mark.parametrize("policy", BOTH_WAYS)
def test_a_captured_step_leads_to_what_a_plain_one_does(model, frames, policy):
    config = dict(long_term_min_iou=0.0, lost_after=0.1, min_similarity=-1.0)
    _, expected = follow(model, frames, policy, **config)
    tracker, got = follow(model, frames, policy, recorded, **config)
    assert tracker.captured >= 4, "the image; one object, two, and one more prompted frame"
    for i, ((plain, plain_tracks), (own, tracks)) in enumerate(zip(expected, got, strict=True)):
        assert (plain is None) == (own is None)
        if plain is not None:
            assert own.object_ids == plain.object_ids
            for mine, theirs in zip(own.tensors.values(), plain.tensors.values(), strict=True):
                torch.testing.assert_close(
                    mine, theirs, rtol=1e-3, atol=1e-3, equal_nan=True, msg=lambda m, i=i: f"frame {i}: {m}"
                )
        assert (tracks.label_map != plain_tracks.label_map).mean() < 1e-3
        assert tracks.object_ids.tolist() == plain_tracks.object_ids.tolist() and tracks.stamp == plain_tracks.stamp
        assert list(tracks.states) == list(plain_tracks.states)


def values(outputs):
    return outputs.tensors.values() if outputs else ()


@pytest.mark.parametrize("policy", ["fifo", pytest.param("divemem", marks=pytest.mark.full), "none"])
def test_late_prompts_replay_captured_steps(model, frames, policy):
    """Five frames late, twice: a new object, then another whose later prompt stays; a third is left alone."""
    told = []
    for capture in (None, recorded):
        tracker, captured = Tracker(model, policy, TrackerConfig(long_term_min_iou=0.0), capture=capture), []
        for i in range(24):
            tracker.step(i + 1, frames[i % len(frames)])
            if i == 1:
                tracker.prompt(0, [Prompt(box=BOX)])
            if i == 8:
                tracker.prompt(i - 4, [Prompt(box=OTHER)])
            if i in (10, 21):
                tracker.prompt(0, [Prompt(object_id=2, **CLICK)])
            if i == 22:
                tracker.prompt(i - 4, [Prompt(object_id=2, box=OTHER)])
            captured.append(tracker.captured)
            told.append((tracker.outputs, tracker.newest))
    assert captured[8] == captured[7] + 1, "the second of five frames is captured, and the others replay it"
    for (plain, plain_tracks), (own, tracks) in zip(told[:24], told[24:], strict=True):
        assert (own is None) == (plain is None)
        for mine, theirs in zip(values(own), values(plain), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3, equal_nan=True)
        assert (tracks.label_map != plain_tracks.label_map).mean() < 1e-3 and list(tracks.states) == list(
            plain_tracks.states
        )


def test_a_replayed_step_says_how_many_keys_it_attends_to(model, frames):
    """The object with two prompted frames goes, and an earlier graph comes back: it has keys of its own."""
    keys = []
    for capture in (None, recorded):
        tracker, counts = Tracker(model, "fifo", capture=capture), []
        for i in range(42):
            tracker.step(i + 1, frames[i % len(frames)])
            if i == 0:
                tracker.prompt(0, [Prompt(box=BOX), Prompt(box=OTHER)])
                tracker.remove([2])  # whose row is free then: graphs of before need no other memory than those of after
            if i in (20, 22):
                tracker.prompt(0, [Prompt(object_id=0 if i == 20 else 3, box=OTHER)])
            if i == 39:
                tracker.remove([3])
            counts.append(tracker.keys_attended)
        keys.append(counts)
    plain, replayed = keys
    full = [19, 38, 40, 41]  # all windows are full then: nothing is padded
    assert [replayed[i] for i in full] == [plain[i] for i in full]
    assert replayed[19] == replayed[41] < replayed[38]


def test_nothing_is_captured_anew_while_objects_and_prompts_stay_what_they_are(model, frames):
    tracker, captured = Tracker(model, "fifo", capture=recorded), []
    for i in range(60):
        tracker.step(i + 1, frames[i % 12])
        if i in (0, 20):
            tracker.prompt(0, [Prompt(object_id=tracker.object_ids[0] if i else 0, box=BOX)])
        captured.append(tracker.captured)
    assert captured[1:3] == [1, 2], "the image's is captured on the second frame, the tracking's on its second"
    assert captured[17] == captured[20] == 3, "one while the memory fills, one when it is full"
    assert captured[-1] == captured[40] == 5, "and the same again with one more prompted frame"
    tracker.set_policy("efp")
    assert tracker.captured == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_everything_in_a_step_is_on_the_device_and_nothing_asks_it(policy):
    """On the device without values a tensor of the host, or a value that the host asks for, is an error."""
    with torch.device("meta"), torch.inference_mode():
        network = Sam2Model(PICO, image_size=128).eval().bfloat16()
    device, size, ids = network.device, (120, 160), [1, 2]
    with torch.inference_mode():
        segmenter = Segmenter(network, policy, TrackerConfig())
        bank = segmenter.bank
        for row, object_id in enumerate(ids):
            bank.add(object_id)
            if segmenter.memory:
                memory = torch.empty(network.memory_tokens, PICO.memory_dim, device=device)
                bank.write_conditioning(row, 0, memory, torch.empty(PICO.dim, device=device))
        for index in range(1, 25):
            bank.mark_written(slice(0, 2), index)
        features = network.encode_image(network.prepare_image(torch.empty(*size, 3, dtype=torch.uint8, device=device)))
        step = segmenter.step_time(25, torch.empty(2, dtype=torch.int64, device=device))
        labels = torch.empty(2, dtype=torch.uint8, device=device)
        outputs, summary, label_map = segmenter.step(ProcessedFrame(25, 1, size, features), ids, labels, step)
    assert step.complete and label_map.dtype == torch.uint8 and label_map.shape == size
    assert all(t.device == device for t in (*outputs.tensors.values(), summary, label_map))


class Again:
    """Captures nothing: a replay launches everything once more."""

    def __init__(self, function):
        self._function = function

    def replay(self):
        self.result = self._function()


@pytest.fixture
def tracking(model, frames, monkeypatch):
    """A tracker of one object on the first image, and what its model does from here on, in order."""
    tracker = Tracker(model, "fifo", capture=lambda _: Again)
    tracker.step(1, frames[0])
    tracker.prompt(0, [Prompt(box=BOX)])
    done = []
    for name in ("encode_image", "encode_memory"):
        own = getattr(model, name)
        monkeypatch.setattr(model, name, lambda *a, own=own, name=name, **o: done.append(name) or own(*a, **o))
    return tracker, done


def test_a_step_that_is_given_the_next_image_begins_with_it_when_its_own_is_tracked(tracking, frames):
    tracker, done = tracking
    for i in (1, 2, 3):
        tracker.step(i + 1, frames[i], frames[i + 1])
    assert done == ["encode_image", *["encode_memory", "encode_image"] * 3]


def test_what_is_given_ahead_leads_to_the_same(model, frames):
    _, expected = follow(model, frames, "fifo", count=30)
    _, got = follow(model, frames, "fifo", recorded, count=30, queued=True)
    for (plain, _), (own, _) in zip(expected, got, strict=True):
        if plain is not None:
            torch.testing.assert_close(own.logits, plain.logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("announced", ["another", "of another size"])
def test_another_image_than_was_announced_is_encoded_anew(tracking, model, frames, announced):
    tracker, done = tracking
    plain = Tracker(model, "fifo")
    plain.step(1, frames[0])
    plain.prompt(0, [Prompt(box=BOX)])
    done.clear()
    tracker.step(2, frames[1], frames[9] if announced == "another" else frames[9][:60])
    assert done.count("encode_image") == (2 if announced == "another" else 1)
    tracker.step(3, frames[2])
    for i in (1, 2):
        plain.step(i + 1, frames[i])
    torch.testing.assert_close(tracker.outputs.logits, plain.outputs.logits, rtol=1e-4, atol=1e-4)


def test_what_fails_of_the_next_image_does_not_fail_this_step(tracking, model, frames, monkeypatch):
    tracker, done = tracking
    own, fails = model.encode_image, [False, True, False]

    def encode(image):
        if fails.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(image)

    monkeypatch.setattr(model, "encode_image", encode)
    assert tracker.step(2, frames[1], frames[2]).stamp == 2
    assert tracker.step(3, frames[2]).stamp == 3 and not fails, "it was tried anew"


def test_what_cannot_be_captured_is_refused(model):
    with pytest.raises(RuntimeError, match="_local_scalar_dense cannot be captured"):
        Recorded(lambda: torch.ones(3).sum().item())
    with pytest.raises(RuntimeError, match="lift_fresh cannot be captured"):
        Recorded(lambda: torch.tensor([1.0, 2.0]))


def test_what_cannot_be_captured_is_run_as_it_is_and_said(model, frames, caplog):
    def refuses(function):
        raise RuntimeError("operation not permitted when stream is capturing")

    (_, got), (_, expected) = (follow(model, frames, "fifo", c, count=26) for c in (lambda _: refuses, None))
    pairs = zip(got, expected, strict=True)
    assert [(a.label_map != b.label_map).mean() < 1e-3 for (_, a), (_, b) in pairs] == [True] * 26
    logged = [record.message for record in caplog.records]
    assert len(logged) == 2 and all("kernel by kernel: operation not permitted" in line for line in logged), (
        "once of each half"
    )


@pytest.mark.parametrize("half", [0, 1], ids=["image", "tracking"])
def test_a_half_that_does_not_fit_as_a_graph_is_run_as_it_is(model, frames, caplog, half):
    """The tracker goes on as without graphs, asks no more for that one, and has the other half's."""
    asked: list[list] = []

    def capture_of_a_half(_):
        own: list = []
        asked.append(own)
        lacks = len(asked) == half + 1

        def capture(function):
            own.append(function)
            if lacks:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return Recorded(function)

        return capture

    (tracker, got), (_, expected) = (follow(model, frames, "fifo", c, count=9) for c in (capture_of_a_half, None))
    assert all((a.label_map != b.label_map).mean() < 1e-3 for (_, a), (_, b) in zip(got, expected, strict=True))
    assert len(asked[half]) == 1 and tracker.captured == len(asked[1 - half]) > 0
    (logged,) = (record.message for record in caplog.records)
    assert "as with cuda_graphs: false: CUDA out of memory" in logged and tracker.refused == "CUDA out of memory"


def test_graphs_give_their_room_back_where_another_does_not_fit():
    made = []

    def capture(function):
        if made:
            raise torch.OutOfMemoryError("CUDA out of memory")
        made.append(weakref.ref(graph := Recorded(function)))
        return graph

    graphs = Graphs(capture)
    for key in "aabb":
        assert graphs.run(key, lambda key=key: torch.full((1,), ord(key))) == ord(key)
    assert len(graphs) == 0 and made[0]() is None


def test_graphs_are_bounded_and_the_oldest_goes():
    graphs, made = Graphs(lambda function: made.append(function()) or Recorded(function), max_graphs=2), []
    for key in "aabbcc":
        graphs.run(key, lambda key=key: torch.full((1,), ord(key)))
    assert len(made) == 3 and len(graphs) == 2
    assert graphs.run("c", lambda: None).item() == ord("c"), "the function is not run again"
    graphs.run("a", lambda: torch.zeros(1))
    assert len(made) == 3, "the first time that it comes it is not captured"


@cuda
@pytest.mark.parametrize("policy", POLICIES)
def test_cuda_graphs_lead_to_what_single_launches_do(model, frames, policy):
    on_gpu = model.to("cuda")
    try:
        _, expected = follow(on_gpu, frames, policy, cuda_graphs=False)
        tracker, got = follow(on_gpu, frames, policy)
    finally:
        model.to("cpu")
    assert tracker.captured >= 4 and not tracker.refused
    for (plain, _), (own, _) in zip(expected, got, strict=True):
        if plain is not None:
            torch.testing.assert_close(own.logits, plain.logits, rtol=1e-2, atol=1e-2)


@cuda
@pytest.mark.parametrize("graphs", [True, False])
def test_cuda_encodes_the_next_image_meanwhile(model, frames, graphs):
    on_gpu = model.to("cuda")
    try:
        _, expected = follow(on_gpu, frames, "fifo", cuda_graphs=False)
        _, got = follow(on_gpu, frames, "fifo", None if graphs else lambda _: Again, queued=True)
    finally:
        model.to("cpu")
    for (plain, _), (own, _) in zip(expected, got, strict=True):
        if plain is not None:
            torch.testing.assert_close(own.logits, plain.logits, rtol=1e-2, atol=1e-2)
