"""The tracker node as a process in a real graph: images in, masks out, counters, parameters, life cycle, signals."""

from __future__ import annotations

import signal
import time
from functools import partial

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from tracker_process import BOX, lifecycle, mask_prompt, transition

from sam2s_ros.interfaces import image_codec, messages
from sam2s_ros.msg import ClassLabels, ErrorCode, TrackedMasks, TrackerStatus
from sam2s_ros.srv import AddPrompts


def test_p05_p12_every_output_of_an_image_has_its_header_and_size(fresh, camera):
    overlays = fresh.graph.collect(Image, "tracker/overlay")
    published = fresh.status().published
    stamps = []
    for number in range(4):
        stamps.append(camera.send(camera.picture(number)))
        fresh.masks_of(stamps[-1])
    for stamp in stamps:
        masks = fresh.masks_of(stamp)
        assert masks.header == Header(stamp=messages.to_time(stamp), frame_id="endoscope") == masks.label_image.header
        assert (masks.label_image.height, masks.label_image.width, masks.label_image.encoding) == (48, 64, "mono8")
        assert list(masks.objects) == [] and not any(masks.label_image.data)
        assert messages.to_ns(masks.received) <= messages.to_ns(masks.finished)
        assert masks.model.endswith("/fifo")
        for topic in (fresh.label_images, fresh.semantic_images):
            image = fresh.graph.wait_until(partial(topic.of, stamp), 20)
            assert image.header == masks.header and (image.height, image.width) == (48, 64)
    assert [fresh.masks.of(s).sequence for s in stamps] == list(range(published + 1, published + 5))
    overlay = fresh.graph.wait_until(lambda: overlays.of(stamps[-1]), 5, lambda: "the overlay")
    assert (overlay.height, overlay.width, overlay.encoding) == (48, 64, "rgb8")
    np.testing.assert_array_equal(image_codec.to_rgb(overlay), camera.picture(3))  # nothing to draw
    fresh.settled()


def test_p16_rgb8_and_bgr8_of_one_picture_give_identical_masks(fresh, camera):
    maps = []
    for encoding in ("rgb8", "bgr8"):
        assert fresh.reset().success
        for number in range(2):
            pixels = camera.picture(number)
            stamp = camera.send(pixels if encoding == "rgb8" else pixels[..., ::-1], encoding=encoding)
            masks = fresh.masks_of(stamp)
            if number == 0:
                assert fresh.prompt(mask_prompt()).success
        assert len(masks.objects) == 1
        maps.append(image_codec.to_gray(masks.label_image))
    np.testing.assert_array_equal(*maps)


def test_p16_p17_images_that_cannot_be_used_are_refused_counted_and_named(fresh, camera):
    before = fresh.settled()
    bad_encoding = camera.message(time.time_ns(), camera.picture(0))
    bad_encoding.encoding = "rgb9"
    short = camera.message(time.time_ns(), camera.picture(0))
    short.height += 1
    for message in (bad_encoding, short):
        camera.publisher.publish(message)
        fresh.graph.wait_until(lambda: fresh.status().received > before.received, 20)
        before.received += 1
    after = fresh.settled()
    assert after.dropped_image == before.dropped_image + 2
    fresh.graph.wait_until(
        lambda: "expected 9408" in str([v.value for d in fresh.diagnostics for e in d.status for v in e.values]), 5
    )
    fresh.masks_of(camera.send())


def test_p02_zero_duplicate_and_older_stamps_are_refused_and_counted(fresh, camera):
    newest = camera.send()
    fresh.masks_of(newest)
    before = fresh.settled()
    for stamp in (0, newest, newest - 10**6):
        camera.publisher.publish(camera.message(stamp, camera.picture(0)))
        before.received += 1
        fresh.graph.wait_until(
            lambda: fresh.status().received == before.received, 20, f"stamp {stamp} to be received".format
        )
    after = fresh.settled()
    assert after.dropped_stamp == before.dropped_stamp + 3 and after.published == before.published


