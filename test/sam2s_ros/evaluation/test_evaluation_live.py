"""Parts of the live mode that need no graph: late prompts, and files as a camera."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from std_msgs.msg import Header

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.evaluation.live import Delivery, LiveLog, PackedTruth
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.open import Source, open_recording, open_recordings
from sam2s_model.recordings.recording import Truth
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.tracker import Tracker
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.evaluation.live import _replay_parameters
from sam2s_ros.evaluation.live_client import LivePrompts
from sam2s_ros.evaluation.task import Task
from sam2s_ros.interfaces.messages import masks_message, to_time
from sam2s_ros.srv import AddPrompts

SCENE = Scene(SceneConfig(width=96, height=80, frames=6, seed=2))
REMEMBERED = 2  # frames


class Direct:
    """A real tracker, asked without a graph."""

    def __init__(self, model):
        self.tracker, self.log, self.index_of = (
            Tracker(model, config=TrackerConfig(prompt_history=REMEMBERED)),
            LiveLog(),
            {},
        )

    def step(self, index: int) -> None:
        stamp = 1000 * (1 + index)
        tracks = self.tracker.step(stamp, np.ascontiguousarray(SCENE[index].image))
        self.index_of[stamp], self.log.shown[index] = index, stamp
        self.log.deliveries.append(Delivery(stamp, stamp, stamp, stamp, lambda: tracks))

    def add_prompts(self, prompts, timeout, *, stamp):
        found = self.tracker.prompt(stamp, prompts)
        masks = masks_message(
            found.tracks, Header(stamp=to_time(stamp)), sequence=0, received_ns=0, finished_ns=0, model=""
        )
        return AddPrompts.Response(success=True, object_ids=list(found.object_ids), masks=masks)


@pytest.fixture(scope="module")
def pico():
    return load_model(resolve_checkpoint("sam2s_pico"), image_size=64, device="cpu")


def truths(labels: dict[int, tuple[int, ...]]) -> dict[int, PackedTruth]:
    """frame -> the truth of these labels of the scene"""
    return {i: PackedTruth(Truth({k: SCENE[i].labels == k for k in own})) for i, own in labels.items()}


def given(client) -> list[tuple[int, int]]:
    return [(prompt.label, prompt.frame) for prompt in client.log.prompts]


def test_each_object_is_prompted_on_the_first_frame_with_masks_that_shows_it(pico):
    client = Direct(pico)
    prompts = LivePrompts(client, truths({1: (1,), 2: (1, 2), 3: (1, 2)}), EvaluationProtocol(), 1.0)
    for index in range(4):
        client.step(index)
        prompts.look()
    assert given(client) == [(1, 1), (2, 2)] and prompts.refused == 0
    assert prompts.ids == {p.label: p.object_id for p in client.log.prompts} and set(client.log.answers) == {1, 2}
    assert list(client.tracker.newest.object_ids) == list(prompts.ids.values())


def test_a_frame_that_is_forgotten_is_replaced_by_the_next(pico):
    client = Direct(pico)
    prompts = LivePrompts(client, truths({0: (1,), 2: (1,), 3: (1,)}), EvaluationProtocol(), 1.0)
    for index in range(4):
        client.step(index)
    prompts.look()  # late: the tracker remembers frames 2 and 3
    assert given(client) == [(1, 2)] and prompts.refused == 1
    mask = client.log.answers[2].mask(prompts.ids[1])
    assert np.count_nonzero(mask & (SCENE[2].labels == 1)) > 0


def test_corrections_with_start_first(pico):
    client = Direct(pico)
    prompts = LivePrompts(
        client, truths({0: (1,), 1: (1, 2)}), EvaluationProtocol(prompt="clicks", clicks=3, start="first"), 1.0
    )
    for index in range(2):
        client.step(index)
        prompts.look()
    assert given(client) == [(1, 0)] and client.tracker.revision > 1, "the first click, and corrections"


def test_masks_wait_until_the_number_of_their_frame_is_known(pico):
    client = Direct(pico)
    prompts = LivePrompts(client, truths({0: (1,)}), EvaluationProtocol(), 1.0)
    client.step(0)
    known, client.index_of = client.index_of, {}
    prompts.look()
    assert given(client) == []
    client.index_of = known
    prompts.look()
    assert given(client) == [(1, 0)]


def test_a_refusal_that_is_not_for_lateness_is_raised(pico):
    client = Direct(pico)
    client.step(0)
    wrong = PackedTruth(Truth({1: np.ones((10, 10), bool)}))
    with pytest.raises(RequestError, match="mask has shape") as caught:
        LivePrompts(client, {0: wrong}, EvaluationProtocol(), 1.0).look()
    assert caught.value.code == ErrorCode.INVALID_PROMPT


def test_files_are_played_under_the_numbers_of_their_frames(tmp_path: Path):
    """EndoVis 2018 has the images of all sequences in one folder."""
    for folder in ("images", "annotations"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for name, frames in (("seq_1", 2), ("seq_2", 12)):
        for i in range(frames):
            value = i + 100 * (name == "seq_2")
            cv2.imwrite(str(tmp_path / "set/images" / f"{name}_frame{i:03d}.png"), np.full((8, 8, 3), value, np.uint8))
            cv2.imwrite(str(tmp_path / "set/annotations" / f"{name}_frame{i:03d}.png"), np.ones((8, 8), np.uint8))
    (tmp_path / "set/images/seq_2_frame003.png").write_bytes(b"no image")
    source = Source(str(tmp_path / "set"))
    recording = next(r for r in open_recordings(source) if r.name == "seq_2")
    task = Task(source, "set", "seq_2", EngineOptions(), EvaluationProtocol(), rate=4.0)
    parameters = _replay_parameters(task, recording, tmp_path)
    assert parameters["rate"] == 4 * recording.fps == 8.0
    played = {frame.index: frame.image for frame in open_recording(parameters["source"])}
    expected = {frame.index: frame.image for frame in recording}
    assert played.keys() == expected.keys() == set(range(12)) - {3}
    assert all(np.array_equal(played[i], expected[i]) for i in played)
