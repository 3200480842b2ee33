"""Discovery between frames: what nobody prompted is proposed or tracked, and only when the parameters ask for it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sam2s_model.config import TrackerConfig
from sam2s_model.discovery.learnt import LearntClasses, save_learnt
from sam2s_model.discovery.prototype_file import ModelIdentity, save_prototypes
from sam2s_model.errors import PrototypeError
from sam2s_model.network.class_prompts import ClassPrompts
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import Return, State
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.interfaces.proposals import proposals_message
from sam2s_ros.tracker.auto_prompt import AutoPrompt
from sam2s_ros.tracker.prototypes import use_prototypes

STEP = 40_000_000


class Run:
    """A tracker, and what discovery does after each of its frames."""

    def __init__(self, pico, bank, unseen_frames, **config):
        self.tracker = Tracker(pico, config=TrackerConfig(max_objects=4))
        self.tracker.discovery.use(bank)
        self.images, self.config = unseen_frames, NodeConfig(**config)
        self.proposed, self.events = [], []
        self.on = True
        self.auto = AutoPrompt(self.propose, self.events.append)

    def propose(self, result, found) -> bool:
        if self.on:
            self.proposed.append((result.tracks.stamp, found))
        return self.on

    def step(self, count: int = 1) -> list[bool]:
        looked = []
        for _ in range(count):
            newest = self.tracker.newest
            stamp = (0 if newest is None else newest.stamp) + STEP
            tracks = self.tracker.step(stamp, self.images[stamp // STEP % len(self.images)].image)
            looked.append(self.auto(self.tracker, SimpleNamespace(config=self.config, tracks=tracks)))
        return looked


@pytest.fixture
def run(pico, bank, unseen_frames):
    return lambda **config: Run(pico, bank, unseen_frames, **config)


def test_p47_off_by_default(run):
    made = run(discovery_every=1)
    assert made.step(3) == [False] * 3 and not made.proposed and made.tracker.object_ids == ()


def test_propose_publishes_and_tracks_nothing(run):
    made = run(auto_prompt="propose", discovery_every=2)
    assert made.step(4) == [True, False, True, False]
    assert [stamp for stamp, _ in made.proposed] == [STEP, 3 * STEP]
    assert any(one.class_name == "instrument" for one in made.proposed[0][1])
    assert made.tracker.object_ids == () and made.events == []


def test_track_starts_what_is_of_a_class_once(run, unseen_frames):
    made = run(auto_prompt="track", discovery_every=2, auto_prompt_score=0.5)
    made.step(1)
    ids = made.tracker.object_ids
    assert 0 < len(ids) <= 4 and set(made.tracker.newest.class_names) == {"instrument"}
    assert len(made.events) == 1 and "auto_prompt started objects 1 (instrument, " in made.events[0]
    truth = unseen_frames[1].truth.masks.values()
    found = [made.tracker.newest.mask(i) for i in ids]
    assert any((mask & one).sum() / (mask | one).sum() > 0.5 for mask in truth for one in found)
    before = len(made.tracker.discovery.bank)
    made.step(3)
    assert set(ids) <= set(made.tracker.object_ids) and len(made.tracker.object_ids) <= 4
    assert len(made.tracker.discovery.bank) == before  # nobody has confirmed it


def test_track_starts_nothing_below_its_score(run):
    made = run(auto_prompt="track", discovery_every=1, auto_prompt_score=1.0)
    assert made.step(2) == [True, True] and made.tracker.object_ids == ()


def test_p28_what_was_found_is_not_tracked_when_the_node_was_switched_off_meanwhile(run):
    made = run(auto_prompt="track", discovery_every=1, auto_prompt_score=0.5)
    made.on = False
    assert made.step(1) == [True] and made.tracker.object_ids == () and made.proposed == made.events == []
    made.on = True
    made.step(1)
    assert made.tracker.object_ids


class Reviewed:
    """A tracker that says what it was asked. One object, in a state."""

    object_ids = (3,)

    def __init__(self, state: State):
        self.asked: list[dict] = []
        self.tracks = SimpleNamespace(
            states=np.array([state]), class_names=("hook",), index=lambda object_id: 0, __len__=lambda: 1
        )
        self.newest = self.tracks

    def rediscover(self, **how):
        self.asked.append(how)
        kind = Return.FOUND if how["find"] else Return.RECONDITIONED
        return [SimpleNamespace(object_id=3, kind=kind, similarity=0.8, gain=0.25)]


class OneObject(SimpleNamespace):
    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "state, config, asked, event",
    [
        (
            State.LOST,
            dict(refind=True),
            dict(find=True, recondition=False),
            "was lost, and discovery found it: .* 0.80",
        ),
        (State.TRACKED, dict(refind=True), None, None),
        (State.TRACKED, dict(recondition=True), dict(find=False, recondition=True), "prompted anew .* better by 0.25"),
        (State.LOST, {}, None, None),
    ],
)
def test_it_looks_again_when_it_is_asked_to_and_says_what_it_did(state, config, asked, event):
    import re

    tracker, events = Reviewed(state), []
    auto = AutoPrompt(lambda result, found: True, events.append)
    tracks = OneObject(states=np.array([state]))
    result = SimpleNamespace(config=NodeConfig(discovery_every=2, **config), tracks=tracks)
    looked = asked is not None
    assert [auto(tracker, result) for _ in range(4)] == [looked, False] * 2
    assert tracker.asked == ([asked] * 2 if asked else [])
    assert len(events) == 2 * bool(event) and (not event or re.search(event, events[0]))


def test_proposals_become_a_message(pico, bank, unseen_frames):
    from std_msgs.msg import Header

    from sam2s_model.discovery.discover import discover
    from sam2s_model.semantics import GENERIC

    found = discover(pico, unseen_frames[0].image, bank)
    msg = proposals_message(found, Header(frame_id="camera"), GENERIC, unseen_frames[0].image.shape[:2])
    assert msg.header.frame_id == msg.label_image.header.frame_id == "camera" and len(msg.proposals) == len(found)
    labels = np.frombuffer(msg.label_image.data, np.uint8).reshape(128, 160)
    scores = [one.score for one in msg.proposals]
    assert scores == sorted(scores, reverse=True) and [one.label for one in msg.proposals] == list(
        range(1, len(found) + 1)
    )
    best = msg.proposals[0]
    assert (labels == 1).sum() == best.area > 0
    y, x = np.nonzero(labels == 1)
    box = best.bounding_box
    assert (box.x_offset, box.y_offset, box.width, box.height) == (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
    for one in msg.proposals:
        assert one.class_id == (1 if one.class_name == "instrument" else 0)


def test_prototypes_are_loaded_or_begun(pico, bank, tmp_path):
    tracker, path = Tracker(pico), tmp_path / "bank.safetensors"
    assert "is not there yet" in use_prototypes(tracker, str(path))
    save_prototypes(bank, ModelIdentity.of(pico), path)
    assert "prototypes of instrument from" in use_prototypes(tracker, str(path))
    assert tracker.discovery.bank.class_names == ("instrument",)
    bank.add("spoon", bank.prototypes("instrument")[0][:1])
    save_prototypes(bank, ModelIdentity.of(pico), path)
    assert "label set 'generic' does not have spoon" in use_prototypes(tracker, str(path))
    learnt = LearntClasses(ClassPrompts(1, pico.config.decoder_width, pico.grid[0]), ["instrument"], pico)
    save_learnt(learnt, ModelIdentity.of(pico), path)
    assert "class prompts of instrument from" in use_prototypes(tracker, str(path))
    assert tracker.discovery.learnt.names == ("instrument",)
    path.write_bytes(b"nothing")
    with pytest.raises(PrototypeError, match="no file of prototypes"):
        use_prototypes(tracker, str(path))
