"""What a tracker refuses, and that nothing is changed then."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ErrorCode, ImageError, RequestError, StampError
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import Tracker

BOX = np.array([20, 30, 60, 60], np.float32)
OTHER = np.array([90, 70, 140, 110], np.float32)


def started(model, frames, **config):
    """A tracker of one object from the first frame on, which is at the last."""
    tracker = Tracker(model, "fifo", TrackerConfig(**config))
    for i, frame in enumerate(frames):
        tracker.step(i + 1, frame)
        if i == 0:
            tracker.prompt(0, [Prompt(box=BOX)])
    return tracker


def test_p22_a_batch_is_all_or_nothing(model, frames):
    tracker = started(model, frames[:3])
    before, revision = tracker.newest, tracker.revision
    with pytest.raises(RequestError, match=r"point \(500, 5\) is outside the image: expected 0 <= x <= 159"):
        tracker.prompt(0, [Prompt(box=OTHER), Prompt(points=np.array([[500, 5]]), point_labels=np.array([1]))])
    assert tracker.newest is before and tracker.revision == revision and tracker.object_ids == (1,)


@pytest.mark.parametrize(
    "stamp, prompts, code",
    [
        (0, [], ErrorCode.EMPTY_REQUEST),
        (0, [Prompt()], ErrorCode.EMPTY_REQUEST),
        (77, [Prompt(box=BOX)], ErrorCode.UNKNOWN_STAMP),
        (0, [Prompt(object_id=9, box=BOX)], ErrorCode.UNKNOWN_OBJECT),
        (0, [Prompt(object_id=1, box=BOX), Prompt(object_id=1, box=BOX)], ErrorCode.INVALID_PROMPT),
        (0, [Prompt(class_name="spoon", box=BOX)], ErrorCode.UNKNOWN_CLASS),
        (0, [Prompt(box=BOX)] * 3, ErrorCode.TOO_MANY_OBJECTS),
    ],
)
def test_refused_requests_name_their_reason(model, frames, stamp, prompts, code):
    tracker = started(model, frames[:2], max_objects=3)
    with pytest.raises(RequestError) as refused:
        tracker.prompt(stamp, prompts)
    assert refused.value.code is code
    assert tracker.object_ids == (1,)


def test_prompt_before_the_first_image_is_refused(model):
    with pytest.raises(RequestError) as refused:
        Tracker(model).prompt(0, [Prompt(box=BOX)])
    assert refused.value.code is ErrorCode.NO_IMAGE


def test_remove_is_all_or_nothing(model, frames):
    tracker = started(model, frames[:2])
    with pytest.raises(RequestError, match="object 5 is not tracked: tracked are 1"):
        tracker.remove([1, 5])
    with pytest.raises(RequestError, match="no object ids"):
        tracker.remove([])
    assert tracker.object_ids == (1,)


def test_bad_frames_are_refused_and_change_nothing(model, frames):
    tracker = started(model, frames[:3])
    before = tracker.newest
    for stamp, image, error, words in [
        (3, frames[3], StampError, "not after"),
        (0, frames[3], StampError, "more than 0"),
        (9, frames[3][:60], ImageError, "160x60, but the stream is 160x120"),
        (9, frames[3][..., 0], ImageError, r"expected uint8 \(H, W, 3\)"),
        (9, frames[3].astype(np.float32), ImageError, "float32"),
    ]:
        with pytest.raises(error, match=words):
            tracker.step(stamp, image)
    assert tracker.newest is before
    assert tracker.step(9, frames[3]).stamp == 9


def test_a_name_belongs_to_no_image(model, frames):
    """The object that is named began after the image of the stamp: the newest, which shows it, is the answer's."""
    tracker = started(model, frames[:3])
    [second] = tracker.prompt(0, [Prompt(box=OTHER)]).object_ids
    named = tracker.prompt(2, [Prompt(object_id=second, class_name="object")])
    assert named.stamp == named.tracks.stamp == 3 and named.object_ids == (second,)
    assert named.tracks.class_names[named.tracks.index(second)] == "object" and tracker.newest is named.tracks
    both = tracker.prompt(2, [Prompt(object_id=i, class_name="instrument") for i in (1, second)])
    assert both.stamp == 3 and both.tracks.class_names == ("instrument", "instrument")
    assert tracker.prompt(2, [Prompt(object_id=1, class_name="object")]).stamp == 2, "it is on that one"

    before, revision = tracker.newest, tracker.revision
    with pytest.raises(RequestError, match=rf"object {second} was not there on the image of stamp 2 ns") as refused:
        tracker.prompt(2, [Prompt(object_id=1, box=BOX), Prompt(object_id=second, class_name="object")])
    assert refused.value.code is ErrorCode.INVALID_PROMPT
    assert tracker.newest is before and tracker.revision == revision
