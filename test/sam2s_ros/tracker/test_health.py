"""What the status says in every situation, and that its counters agree."""

from dataclasses import replace

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.serialization import deserialize_message, serialize_message

from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.tracker.health import Health, ImageOutcome, NodeState, TrackerSnapshot

S = 10**9
CONFIG = NodeConfig(input_timeout=0.5, step_timeout=1.0, warn_latency=0.2, warn_dropped=0.5)
VIEW = TrackerSnapshot(model="m/none", device="cpu (1 threads)", objects=(1, 4), revision=3, memory_bytes=99)
CHOSEN = replace(VIEW, chosen="using sam2s_nano, the package's default on a CPU")


def situation(at=10.0, view=VIEW, busy=None, active=True, enabled=True, note="", seen=""):
    """now stands still throughout, as simulated time may."""
    return NodeState(10 * S, at, view, busy, active, enabled, note, seen)


def running(age=0.1):
    health = Health()
    health.received()
    health.accepted(5, 10.0 - age)
    health.published(5, 10.0, latency=0.05, step=0.04)
    return health


def failed():
    health = running()
    health.received()
    health.ended(ImageOutcome.ERROR, "RuntimeError: boom")
    return health


def late(flagged, age=0.1):
    health = running(age)
    health.received()
    if flagged:
        health.published(6, 10.0, latency=0.5, step=0.4, late="0.50 s after their image")
    else:
        health.ended(ImageOutcome.LATE, "0.50 s after their image", latency=0.5, step=0.4)
    return health


def recovered():
    health = failed()
    health.received()
    health.published(6, 10.0, latency=0.05, step=0.04)
    return health


def refused():
    health = Health()
    health.received()
    health.ended(ImageOutcome.IMAGE, "encoding 'foo' is not supported")
    return health


def unusable(health=None):
    health = health or Health()
    health.received()
    health.accepted(6, 9.9)
    health.ended(ImageOutcome.IMAGE, "jpeg is cut short", accepted=True)
    return health


def switched_on_again():
    health = running(age=3)
    health.switched_on(9.8)
    return health


def used_again():
    health = unusable()
    health.received()
    health.published(7, 10.0, latency=0.05, step=0.04)
    return health


@pytest.mark.parametrize(
    "health, at, state, said",
    [
        (Health(), situation(view=None, note="no such file"), "UNKNOWN", "not configured: no such file"),
        (Health(), situation(active=False), "INACTIVE", "not active"),
        (Health(), situation(), "WAITING", "no image so far"),
        (refused(), situation(), "WAITING", "encoding 'foo' is not supported"),
        (running(), situation(), "RUNNING", "2 objects"),
        (
            Health(),
            situation(active=False, view=CHOSEN),
            "INACTIVE",
            "not active; using sam2s_nano, the package's default",
        ),
        (
            Health(),
            situation(view=CHOSEN),
            "WAITING",
            "no image so far; using sam2s_nano, the package's default on a CPU",
        ),
        (running(), situation(view=CHOSEN), "RUNNING", "2 objects; using sam2s_nano, the package's default on a CPU"),
        (running(age=0.6), situation(), "STALE_INPUT", "no usable image for 0.60 s: input_timeout is 0.5 s"),
        (switched_on_again(), situation(), "RUNNING", "2 objects"),
        (switched_on_again(), situation(at=10.4), "STALE_INPUT", "no usable image for 3.40 s"),
        (running(), situation(enabled=False), "DISABLED", "~/enable"),
        (running(), situation(busy=0.9), "RUNNING", "2 objects"),
        (running(age=3), situation(busy=1.1), "ERROR", "1.1 s so far: step_timeout is 1 s"),
        (failed(), situation(), "ERROR", "RuntimeError: boom"),
        (late(flagged=False), situation(), "ERROR", "0.50 s after"),
        (late(flagged=True), situation(), "ERROR", "0.50 s after"),
        (
            late(flagged=False, age=3),
            situation(),
            "STALE_INPUT",
            "no usable image for 3.00 s: input_timeout is 0.5 s; 0.50 s after",
        ),
        (
            late(flagged=True, age=3),
            situation(),
            "STALE_INPUT",
            "no usable image for 3.00 s: input_timeout is 0.5 s; 0.50 s after",
        ),
        (failed(), situation(at=13.0), "ERROR", "RuntimeError: boom; no usable image for 3.10 s"),
        (
            unusable(),
            situation(at=13.0),
            "STALE_INPUT",
            "no usable image for 3.10 s: input_timeout is 0.5 s; last refused: jpeg is",
        ),
        (recovered(), situation(), "RUNNING", "2 objects"),
        (unusable(), situation(), "ERROR", "no image could be used so far: jpeg is cut short"),
        (unusable(running()), situation(), "ERROR", "no image could be used since stamp 0.000000005: jpeg is cut"),
        (unusable(), situation(enabled=False), "DISABLED", "~/enable"),
        (used_again(), situation(), "RUNNING", "2 objects"),
        (running(), situation(seen="the clock stands"), "RUNNING", "2 objects; the clock stands"),
        (Health(), situation(seen="the clock stands"), "WAITING", "no image so far; the clock stands"),
        (running(age=0.6), situation(seen="the clock stands"), "STALE_INPUT", "is 0.5 s; the clock stands"),
    ],
)
def test_state(health, at, state, said):
    msg = health.status(at, CONFIG)
    assert msg.state == getattr(TrackerStatus, f"STATE_{state}") and said in msg.message
    assert deserialize_message(serialize_message(msg), TrackerStatus).message == msg.message


