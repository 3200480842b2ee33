"""What came while a recording was played: which masks belong where, streaming accuracy worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.evaluation.live import (
    Delivery,
    GivenPrompt,
    LiveLog,
    PackedTruth,
    live_steps,
    newest_arrived,
    prompt_frames,
)
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.evaluation.scores import Scorer
from sam2s_model.recordings.recording import FIRST_STAMP_NS, Frame, Recording, Truth
from sam2s_model.tracks import Tracks

SIZE = (16, 40)
ID = 7  # the tracker's, of object 1


def square(index: int) -> np.ndarray:
    """10 px wide, 2 px further right on every frame: what is d frames old has an IoU of (10 - 2 d) / (10 + 2 d)."""
    mask = np.zeros(SIZE, bool)
    mask[3:13, 4 + 2 * index : 14 + 2 * index] = True
    return mask


class Moving(Recording):
    """Six frames of a square; `bare` ones are not annotated."""

    def __init__(self, bare=()):
        super().__init__("moving", "test")
        self._bare = bare

    def _frames(self):
        for index in range(6):
            truth = None if index in self._bare else Truth({1: square(index)})
            yield Frame(index, FIRST_STAMP_NS + index, f"{index:06d}", np.zeros((*SIZE, 3), np.uint8), truth)


def tracks(index: int, known: bool = True) -> Tracks:
    """Exactly the square, where it is known."""
    if not known:
        return Tracks.empty(shown(index), *SIZE)
    one = np.ones(1)
    return Tracks(
        stamp=shown(index),
        label_map=square(index).astype(np.uint8),
        object_ids=(one * ID).astype(np.int64),
        labels=one.astype(np.uint8),
        class_ids=one.astype(np.uint8),
        class_names=("",),
        states=one.astype(np.uint8),
        scores=one.astype(np.float32),
        predicted_ious=one.astype(np.float32),
        boxes=np.zeros((1, 4), np.int32),
        areas=one.astype(np.int64),
        centroids=np.zeros((1, 2), np.float32),
    )


def shown(index: int) -> int:
    return 1000 * (1 + index)


def delivery(index: int, arrived: int, known: bool = True) -> Delivery:
    """arrived: after frame 0 was shown"""
    return Delivery(shown(index), shown(index) + 10, shown(index) + 210, 1000 + arrived, lambda: tracks(index, known))


def log(*deliveries: Delivery, prompt: int = 0) -> LiveLog:
    return LiveLog(
        {i: shown(i) for i in range(6)},
        list(deliveries),
        [GivenPrompt(1, ID, prompt, 1100, 1400)],
        {prompt: tracks(prompt)},
    )


DAVIS = EvaluationProtocol()


def scored(
    record: LiveLog, protocol: EvaluationProtocol = DAVIS, recording: Recording | None = None
) -> tuple[dict, dict, Scorer]:
    """frame -> J, of delivered and of streaming masks; the scorer of the delivered ones"""
    delivered, streaming = Scorer(protocol, {}), Scorer(protocol, {})
    for frame, own, late in live_steps(recording or Moving(), record, protocol):
        if own:
            delivered.add(own)
        else:
            delivered.note_annotated(frame)
        if late:
            streaming.add(late)
    found = []
    for scorer in (delivered, streaming):
        scorer.finish()
        found.append({row.frame: row.j for row in scorer.rows if row.scored})
    return *found, delivered


def test_newest_arrived():
    came = [delivery(0, 500), delivery(1, 2600), delivery(2, 2500)]  # frame 2 overtakes frame 1
    found = newest_arrived([1499, 1500, 3499, 3500, 3600, 9999], came)
    assert found == [None, came[0], came[0], came[2], came[2], came[2]]
    assert newest_arrived([1, 2], []) == [None, None]


# the masks of frame 0 are without the object; 2 and 5 were dropped; those of 3 came after frame 4 was shown
CAME = (delivery(0, 200, known=False), delivery(1, 1500), delivery(3, 4200), delivery(4, 4900))


def test_streaming_by_hand():
    _, streaming, _ = scored(log(*CAME), EvaluationProtocol(scored="all"))
    assert streaming == pytest.approx({1: 0.0, 2: 8 / 12, 3: 6 / 14, 4: 4 / 16, 5: 8 / 12})


def test_delivered_masks_are_scored_where_they_came():
    delivered, streaming, scorer = scored(log(*CAME))
    assert delivered == {1: 1.0, 3: 1.0, 4: 1.0} and set(streaming) == {1, 2, 3, 4}, (
        "the prompted and the last do not count"
    )
    assert scorer.result()["annotated"] == 6 and scorer.result()["scored_frames"] == 3
    delivered, _, _ = scored(log(*CAME), EvaluationProtocol(scored="all"))
    assert delivered == {0: 1.0, 1: 1.0, 3: 1.0, 4: 1.0}, "the answer to the prompt counts for its own frame"


def test_an_object_that_masks_do_not_know_yet():
    """Its prompt took effect two frames later: those frames are not scored as delivered, and missed in the stream."""
    came = [delivery(i, 1000 * i + 100, known=i > 2) for i in range(6)]
    delivered, streaming, _ = scored(log(*came), EvaluationProtocol(scored="all"))
    assert delivered == {0: 1.0, 3: 1.0, 4: 1.0, 5: 1.0}
    assert streaming == pytest.approx({1: 0.0, 2: 0.0, 3: 0.0, 4: 8 / 12, 5: 8 / 12})


def test_frames_without_truth_and_frames_that_were_not_shown():
    record = log(*CAME)
    del record.shown[4], record.shown[5]  # interrupted
    steps = list(live_steps(Moving(bare=(1, 2)), record, EvaluationProtocol()))
    assert [(f.index, own is not None, late is not None) for f, own, late in steps] == [
        (0, True, True), (1, True, False), (2, False, False), (3, True, True),
    ]  # fmt: skip
    assert [f.index for f, _, _ in live_steps(Moving(), log(*CAME), EvaluationProtocol(frames=2))] == [0, 1]


def test_packed_truth_is_the_truth():
    truth = Truth({1: square(0), 3: np.zeros(SIZE, bool)}, square(4), complete=False)
    packed = PackedTruth(truth)
    found = packed.unpack()
    assert packed.visible == {1} and not found.complete and np.array_equal(found.void, truth.void)
    assert found.masks.keys() == {1, 3} and all(np.array_equal(found.masks[k], truth.masks[k]) for k in (1, 3))
    assert found.masks[1].dtype == bool and PackedTruth(Truth({1: square(0)})).unpack().void is None


def test_prompt_frames():
    assert list(prompt_frames(Moving(bare=(0, 2)), EvaluationProtocol())) == [1, 3, 4, 5]
    assert list(prompt_frames(Moving(bare=(0, 2)), EvaluationProtocol(frames=4))) == [1, 3]
