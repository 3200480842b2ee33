"""What two heartbeats of a tracker tell of drops, masks and objects, and what to do about it."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest

from sam2s_ros.doctor.checks import Level
from sam2s_ros.doctor.running import Watched, discovery_limits, judge_counts, judge_images
from sam2s_ros.interfaces.publishers import Publishers
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.processes.dds import used_domains

FIRST = dict(received=100, published=90, dropped_overload=10, objects=1, latency_p50=20.0, latency_p99=30.0)


def findings(masks: int, **changed: int) -> dict[str, tuple[Level, str]]:
    watched = Watched(TrackerStatus(**FIRST), TrackerStatus(**{**FIRST, **changed}), masks, 5.0)
    return {f.what.removeprefix("/t: "): (f.level, f.advice) for f in judge_counts("/t", watched)}


def test_a_tracker_that_follows_is_fine():
    found = findings(100, received=200, published=190)
    assert found == {"masks": (Level.OK, ""), "objects": (Level.OK, "")}


@pytest.mark.parametrize("cause, parameter", [
    ("dropped_late", "max_output_age"), ("dropped_stamp", "on_time_jump"), ("dropped_image", "compressed"),
    ("dropped_error", "max_step_errors"), ("dropped_disabled", "~/enable"),
])  # fmt: skip
def test_drops_name_the_parameter(cause, parameter):
    level, advice = findings(20, received=200, published=110, **{cause: 80})[cause]
    assert level is Level.WARN and parameter in advice


def test_a_camera_that_is_somewhat_faster_is_no_finding_and_a_much_faster_one_is():
    assert "dropped_overload" not in findings(70, received=200, published=160, dropped_overload=40)
    assert findings(30, received=200, published=120, dropped_overload=80)["dropped_overload"][0] is Level.WARN


def test_masks_that_do_not_arrive_are_told_from_masks_that_are_not_made():
    level, advice = findings(0, received=200, published=190)["masks"]
    assert level is Level.FAIL and "lost on the way" in advice
    level, advice = findings(0, received=200, dropped_late=100)["masks"]
    assert level is Level.FAIL and "dropped" in advice
    assert findings(98, received=200, published=190)["masks"][0] is Level.OK, "one may be on its way"


def test_nothing_tracked_is_said_with_the_command():
    level, advice = findings(100, received=200, published=190, objects=0)["objects"]
    assert level is Level.WARN and "sam2s prompt --box" in advice


NOBODY = Publishers("nobody publishes /image")
THERE = Publishers("/image is published by /camera, and nothing of it arrives now")
UNHEARD = Publishers("a quality of service that does not fit", unheard=True)
SEVERAL = Publishers("2 publishers", "2 publishers")


def images(state: int, new: int, publishers: Publishers) -> tuple[Level, str, str]:
    watched = Watched(TrackerStatus(state=state), TrackerStatus(state=state, received=new), 0, 5.0)
    found = judge_images("/t", "/image", publishers is not NOBODY, publishers, watched)
    return found.level, found.seen, found.advice


@pytest.mark.parametrize("state", [TrackerStatus.STATE_INACTIVE, TrackerStatus.STATE_UNKNOWN])
@pytest.mark.parametrize(
    "publishers, level, advice",
    [
        (THERE, Level.OK, ""),
        (SEVERAL, Level.WARN, SEVERAL.warning),
        (NOBODY, Level.WARN, NOBODY.silent),
        (UNHEARD, Level.FAIL, UNHEARD.silent),
    ],
)
def test_of_a_tracker_that_counts_no_images_only_the_graph_is_told(state, publishers, level, advice):
    assert images(state, 0, publishers) == (level, "/image, not counted while it is not active", advice)
    silent = judge_images("/t", "/image", publishers is not NOBODY, publishers, None)
    assert silent.level is level and silent.seen.endswith("not counted while no heartbeat comes")


def test_an_active_tracker_without_images_is_told_why_and_one_with_them_their_rate():
    active = TrackerStatus.STATE_RUNNING
    for publishers in (NOBODY, THERE, UNHEARD):
        said = (Level.FAIL, "none of /image came while it was watched", publishers.silent)
        assert images(active, 0, publishers) == said
    assert images(active, 50, THERE) == (Level.OK, "10.0 images/s of /image", "")
    assert images(active, 50, SEVERAL) == (Level.WARN, "10.0 images/s of /image", SEVERAL.warning)


def test_the_domains_that_are_in_use_are_found():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as used:
        with suppress(OSError):  # somebody is in this domain, which is as good
            used.bind(("", 7400 + 250 * 97 + 10))
        assert 97 in used_domains()
    assert all(0 <= domain <= 232 for domain in used_domains())


@pytest.mark.parametrize(
    "variables, said",
    [
        ({}, []),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "ROS_LOCALHOST_ONLY": "0"}, []),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, ["no other process is found at all"]),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, ["not found on another machine"]),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "subnet"}, ["not found on another machine"]),
        ({"ROS_LOCALHOST_ONLY": "1"}, ["not found on another machine"]),
    ],
)
def test_variables_that_keep_a_tracker_from_being_found_are_named(variables, said):
    found = list(discovery_limits(variables))
    assert len(found) == len(said) and all(one.endswith(end) for one, end in zip(found, said, strict=True)), found
