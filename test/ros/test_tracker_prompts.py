"""Prompts to the tracker node in a real graph: what they give, and how they are refused."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import Point32
from sensor_msgs.msg import Image
from tracker_process import BOX, mask_prompt

from sam2s_ros.interfaces import image_codec, messages
from sam2s_ros.msg import ErrorCode, Prompt, TrackedObject
from sam2s_ros.srv import GetState


def test_no_image_before_the_first(tracker):
    answer = tracker.prompt(BOX)
    assert (answer.success, answer.error) == (False, ErrorCode.NO_IMAGE) and "wait for the first" in answer.message


def test_a_prompt_adds_an_object_to_the_frame_that_was_seen(fresh, camera):
    stamp = camera.send()
    fresh.masks_of(stamp)
    answer = fresh.prompt(mask_prompt(class_name="object"), stamp=stamp)
    assert answer.success and answer.error == ErrorCode.NONE and answer.message == ""
    assert messages.to_ns(answer.stamp_used) == stamp == messages.to_ns(answer.masks.header.stamp)
    [object_id] = answer.object_ids
    [found] = answer.masks.objects
    assert (found.object_id, found.class_id, found.class_name, found.state) == (
        object_id,
        2,
        "object",
        TrackedObject.STATE_TRACKED,
    )
    label_map = image_codec.to_gray(answer.masks.label_image)
    assert set(np.unique(label_map)) <= {0, found.label} and (label_map == found.label).sum() == found.area > 0
    assert len([m for m in fresh.masks if messages.to_ns(m.header.stamp) == stamp]) == 1  # one image, one output

    following = camera.send()
    masks = fresh.masks_of(following)
    assert [o.object_id for o in masks.objects] == [object_id] and masks.prompt_revision == answer.masks.prompt_revision
    tracks = messages.tracks_from_message(masks)
    semantic = fresh.graph.wait_until(lambda: fresh.semantic_images.of(following), 20)
    np.testing.assert_array_equal(image_codec.to_gray(semantic), tracks.semantic_map())
    state = fresh.graph.call(GetState, "tracker/get_tracker_state")
    assert [o.object_id for o in state.objects] == [object_id] and state.status.objects == 1
    assert state.labels.class_names == ["instrument", "object"]


@pytest.mark.parametrize(
    "prompts, code, said",
    [
        ([], "EMPTY_REQUEST", "no prompts"),
        ([Prompt()], "EMPTY_REQUEST", "no points, no strokes, no box and no mask"),
        (
            [Prompt(points=[Point32(x=64.0, y=5.0)], point_labels=[1])],
            "INVALID_PROMPT",
            "point (64, 5) is outside the image",
        ),
        ([Prompt(points=[Point32(x=float("nan"))], point_labels=[1])], "INVALID_PROMPT", "point (nan, 0)"),
        ([Prompt(points=[Point32(x=5.0, y=5.0)])], "INVALID_PROMPT", "1 points but 0 point labels"),
        ([Prompt(box=[20.0, 5.0, 10.0, 9.0])], "INVALID_PROMPT", "box (20, 5, 10, 9) is empty"),
        ([Prompt(box=[20.0, 5.0])], "INVALID_PROMPT", "box has shape (2,)"),
        ([mask_prompt(24, 64)], "INVALID_PROMPT", "mask has shape (24, 64): expected the image's, (48, 64)"),
        (
            [Prompt(mask=Image(encoding="mono8", height=48, width=64, step=64))],
            "INVALID_PROMPT",
            "image data has 0 bytes",
        ),
        (
            [Prompt(box=[1.0, 1.0, 9.0, 9.0], class_name="spoon")],
            "UNKNOWN_CLASS",
            "class 'spoon' is not in label set 'generic'",
        ),
        ([Prompt(box=[1.0, 1.0, 9.0, 9.0], object_id=4000)], "UNKNOWN_OBJECT", "object 4000 is not tracked"),
        ([BOX] * 17, "TOO_MANY_OBJECTS", "max_objects = 16"),
        ([BOX, Prompt(box=[20.0, 5.0, 10.0, 9.0])], "INVALID_PROMPT", "is empty"),  # all or nothing
    ],
)
def test_p21_p22_bad_prompts_are_refused_by_code_and_change_nothing(tracker, camera, prompts, code, said):
    if tracker.graph.call(GetState, "tracker/get_tracker_state").status.objects:
        tracker.reset()
    if tracker.prompt(Prompt()).error == ErrorCode.NO_IMAGE:
        tracker.masks_of(camera.send())
    answer = tracker.prompt(*prompts)
    assert (answer.success, answer.error) == (False, getattr(ErrorCode, code)) and said in answer.message
    assert tracker.status().objects == 0 and tracker.process.running()


def test_p20_a_stamp_that_is_not_remembered_is_refused(fresh, camera):
    first = camera.send()
    fresh.masks_of(first)
    stamp = camera.send()
    fresh.masks_of(stamp)
    answer = fresh.prompt(BOX, stamp=stamp - 1)
    assert (answer.success, answer.error) == (False, ErrorCode.UNKNOWN_STAMP) and str(stamp) in answer.message
    answer = fresh.prompt(BOX, stamp=1)
    assert (answer.success, answer.error) == (False, ErrorCode.TOO_OLD) and "prompt_history is 16" in answer.message


def test_p20_a_prompt_on_an_earlier_image_is_carried_to_the_newest(fresh, camera):
    stamps = []
    for number in range(3):
        stamps.append(camera.send(camera.picture(number)))
        fresh.masks_of(stamps[-1])
    answer = fresh.prompt(mask_prompt(class_name="object"), stamp=stamps[0])
    assert answer.success, answer.message
    assert answer.stamp_used == answer.masks.header.stamp == fresh.masks.of(stamps[0]).header.stamp
    assert answer.masks.header == fresh.masks.of(stamps[0]).header and list(answer.object_ids)
    assert answer.masks.sequence == fresh.masks.of(stamps[0]).sequence
    state = fresh.graph.call(GetState, "tracker/get_tracker_state")
    assert [o.object_id for o in state.objects] == list(answer.object_ids), "and it is on the newest image, too"


def test_p04_remove_and_reset_and_ids_go_on_counting(fresh, camera):
    fresh.masks_of(camera.send())
    first, second = fresh.prompt(BOX, BOX).object_ids
    answer = fresh.remove(first)
    assert answer.success and list(answer.remaining) == [second]
    answer = fresh.remove(second, first)
    assert (answer.success, answer.error) == (
        False,
        ErrorCode.UNKNOWN_OBJECT,
    ) and f"object {first} is not tracked" in answer.message
    assert fresh.remove().error == ErrorCode.EMPTY_REQUEST
    revision = fresh.status().prompt_revision
    assert fresh.reset().success
    assert fresh.status().objects == 0 and fresh.status().prompt_revision == revision + 1
    assert fresh.prompt(BOX).error == ErrorCode.NO_IMAGE
    masks = fresh.masks_of(camera.send())
    assert list(masks.objects) == [] and masks.prompt_revision == revision + 1
    [third] = fresh.prompt(BOX).object_ids
    assert third > second > first