def test_p02_a_jump_back_begins_anew(fresh, camera):
    fresh.masks_of(camera.send())
    assert fresh.prompt(BOX).success
    stamps, seen = iter(range(5 * 10**9, 6 * 10**9, 10**7)), []

    def begun():  # a stray would cost itself: some must follow one another there
        seen.append(next(stamps))
        camera.publisher.publish(camera.message(seen[-1], camera.picture(1)))
        time.sleep(0.05)
        return next((m for m in map(fresh.masks.of, seen) if m is not None), None)

    masks = fresh.graph.wait_until(begun, 4, lambda: fresh.process.output)
    assert list(masks.objects) == []
    assert "stamps jumped back to 5." in fresh.process.output
    fresh.masks_of(camera.send())


def test_p18_a_change_of_size_begins_anew(fresh, camera):
    fresh.masks_of(camera.send())
    assert fresh.prompt(BOX).success
    masks = fresh.masks_of(camera.send(camera.picture(1, 60, 80)))
    assert (masks.label_image.height, masks.label_image.width) == (60, 80) and list(masks.objects) == []
    assert "the image is 80x60 of frame_id 'endoscope' instead of 64x48" in fresh.process.output
    fresh.masks_of(camera.send())


def test_enable_switches_off_and_on(fresh, camera):
    before = fresh.settled()
    assert fresh.graph.call(SetBool, "tracker/enable", SetBool.Request(data=False)).success
    camera.send()
    fresh.graph.wait_until(lambda: fresh.status().received == before.received + 1, 20)
    status = fresh.settled()
    assert (status.dropped_disabled, status.published) == (before.dropped_disabled + 1, before.published)
    assert status.state == TrackerStatus.STATE_DISABLED
    assert fresh.graph.call(SetBool, "tracker/enable", SetBool.Request(data=True)).success
    fresh.masks_of(camera.send())


def test_p09_stale_input_and_a_heartbeat_that_goes_on(fresh, camera):
    fresh.masks_of(camera.send())
    stale = fresh.graph.wait_until(
        lambda: next((s for s in list(fresh.statuses)[-3:] if s.state == TrackerStatus.STATE_STALE_INPUT), None), 5
    )
    assert 0.5 < stale.input_age < 5 and "input_timeout is 0.5 s" in stale.message
    count = len(fresh.statuses)
    fresh.graph.wait_until(lambda: len(fresh.statuses) >= count + 20, 10)
    told = list(fresh.statuses)[count:]
    between = np.diff([messages.to_ns(status.header.stamp) * 1e-9 for status in told])
    assert np.median(between) == pytest.approx(0.1, abs=0.03)  # in median, as the machine may pause
    assert np.diff([status.input_age for status in told]) == pytest.approx(
        between, abs=0.02
    )  # the age goes with the clock
    fresh.graph.wait_until(
        lambda: any(
            e.name == "/tracker: input" and e.level == DiagnosticStatus.STALE
            for d in fresh.diagnostics
            for e in d.status
        ),
        5,
    )


def test_labels_reach_a_late_joiner(tracker):
    labels = tracker.graph.collect(
        ClassLabels, "tracker/labels", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    tracker.graph.wait_until(lambda: labels, 5, lambda: "the latched labels")
    assert labels[0].class_names == ["instrument", "object"] and list(labels[0].class_ids) == [1, 2]


def test_p30_parameters_are_refused_with_the_reason_or_take_effect(fresh, camera):
    def put(name, kind, **value):
        request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(type=kind, **value))])
        return fresh.graph.call(SetParameters, "tracker/set_parameters", request).results[0]

    refused = put("input_timeout", ParameterType.PARAMETER_DOUBLE, double_value=0.0)
    assert not refused.successful and "input_timeout" in refused.reason and "0.01" in refused.reason
    refused = put("max_objects", ParameterType.PARAMETER_INTEGER, integer_value=3)
    assert not refused.successful and "max_objects cannot change while the node is configured" in refused.reason
    assert put("input_timeout", ParameterType.PARAMETER_DOUBLE, double_value=60.0).successful
    fresh.masks_of(camera.send())
    time.sleep(0.7)
    assert fresh.status().state == TrackerStatus.STATE_RUNNING
    assert put("input_timeout", ParameterType.PARAMETER_DOUBLE, double_value=0.5).successful
    assert fresh.status().state == TrackerStatus.STATE_STALE_INPUT


