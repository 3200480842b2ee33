"""Quality of service of the tracker's topics, overridable by the parameters ``qos_overrides.<topic>...``, and services."""

from __future__ import annotations

import copy

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

# Best effort matches both kinds of publisher. Only the newest image is of use, and the mailbox sees to that: with a depth of 1
# the middleware would, and images that it replaces are counted by nobody.
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
# A subscriber that asks for as long a deadline, or lease, or a longer one, learns when no masks come, and when the tracker
# hangs. Others do not notice.
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
    """A copy for one topic: rclpy writes a topic's overrides into the profile that it is given."""
    return copy.copy(profile)


def overridable(*more: QoSPolicyKind) -> QoSOverridingOptions:
    """Let history, depth, reliability and `more` of one topic be set by parameters."""
    return QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, *more))
