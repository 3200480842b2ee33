"""The frames that labels are propagated from: a request that fails leaves them as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2s_model.config import TrackerConfig
from sam2s_model.prompts import Prompt
from sam2s_model.tracking import tracker as tracking
from sam2s_model.tracking.memory import FrameStore, Matching


def tokens(frame: int) -> torch.Tensor:
    return torch.full((4, 2), float(frame))


@pytest.mark.parametrize("needed", [{0, 2}, {0, 1}], ids=["a slot is used again", "slots are added"])
def test_what_gave_way_is_back_after_a_request_that_failed(needed):
    store = FrameStore(Matching(), 3, 2, 4, 2, torch.device("cpu"), torch.float32)
    for frame in (0, 1):
        store.prompted(frame, tokens(frame), {0, 1})
    saved = store.save()
    store.prompted(2, tokens(2), needed)
    store.prompted(3, tokens(3), {0, 3})
    store.restore(saved)
    for frame in (0, 1):
        assert (store.tokens_of(frame) == tokens(frame)).all()
    assert store.entries(torch.tensor(9)).frames[: len(store._prompted)].tolist() == [0, 1]
    store.prompted(4, tokens(4), {0, 4})
    store.restore(saved)  # it is good for more than once
    assert (store.tokens_of(1) == tokens(1)).all()


def test_a_prompt_that_runs_out_of_memory_takes_no_frame_of_another(model, frames, monkeypatch):
    """At most 2 prompted frames: the third takes the slot of the second."""
    tracker = tracking.Tracker(model, "match", TrackerConfig(max_conditioning=2))
    box = np.array([20, 30, 60, 60], np.float32)
    for i in range(3):
        tracker.step(i + 1, frames[i])
        if i < 2:
            tracker.prompt(0, [Prompt(object_id=i, box=box)])  # 0: a new one, which is 1
    store = tracker.matches.store
    before = [store.tokens_of(frame).clone() for frame in (0, 1)]

    def failing(*arguments):
        raise torch.OutOfMemoryError("injected")

    monkeypatch.setattr(tracking, "read_answers", failing)
    with pytest.raises(torch.OutOfMemoryError):
        tracker.prompt(0, [Prompt(object_id=1, box=box)])
    assert tracker._segmenter.bank.prompted_frames(0) == [0, 1]
    assert all((store.tokens_of(frame) == old).all() for frame, old in enumerate(before))


def test_a_later_frame_gives_way_until_it_is_put_back():
    store = FrameStore(Matching(), 3, 2, 4, 2, torch.device("cpu"), torch.float32)
    for frame in (0, 5):
        store.prompted(frame, tokens(frame), {0, 5})
    before = store.slots, store.generation
    store.prompted(3, tokens(3), {0, 3}, later={5})
    assert sorted(store._prompted) == [0, 3] and (store.tokens_of(3) == tokens(3)).all()
    store.put_back(5, {0, 5}, ())
    assert sorted(store._prompted) == [0, 5] and (store.tokens_of(5) == tokens(5)).all()
    assert (store.slots, store.generation) == before
    store.put_back(5, {0, 5}, ())  # of one that has not given way nothing is done
    store.prompted(3, tokens(3), {0, 3, 5})
    assert sorted(store._prompted)[-3:] == [0, 3, 5], "what is needed all the time has room"