def test_status_carries_counts_ages_and_what_the_tracker_says():
    msg = recovered().status(situation(at=12.0), CONFIG)
    assert (msg.received, msg.published, msg.dropped_error, msg.waiting) == (3, 2, 1, 0)
    assert msg.input_age == pytest.approx(2.1) and msg.output_age == pytest.approx(2.0)
    assert msg.latency_p50 == pytest.approx(50) and msg.step_p99 == pytest.approx(40)
    assert (msg.objects, msg.prompt_revision, msg.model, msg.device, msg.memory_bytes) == (
        2,
        3,
        "m/none",
        "cpu (1 threads)",
        99,
    )
    assert msg.last_received_stamp.nanosec == 5 and msg.last_published_stamp.nanosec == 6


def test_nothing_yet_is_minus_one():
    msg = Health().status(situation(), CONFIG)
    assert {msg.input_age, msg.output_age, msg.latency_p50, msg.latency_p99, msg.step_p50, msg.step_p99} == {-1.0}


@pytest.mark.parametrize("now", [0, 2 * S, 10 * S, 1000 * S])
def test_p38_whatever_the_clock_does_an_input_that_has_stopped_grows_old(now):
    health = running()
    msg = health.status(replace(situation(at=13.0), now=now), CONFIG)
    assert (msg.input_age, msg.output_age, msg.state) == (pytest.approx(3.1), 3.0, TrackerStatus.STATE_STALE_INPUT)
    age = dict((v.key, v.value) for v in health.diagnostics(msg, CONFIG, "tracker").status[0].values)["stamp_age"]
    assert float(age) == pytest.approx(now / S, abs=1e-3), "by the node's clock, beside it"


def test_p08_percentiles_are_of_the_last_thousand():
    health = Health()
    for latency in [9.0] * 500 + [0.001 * i for i in range(1000)]:
        health.published(1, 1, latency=latency, step=latency)
    msg = health.status(situation(), CONFIG)
    assert msg.latency_p50 == pytest.approx(499.5, abs=1) and msg.latency_p99 == pytest.approx(989, abs=2)


@pytest.mark.parametrize("flagged", [False, True])
def test_p08_percentiles_are_of_late_masks_too(flagged):
    msg = late(flagged).status(situation(), CONFIG)
    assert msg.latency_p50 == pytest.approx(275) and msg.latency_p99 == pytest.approx(495.5)
    assert msg.step_p99 == pytest.approx(396.4)


def test_clear_begins_again():
    health = failed()
    health.clear()
    msg = health.status(situation(), CONFIG)
    assert (msg.received, msg.dropped_error, msg.state) == (0, 0, TrackerStatus.STATE_WAITING)


@pytest.mark.parametrize(
    "health, at, levels",
    [
        (running(), situation(), ("OK", "OK")),
        (running(age=2), situation(), ("STALE", "OK")),
        (Health(), situation(), ("WARN", "OK")),
        (Health(), situation(view=None, note="x"), ("OK", "ERROR")),
        (failed(), situation(), ("WARN", "ERROR")),  # half of the images were dropped
        (running(), situation(busy=2.0), ("OK", "ERROR")),
        (
            running(age=3),
            situation(busy=2.0),
            ("STALE", "ERROR"),
        ),  # whatever is wrong with the tracking, the camera has stopped
        (failed(), situation(at=13.0), ("STALE", "ERROR")),
        (late(flagged=False, age=3), situation(), ("STALE", "WARN")),  # the latency
        (Health(), situation(active=False), ("OK", "OK")),
    ],
)
def test_diagnostics_levels(health, at, levels):
    array = health.diagnostics(health.status(at, CONFIG), CONFIG, "/left/tracker")
    assert tuple(entry.level for entry in array.status) == tuple(getattr(DiagnosticStatus, level) for level in levels)
    assert [entry.name for entry in array.status] == ["/left/tracker: input", "/left/tracker: tracking"]