OWN_POLICY = """
from sam2s_model.tracking.memory import Policy

class Own(Policy):
    window = 2
"""


def test_p30_another_policy_keeps_the_objects(fresh, camera, tmp_path):
    def follow(policy: str):
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=policy)
        request = SetParameters.Request(parameters=[Parameter(name="policy", value=value)])
        return fresh.graph.call(SetParameters, "tracker/set_parameters", request).results[0]

    fresh.masks_of(camera.send())
    [object_id] = fresh.prompt(BOX).object_ids
    assert follow("divemem+efp").successful
    masks = fresh.masks_of(camera.send())
    assert masks.model == "sam2s_pico/divemem+efp" and [o.object_id for o in masks.objects] == [object_id]
    refused = follow("slm")
    assert not refused.successful and "no second memory attention" in refused.reason
    assert fresh.masks_of(camera.send()).model == "sam2s_pico/divemem+efp"
    (tmp_path / "own.py").write_text(OWN_POLICY)
    refused = follow(f"{tmp_path}/own.py:Other")
    assert not refused.successful and "own.py has no Other" in refused.reason
    assert follow(f"{tmp_path}/own.py:Own").successful
    masks = fresh.masks_of(camera.send())
    assert masks.model.endswith("/own.py:Own") and [o.object_id for o in masks.objects] == [object_id]
    assert follow("fifo").successful


def test_p28_inactive_publishes_nothing_and_answers(fresh, camera):
    fresh.masks_of(camera.send())
    [last_id] = fresh.prompt(BOX).object_ids
    before = fresh.settled()
    assert lifecycle(fresh.graph) == State.PRIMARY_STATE_ACTIVE
    assert transition(fresh.graph, Transition.TRANSITION_DEACTIVATE)
    count = len(fresh.masks)
    camera.send()
    answer = fresh.prompt(BOX)
    assert (answer.success, answer.error) == (False, ErrorCode.NOT_ACTIVE) and "activate" in answer.message
    assert "NOT_ACTIVE" in fresh.reset().message and not fresh.reset().success
    status = fresh.settled()
    assert (status.state, status.received) == (TrackerStatus.STATE_INACTIVE, before.received) and len(
        fresh.masks
    ) == count
    assert transition(fresh.graph, Transition.TRANSITION_CLEANUP)
    assert fresh.status().state == TrackerStatus.STATE_UNKNOWN
    assert transition(fresh.graph, Transition.TRANSITION_CONFIGURE) and transition(
        fresh.graph, Transition.TRANSITION_ACTIVATE
    )
    masks = fresh.masks_of(camera.send())
    assert masks.sequence == 1 and fresh.settled().published == 1
    assert fresh.prompt(BOX).object_ids[0] > last_id, "P4: an id is not given twice while the node lives"


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_p29_a_signal_while_tracking_ends_the_node_in_2_s_with_code_0(graph, start_tracker, camera, number):
    process = start_tracker(remap=("__ns:=/second", "image:=/image"))
    masks = graph.collect(TrackedMasks, "/second/tracker/masks")
    graph.wait_until(lambda: camera.send() and time.sleep(0.05) is None and masks or not process.running(), 60)
    assert process.running(), process.output
    assert graph.call(AddPrompts, "/second/tracker/add_prompts", AddPrompts.Request(prompts=[BOX])).success
    for _ in range(5):
        camera.send()
        time.sleep(0.03)
    code, took = process.stop(number)
    assert code == 0 and took < process.out_within, process.output
    assert "Traceback" not in process.output
