"""Objects of an earlier run go on without a prompt: as good as prompted ones, bounded, and of their model alone."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.discovery.build import open_confirmed
from sam2s_model.errors import ErrorCode, ObjectMemoryError, RequestError
from sam2s_model.metrics import iou
from sam2s_model.prompts import Prompt
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.published.sha256 import file_sha256
from sam2s_model.recall.object_file import FORMAT, MadeWith, load_objects, read_objects, save_objects, write_objects
from sam2s_model.semantics import ClassLabel, LabelSet
from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.memory.frame_store import FrameStore
from sam2s_model.tracking.memory.matching import Matching
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import Return, State

SCENE = "scene:?width=160&height=128&frames=40&seed=11"
STEP = 40_000_000
POLICIES = ("fifo", "divemem", "match", "fifo+match")


@pytest.fixture(scope="module")
def pico():
    return load_model("sam2s_pico", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def scene():
    [found] = open_confirmed(SCENE)
    return [found.recording.frame(i) for i in range(12)]


def morning(model, scene, policy: str, prompted: int = 2, **options) -> Tracker:
    """A tracker that was prompted with the masks of the first frame, and has seen another."""
    tracker = Tracker(model, policy, TrackerConfig(**options))
    tracker.step(STEP, scene[0].image)
    masks = list(scene[0].truth.masks.values())[:prompted]
    tracker.prompt(0, [Prompt(mask=mask, class_name="instrument") for mask in masks])
    tracker.step(2 * STEP, scene[1].image)
    return tracker


@pytest.fixture(scope="module")
def kept(pico, scene):
    """What such a tracker has saved, of each kind of memory."""
    return {policy: morning(pico, scene, policy).saved_objects() for policy in ("fifo", "match", "fifo+match")}


def follow(tracker: Tracker, frames, truth_of: dict[int, int]) -> float:
    """Mean J of objects over frames. truth_of: object id -> value in the truth"""
    scores = []
    for frame in frames:
        tracks = tracker.step(tracker.newest.stamp + STEP, frame.image)
        scores += [iou(tracks.mask(i), frame.truth.masks[value]) for i, value in truth_of.items()]
    return float(np.mean(scores))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_restored_object_tracks_as_well_as_a_prompted_one(pico, scene, policy, tmp_path):
    """The other one was prompted in the morning, and has been tracked since."""
    file, before = tmp_path / "objects.safetensors", morning(pico, scene, policy)
    save_objects(before, file)
    values = list(scene[0].truth.masks)[:2]
    went_on = follow(before, scene[2:8], dict(zip((1, 2), values, strict=True)))

    afternoon = Tracker(pico, policy)
    afternoon.step(STEP, scene[3].image)
    ids = load_objects(afternoon, file)
    assert afternoon.newest.class_names == ("instrument", "instrument") and ids == afternoon.object_ids == (1, 2)
    assert (afternoon.newest.states == State.TRACKED).all()
    restored = follow(afternoon, scene[4:8], dict(zip(ids, values, strict=True)))
    assert restored > went_on - 0.05 and restored > 0.7


@pytest.mark.parametrize("policy", ["fifo", "match"])
def test_the_order_of_the_objects_does_not_matter(pico, scene, policy, kept):
    saved = kept[policy]
    maps = []
    for objects in (saved.objects, saved.objects[::-1]):
        tracker = Tracker(pico, policy)
        tracker.step(STEP, scene[3].image)
        ids = tracker.restore_objects(replace(saved, objects=objects))
        tracker.step(2 * STEP, scene[4].image)
        own = dict(zip(ids, objects, strict=True))
        maps.append([tracker.newest.mask(i) for i in sorted(ids, key=lambda i: saved.objects.index(own[i]))])
    for one, other in zip(*maps, strict=True):
        assert one.any() and (one == other).mean() > 0.999


@pytest.mark.parametrize("policy", ["fifo", "match"])
def test_p48_it_is_lost_until_it_is_seen(pico, scene, policy, kept):
    saved = replace(kept[policy], objects=kept[policy].objects[:1])
    tracker = Tracker(pico, policy)
    empty = np.full_like(scene[0].image, 90)
    tracker.step(STEP, empty)
    [object_id] = tracker.restore_objects(saved)
    assert tracker.newest.states.tolist() == [State.LOST] and not tracker.newest.mask(object_id).any()
    tracks = tracker.step(2 * STEP, empty)
    assert tracks.states.tolist() == [State.LOST]
    tracks = tracker.step(3 * STEP, scene[3].image)
    assert tracks.states.tolist() == [State.TRACKED] and tracks.returns.tolist() == [Return.ACCEPTED]


@pytest.mark.parametrize("policy", ["fifo", "match"])
def test_it_stays_lost_after_a_late_prompt_of_another_object(pico, scene, policy, kept):
    saved = replace(kept[policy], objects=kept[policy].objects[:1])
    tracker = morning(pico, scene, policy, prompted=1)
    empty = np.full_like(scene[0].image, 90)
    tracker.step(3 * STEP, empty)
    assert tracker.restore_objects(saved) == (2,)
    assert tracker.step(4 * STEP, empty).states[1] == State.LOST
    fix = Prompt(object_id=1, mask=list(scene[1].truth.masks.values())[1])
    tracker.prompt(2 * STEP, [fix])
    assert tracker.newest.states[1] == State.LOST and tracker.step(5 * STEP, empty).states[1] == State.LOST
    tracker.remove([2])
    tracker.prompt(2 * STEP, [fix])
    assert tracker.newest.object_ids.tolist() == [1] == list(tracker._history.newest.histories)


def test_it_goes_on_beside_others_and_twice(pico, scene):
    tracker = morning(pico, scene, "fifo")
    before = tracker.newest.mask(1)
    saved = tracker.saved_objects()
    assert tracker.restore_objects(saved) == (3, 4)
    assert (tracker.newest.mask(1) | tracker.newest.mask(3))[before].mean() > 0.9  # one of them has it
    frames = tracker._segmenter.bank.host_frames[:4, 0].tolist()
    assert frames == [0, 0, -2, -2]
    [again] = tracker.restore_objects(tracker.saved_objects([3]))
    assert tracker._segmenter.bank.host_frames[4, 0] == -3 and again == 5
    tracker.step(3 * STEP, scene[2].image)
    corrected = tracker.prompt(0, [Prompt(object_id=4, mask=next(iter(scene[2].truth.masks.values())))])
    assert corrected.object_ids == (4,) and tracker._segmenter.bank.host_frames[3, :2].tolist() == [-2, 2]


@pytest.mark.parametrize("policy", ["fifo", "match"])
def test_p48_all_begin_or_none(pico, scene, policy, monkeypatch):
    tracker = morning(pico, scene, policy)
    saved, state = tracker.saved_objects(), (tracker.object_ids, tracker.next_id, tracker.revision)

    def refused(saved, kind, text):
        with pytest.raises(kind, match=text) as told:
            tracker.restore_objects(saved)
        assert (tracker.object_ids, tracker.next_id, tracker.revision) == state
        assert len(tracker._segmenter.bank) == 2
        return told.value

    spoon = replace(saved, objects=(saved.objects[0], replace(saved.objects[1], class_name="spoon")))
    assert refused(spoon, RequestError, "spoon").code == ErrorCode.UNKNOWN_CLASS
    assert refused(replace(saved, objects=()), RequestError, "no objects").code == ErrorCode.EMPTY_REQUEST
    many = replace(saved, objects=saved.objects * 8)
    assert refused(many, RequestError, "beside 2 would make 18").code == ErrorCode.TOO_MANY_OBJECTS
    monkeypatch.setattr(tracker._segmenter, "summary", lambda *_: 1 / 0)
    refused(saved, ZeroDivisionError, "division")


def test_without_an_image_or_an_object_nothing_begins(pico, scene, kept):
    with pytest.raises(RequestError, match="no image has been processed") as told:
        Tracker(pico, "fifo").restore_objects(kept["fifo"])
    assert told.value.code == ErrorCode.NO_IMAGE
    tracker = morning(pico, scene, "fifo", prompted=1)
    with pytest.raises(RequestError, match="object 7 is not tracked: tracked are 1"):
        tracker.saved_objects([7])
    tracker.remove([1])
    with pytest.raises(RequestError, match="no object ids"):
        tracker.saved_objects()


def test_another_kind_of_memory_is_refused(pico, scene, kept):
    trained, matched, both = kept["fifo"], kept["match"], kept["fifo+match"]
    for saved, policy, text in (
        (trained, "match", "saved under policy 'fifo', and policy 'match' needs another kind of memory"),
        (matched, "fifo", "saved under policy 'match', and policy 'fifo' needs another"),
        (trained, "none", "policy 'none' remembers no prompted frames"),
        (replace(both, tokens={}), "match", "features of 1 prompted frames are missing"),
    ):
        tracker = Tracker(pico, policy)
        tracker.step(STEP, scene[3].image)
        with pytest.raises(ObjectMemoryError, match=text):
            tracker.restore_objects(saved)
    for policy in ("fifo", "match", "efp"):
        tracker = Tracker(pico, policy)
        tracker.step(STEP, scene[3].image)
        assert len(tracker.restore_objects(both)) == 2
    with pytest.raises(ObjectMemoryError, match="policy 'none' remembers no prompted frames"):
        morning(pico, scene, "none").saved_objects()


def test_p48_what_is_saved_is_bounded(pico, scene, tmp_path):
    tracker = morning(pico, scene, "fifo+match", max_conditioning=3)
    for i in range(2, 6):
        tracker.step((i + 1) * STEP, scene[i].image)
        tracker.prompt(0, [Prompt(object_id=1, mask=next(iter(scene[i].truth.masks.values())))])
    saved = tracker.saved_objects()
    assert [one.frames for one in saved.objects] == [(0, 4, 5), (0,)] and set(saved.tokens) == {0, 4, 5}
    config, places = pico.config, pico.grid[0] * pico.grid[1]
    a_memory = pico.memory_tokens * config.memory_dim + config.dim + places * 4 + 1
    assert saved.memory_bytes == 4 * (4 * a_memory + 2 * config.dim + 3 * places * config.dim)
    save_objects(tracker, tmp_path / "file")
    assert (tmp_path / "file").stat().st_size < saved.memory_bytes + 8192
    smaller = Tracker(pico, "fifo+match", TrackerConfig(max_conditioning=2))
    smaller.step(STEP, scene[6].image)
    smaller.restore_objects(saved)
    held = smaller._segmenter.bank.host_frames[0, :2].tolist()
    assert held == [-4, -2]  # the first, and the newest


def test_what_the_file_holds_is_what_was_saved(pico, scene, tmp_path):
    saved = save_objects(morning(pico, scene, "fifo+match"), tmp_path / "file")
    read, made_with = read_objects(tmp_path / "file")
    assert made_with.difference(MadeWith.of(pico)) == "" and read.policy == "fifo+match"
    for one, other in zip(saved.objects, read.objects, strict=True):
        assert (one.frames, one.class_name, one.prototype_frames) == (
            other.frames, other.class_name, other.prototype_frames,
        )  # fmt: skip
        assert set(one.tensors) == set(other.tensors) and len(one.tensors) == 5
        for name, value in one.tensors.items():
            assert torch.equal(value, other.tensors[name])
    assert saved.tokens.keys() == read.tokens.keys()
    assert not list(tmp_path.glob("*.part"))


def test_p48_another_model_is_refused_with_both_values(pico, scene, kept, tmp_path):
    file, saved = tmp_path / "file", kept["fifo"]
    made_with = MadeWith.of(pico)
    digest = made_with.sha256[0]
    assert len(digest) == 64
    tracker = Tracker(pico, "fifo")
    tracker.step(STEP, scene[3].image)

    def refused(made_with, text):
        write_objects(saved, made_with, file)
        with pytest.raises(ObjectMemoryError, match=text):
            load_objects(tracker, file)
        assert tracker.object_ids == ()

    identity = made_with.identity
    refused(replace(made_with, identity=replace(identity, model="sam2s_giant")), f"sam2s_giant instead of {pico.name}")
    side = pico.image_size
    refused(replace(made_with, identity=replace(identity, image_size=1024)), f"1024 px instead of {side} px")
    refused(replace(made_with, sha256=("f" * 64, "")), f"checkpoint has sha256 {'f' * 64} instead of {digest}")
    refused(replace(made_with, sha256=(digest, "a" * 64)), f"adapter has sha256 {'a' * 64} instead of of no file")
    refused(replace(made_with, identity=replace(identity, probe=-identity.probe)), "with other weights")
    write_objects(saved, replace(made_with, sha256=("", "")), file)  # no file is known: what it computes decides
    assert read_objects(file)[1].difference(made_with) == ""


def damaged(path, out, change):
    """A copy of a file with other tensors, or another table."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    change(tensors, metadata)
    save_file(tensors, out, metadata=metadata)
    return out


