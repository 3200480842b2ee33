"""Quality of service of the tracker's topics. Overridable by the parameters ``qos_overrides.<topic>...``."""

from __future__ import annotations

import copy

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

# Best effort matches both kinds of publisher; depth 1, because only the newest image is of use.
IMAGE_IN = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
OUTPUT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def own(profile: QoSProfile) -> QoSProfile:
    """A copy for one topic: rclpy writes a topic's overrides into the profile that it is given."""
    return copy.copy(profile)


def overridable() -> QoSOverridingOptions:
    """Let history, depth and reliability of one topic be set by parameters."""
    return QoSOverridingOptions.with_default_policies()
