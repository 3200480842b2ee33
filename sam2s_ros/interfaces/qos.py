"""Quality of service of the tracker's topics and services; the parameters ``qos_overrides.<topic>...`` override it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

from rclpy.duration import Duration
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

from sam2s_model.errors import ConfigError

# Best effort matches both kinds of publisher. Only the newest image is of use, and the mailbox sees to that: with a
# depth of 1 the middleware would, and images that it replaces are counted by nobody.
IMAGE_IN = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
OUTPUT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
# Best effort matches both kinds of detector, and what waits behind a slow tracker is the newest alone.
DETECTIONS_IN = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
# Of those who look on, as a console: best effort, so that the tracker never waits for them, nor resends to them.
NEWEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
# A subscriber that asks for as long a deadline, or lease, or a longer one, learns when no masks come, and when the
# tracker hangs. Others do not notice.
MASKS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
    deadline=Duration(seconds=0.2),
    liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
    liveliness_lease_duration=Duration(seconds=1),
)
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
# A request that finds the queue full would be lost without an answer: ROS's own depth is 10.
SERVICE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=256,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)


def own(profile: QoSProfile) -> QoSProfile:
    """Copy a profile for one topic: rclpy writes a topic's overrides into the profile that it is given."""
    return copy.copy(profile)


def overridable(*more: QoSPolicyKind) -> QoSOverridingOptions:
    """Let history, depth, reliability and `more` of one topic be set by parameters."""
    return QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, *more))


_WORDS = {
    "history": HistoryPolicy,
    "reliability": ReliabilityPolicy,
    "durability": DurabilityPolicy,
    "liveliness": LivelinessPolicy,
}
_NANOSECONDS = ("deadline", "lifespan", "liveliness_lease_duration")


def check_overrides(given: Mapping[str, object], besides: Iterable[str] = ()) -> None:
    """Check the values of `qos_overrides.TOPIC.publisher.POLICY` and `.subscription.`, before rclpy trips over them.

    given: parameters by name, others among them; besides: topics that are left out
    Raises ConfigError for the first one that is no value of its policy.
    """
    left_out = tuple(f"qos_overrides.{topic}." for topic in besides)
    for name, value in given.items():
        if not name.startswith("qos_overrides.") or name.startswith(left_out):
            continue
        policy = name.rsplit(".", 1)[-1]
        if policy in _WORDS:
            known = [word.lower() for word in _WORDS[policy].__members__ if word.isupper() and word != "UNKNOWN"]
            expected = f"one of {', '.join(known)}" * (not isinstance(value, str) or value.lower() not in known)
        elif policy == "depth":
            expected = "a whole number from 0 on" * (type(value) is not int or value < 0)
        elif policy in _NANOSECONDS:
            expected = "a whole number of nanoseconds from 0 on" * (type(value) is not int or value < 0)
        elif policy == "avoid_ros_namespace_conventions":
            expected = "true or false" * (not isinstance(value, bool))
        else:
            continue  # which is a name that nothing declares
        if expected:
            raise ConfigError(f"parameter {name} is {value!r}: expected {expected}")