def test_p48_a_damaged_file_is_named(pico, scene, kept, tmp_path):
    good = tmp_path / "good"
    write_objects(kept["fifo+match"], MadeWith.of(pico), good)
    tracker = Tracker(pico, "fifo")
    tracker.step(STEP, scene[3].image)
    whole = good.read_bytes()
    cases = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a file of tensors" * 9}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    nan = damaged(good, tmp_path / "nan", lambda t, m: t["objects.0.spatial"].fill_(torch.nan))
    gone = damaged(good, tmp_path / "gone", lambda t, m: t.pop("probe"))
    short = damaged(good, tmp_path / "short", lambda t, m: t.update({"objects.1.trust": torch.ones(3)}))
    other = damaged(good, tmp_path / "other", lambda t, m: m.update(format="sam2s prototypes 1"))
    table = damaged(good, tmp_path / "table", lambda t, m: m.update(table=m["table"].replace("[0]", "[3, 1]")))
    small = damaged(good, tmp_path / "small", lambda t, m: t.update({"objects.0.pointers": torch.ones(1, 3)}))
    for path, text in (
        (tmp_path / "cut", "no file of objects"),
        (tmp_path / "empty", "no file of objects"),
        (tmp_path / "text", "no file of objects"),
        (tmp_path / "absent", "do not exist"),
        (nan, "objects.0.spatial has numbers that are not finite"),
        (gone, "no file of objects"),
        (short, "object 1 has 1 frames, and memories of"),
        (other, f"'sam2s prototypes 1', expected '{FORMAT}'"),
        (table, r"frames \(3, 1\): expected 1 to 32, ascending"),
        (small, r"pointers of a frame has shape \(3,\), expected"),
    ):
        with pytest.raises(ObjectMemoryError, match=text) as told:
            load_objects(tracker, path)
        assert str(path) in str(told.value), path
    with pytest.raises(ObjectMemoryError, match="cannot be written to"):
        write_objects(kept["fifo"], MadeWith.of(pico), tmp_path / "no" / "folder")


