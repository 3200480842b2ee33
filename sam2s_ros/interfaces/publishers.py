"""What a node subscribes to, who publishes it, and in a sentence why nothing of it comes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

LOOK_EVERY = 1.0  # s between two looks at the graph
MAX_NAMED = 5  # names in a sentence
# What the publishers of a tracker's `image` may send, and what to do when it is not what the node subscribes to.
IMAGE_TYPES = {
    "sensor_msgs/msg/Image": "set the parameter compressed to false",
    "sensor_msgs/msg/CompressedImage": "set the parameter compressed to true",
}


@dataclass(frozen=True)
class Publishers:
    """What a node should report about the publishers of a topic.

    silent: why nothing comes, should nothing come
    warning: what is wrong with them even when messages come, "" for nothing
    unheard: whether there are some, none of which can be heard, for the reason in `silent`
    """

    silent: str = ""
    warning: str = ""
    unheard: bool = False


@dataclass(frozen=True)
class Input:
    """A topic that a node subscribes to.

    topic: its full name, after remapping; name: the one before, as a remapping names it
    kind: of the messages, as "pkg/msg/Name"
    profile: quality of service of the subscription
    other_kinds: types under which the same may be published, each with what to do then
    """

    topic: str
    name: str
    kind: str
    profile: QoSProfile
    other_kinds: Mapping[str, str] = field(default_factory=dict)


def judge(wanted: Input, found: Sequence[TopicEndpointInfo], candidates: Sequence[str] = ()) -> Publishers:
    """Say what the publishers of an input's topic mean for it.

    found: all publishers of the topic, of whatever type
    candidates: other topics that are published with a type that fits
    """
    topic, kind = wanted.topic, wanted.kind
    if not found:
        return Publishers(f"nobody publishes {topic} ({kind}): {_remap(wanted, candidates)}")
    same = [one for one in found if one.topic_type == kind]
    if not same:
        seen = sorted({one.topic_type for one in found})
        what = f"{topic} is published as {', '.join(seen)} by {_names(found)}, and {kind} is subscribed to"
        helps = next((wanted.other_kinds[one] for one in seen if one in wanted.other_kinds), "")
        return Publishers(f"{what}: {helps or _remap(wanted, candidates)}", unheard=True)
    checked = [(one, *qos_check_compatible(one.qos_profile, wanted.profile)) for one in same]
    fitting = [one for one, compatible, _ in checked if compatible != QoSCompatibility.ERROR]
    if not fitting:
        return Publishers(_unheard(wanted, same, checked[0][2]), unheard=True)
    several = ""
    if len(fitting) > 1:
        several = (
            f"{len(fitting)} publishers of {topic}, {_names(fitting)}: what they send is mixed; "
            f"remap `{wanted.name}` or one of them"
        )
    silent = (
        f"{topic} is published by {_names(fitting)}, and nothing of it arrives now: has it stopped, or does it send "
        "seldom? If none ever came, both ends need the DDS profile for large images: `sam2s doctor` measures it"
    )
    return Publishers(several or silent, several)


def _remap(wanted: Input, candidates: Sequence[str]) -> str:
    there = f"; what fits is published on {_some(candidates)}" if candidates else ""
    return f"start it, or remap `{wanted.name}` to its topic (-r {wanted.name}:=TOPIC){there}"


def _unheard(wanted: Input, found: Sequence[TopicEndpointInfo], reason: str) -> str:
    what = f"{wanted.topic} is published by {_names(found)} with a quality of service that does not fit"
    parameter = f"qos_overrides.{wanted.topic}.subscription"
    if wanted.profile.reliability == ReliabilityPolicy.RELIABLE and all(
        one.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for one in found
    ):
        return (
            f"{what}, best effort where reliable is asked for: set the parameter {parameter}.reliability to best_effort"
        )
    return f"{what} ({reason.rstrip(';')}): set {parameter}.*, or that of the publisher"


def _names(found: Sequence[TopicEndpointInfo]) -> str:
    return _some(sorted({f"{one.node_namespace.rstrip('/')}/{one.node_name}" for one in found}))


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def tracked_images(node: Node, name: str) -> tuple[str, str] | None:
    """Find the topic of the images that a tracker subscribes to, and its type; None where there is none, or no tracker.

    The class images of ~/semantic_in are none of them. Where that is remapped, nothing tells the two apart: it
    is the first by its name.
    node: asks the graph; name: of the tracker's node, with its namespace
    """
    space, _, own = name.rpartition("/")
    try:
        inputs = node.get_subscriber_names_and_types_by_node(own, space or "/")
    except Exception:  # rclpy's NodeNameNonExistentError, of another module by version: it is not there now
        return None
    cameras = ((topic, kinds) for topic, kinds in inputs if topic != f"{name}/semantic_in")
    return next(((topic, kind) for topic, kinds in cameras for kind in kinds if kind in IMAGE_TYPES), None)


def type_name(kind: type) -> str:
    """Name a message class as the graph does: "sensor_msgs/msg/Image"."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


class PublisherWatch:
    """Looks at the publishers of one subscription, every LOOK_EVERY s at most.

    name: the topic's before remapping; other_kinds: see `Input`
    search: whether topics that would fit are looked for where nobody publishes it, as for an input that the node needs
    found: what the last look says
    settled: whether the look before it said the same, as it does once the nodes of a new graph have found one another
    """

    def __init__(self, node: Node, name: str, other_kinds: Mapping[str, str] | None = None, *, search: bool = True):
        self._node, self._name, self._other_kinds, self._search = node, name, dict(other_kinds or {}), search
        self.found, self.settled = Publishers(), False
        self._next, self._logged = 0.0, ""

    def look(self, subscription: Subscription) -> Publishers:
        """Return what the publishers are like now, or were LOOK_EVERY s ago at most."""
        if time.monotonic() < self._next:
            return self.found
        self._next = time.monotonic() + LOOK_EVERY
        message: Any = subscription.msg_type  # which rclpy annotates as an object of that type
        kind, topic = type_name(message), subscription.topic_name
        wanted = Input(topic, self._name, kind, subscription.qos_profile, self._other_kinds)
        infos = self._node.get_publishers_info_by_topic(topic)
        fits = any(one.topic_type in (kind, *self._other_kinds) for one in infos)
        found = judge(wanted, infos, self._candidates(kind) if self._search and not fits else ())
        self.settled, self.found = found == self.found, found
        return found

    def news(self, said: str) -> str:
        """Return why nothing comes, for a log: once, while a status says so and it is settled; "" otherwise."""
        silent = self.found.silent
        if not silent or silent not in said:
            self._logged = ""
        elif self.settled and silent != self._logged:
            self._logged = silent
            return silent
        return ""

    def _candidates(self, kind: str) -> list[str]:
        """List topics that somebody else publishes with a type that fits."""
        own = {publisher.topic_name for publisher in self._node.publishers}
        kinds = {kind, *self._other_kinds}
        topics = (
            topic for topic, types in self._node.get_topic_names_and_types() if kinds & set(types) and topic not in own
        )
        return [topic for topic in topics if self._node.count_publishers(topic)]