@pytest.mark.parametrize(
    "health, state, said",
    [
        (failed(), TrackerStatus.STATE_ERROR, "RuntimeError: boom"),
        (late(False), TrackerStatus.STATE_DISABLED, "switched off by ~/enable"),
        (running(), TrackerStatus.STATE_DISABLED, "switched off by ~/enable"),
    ],
)
def test_p09_switched_off_nothing_is_said_of_a_camera_that_may_well_send(health, state, said):
    """Images that come then are counted as dropped_disabled, and not accepted: their age grows."""
    for at in (10.0, 99.0):
        msg = health.status(situation(at=at, enabled=False), CONFIG)
        assert (msg.state, msg.message) == (state, said)
        assert health.diagnostics(msg, CONFIG, "t").status[0].level != DiagnosticStatus.STALE
    msg = health.status(situation(at=99.0), CONFIG)
    assert "no usable image for" in msg.message, "on again"
    assert health.diagnostics(msg, CONFIG, "t").status[0].level == DiagnosticStatus.STALE


def test_diagnostics_thresholds_are_parameters():
    health = running()  # p99 is 50 ms
    strict = NodeConfig(warn_latency=0.04)
    tracking = health.diagnostics(health.status(situation(), strict), strict, "t").status[1]
    assert tracking.level == DiagnosticStatus.WARN and tracking.message == "latency p99 is 50 ms: warn_latency is 40 ms"


def test_p43_the_reason_is_in_the_status_while_nothing_comes_at_all(monkeypatch):
    nobody = replace(situation(), silent="nobody publishes /image")
    stale = running(age=2)
    assert "; nobody publishes" not in stale.status(nobody, CONFIG).message, "an image has reached the node just now"
    monkeypatch.setattr("sam2s_ros.tracker.health.QUIET", 0.0)
    for health in (Health(), stale):
        msg = health.status(nobody, CONFIG)
        assert msg.state in (TrackerStatus.STATE_WAITING, TrackerStatus.STATE_STALE_INPUT) and msg.message.endswith(
            "; nobody publishes /image"
        )
    assert "nobody" not in running().status(nobody, CONFIG).message


def test_p43_a_doubt_about_the_input_is_a_warning_of_the_input():
    entry, tracking = (
        running()
        .diagnostics(running().status(situation(), CONFIG), CONFIG, "t", source="2 publishers of /image")
        .status
    )
    assert (entry.level, entry.message) == (
        DiagnosticStatus.WARN,
        "2 publishers of /image",
    ) and tracking.level == DiagnosticStatus.OK
    health = failed()  # half of the images were dropped, which does not hide it
    entry, _ = health.diagnostics(
        health.status(situation(), CONFIG), CONFIG, "t", source="2 publishers of /image"
    ).status
    assert "50% of the images were dropped" in entry.message and entry.message.endswith("; 2 publishers of /image")


def test_p46_a_picture_that_stays_next_to_empty_is_a_warning(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("sam2s_ros.tracker.health.time.monotonic", lambda: clock[0])
    health, config = Health(), NodeConfig(warn_empty=2.0)

    def after(seconds: float, contrast: int) -> str:
        clock[0] += seconds
        health.received()
        health.seen(contrast)
        return health.empty_picture(config)

    assert after(0, 3) == after(1.9, 4) == ""
    assert "next to empty for 2.1 s, its values differ by 2 of 255 (warn_empty is 2 s)" in after(0.2, 2)
    assert health.empty_picture(NodeConfig(warn_empty=0.0)) == ""
    clock[0] += 5
    assert health.empty_picture(config) == "", "no image comes any more, which is another sentence"
    assert after(0, 90) == after(5, 3) == "", "it has shown something meanwhile"


def test_a_doubt_is_a_warning_unless_there_is_worse():
    for health, level in ((running(), DiagnosticStatus.WARN), (failed(), DiagnosticStatus.ERROR)):
        array = health.diagnostics(health.status(situation(), CONFIG), CONFIG, "t", "2 nodes are called t")
        assert array.status[1].level == level


def test_dropped_share_is_since_the_last_diagnostics():
    health = refused()
    first, second = (health.diagnostics(health.status(situation(), CONFIG), CONFIG, "t").status[0] for _ in range(2))
    assert {v.key: v.value for v in first.values}["dropped_share"] == "1.00"
    assert {v.key: v.value for v in first.values}["last_refused"] == "encoding 'foo' is not supported"
    assert {v.key: v.value for v in second.values}["dropped_share"] == "0.00"