def test_objects_that_nobody_has_named_have_no_class(pico, scene):
    labels = LabelSet("own", (ClassLabel(3, "tool", (1, 2, 3)), ClassLabel(4, "other", (4, 5, 6))))
    tracker = Tracker(pico, "fifo", label_set=labels)
    tracker.step(STEP, scene[0].image)
    masks = list(scene[0].truth.masks.values())
    tracker.prompt(0, [Prompt(mask=masks[0]), Prompt(mask=masks[1], class_name="other")])
    saved = tracker.saved_objects()
    assert [one.class_name for one in saved.objects] == ["", "other"]
    generic = Tracker(pico, "fifo")
    generic.step(STEP, scene[3].image)
    generic.restore_objects(replace(saved, objects=saved.objects[:1]))
    assert generic.newest.class_names == ("instrument",) and np.isnan(generic.newest.class_scores).all()


def test_slots_of_prompted_frames_are_used_again():
    """Objects that have no frame in some slot once kept the slots without a frame from being used, for ever."""
    store = FrameStore(
        Matching(), ring=2, conditioning=4, places=4, dim=2, device=torch.device("cpu"), dtype=torch.float32
    )
    tokens = torch.ones(4, 2)
    for frame in range(0, 50, 10):
        store.prompted(frame, tokens, [frame, EMPTY, EMPTY])
        store.clear()
    assert store.slots == 1 + store.matching.older + store.matching.newest
    for frame in (50, 60, 70):
        store.prompted(frame, tokens, [EMPTY, 50, 60, 70])
    assert store.slots - store.matching.older - store.matching.newest == 4


def test_frames_that_were_prompted_under_a_policy_without_labels_are_not_saved_with_them(pico, scene):
    """They have no labels, nor features to match; what is prompted later has both."""
    tracker = morning(pico, scene, "fifo", prompted=1)
    tracker.set_policy("fifo+match")
    with pytest.raises(ObjectMemoryError, match="object 1 was not prompted since the policy changed"):
        tracker.saved_objects()
    tracker.prompt(0, [Prompt(object_id=1, mask=next(iter(scene[1].truth.masks.values())))])
    assert tracker.saved_objects().objects[0].frames == (1,)


def test_the_model_is_what_was_loaded_whatever_its_file_is_by_now(scene, tmp_path):
    """A run that replaces its best weights gave objects the digest of weights that had never seen them."""
    path, file = tmp_path / "best.safetensors", tmp_path / "file"
    shutil.copy(resolve_checkpoint("sam2s_pico"), path)
    digest = file_sha256(path)
    tracker = morning(load_model(path, device="cpu", precision="fp32"), scene, "fifo")
    (tmp_path / "newer").write_bytes(b"other weights")
    (tmp_path / "newer").replace(path)
    save_objects(tracker, file)
    assert read_objects(file)[1].sha256 == (digest, "")
    path.unlink()
    save_objects(tracker, file)
    assert read_objects(file)[1].sha256 == (digest, "") and len(load_objects(tracker, file)) == 2
