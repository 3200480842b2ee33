"""`sam2s doctor --node`: what is wrong with the trackers that run, as seen from another process of their graph."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import QoSProfile

from sam2s_ros.doctor.checks import SET_FOR_OTHERS, Finding, Level
from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.publishers import IMAGE_TYPES, Input, Publishers, judge, tracked_images
from sam2s_ros.interfaces.status_text import DROP_CAUSES, dropped, state_name
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.processes.dds import used_domains
from sam2s_ros.processes.running_trackers import FollowedTracker, RunningTrackers, full_name, where

UNCOUNTED = (TrackerStatus.STATE_UNKNOWN, TrackerStatus.STATE_INACTIVE)  # states in which no image is received
WIDE_RANGES = ("SUBNET", "SYSTEM_DEFAULT", "NOT_SET")  # of discovery, that lead to other machines
MANY = 0.05  # share of images dropped by a cause from which it is a finding
MANY_EXPECTED = 0.5  # the same for causes that are what the node is for
LOST = 0.02  # share of masks that may be lost on their way here

_STATE_ADVICE = {
    TrackerStatus.STATE_UNKNOWN: (Level.FAIL, "correct what the message names, and start it again or configure it"),
    TrackerStatus.STATE_INACTIVE: (Level.WARN, "activate it, or start it with autostart true"),
    TrackerStatus.STATE_WAITING: (Level.WARN, "see the finding on its images"),
    TrackerStatus.STATE_STALE_INPUT: (Level.FAIL, "the camera has stopped: see the finding on its images"),
    TrackerStatus.STATE_DISABLED: (Level.WARN, "call ~/enable with true"),
    TrackerStatus.STATE_ERROR: (Level.FAIL, "see the parameter that the message names"),
}


@dataclass(frozen=True)
class Watched:
    """A tracker before and after a while. first, last: heartbeats; masks: that came here meanwhile; seconds: between"""

    first: TrackerStatus
    last: TrackerStatus
    masks: int
    seconds: float


def examine_running(names: Sequence[str] = (), *, seconds: float = 5.0, patience: float = 5.0) -> list[Finding]:
    """Look at the running trackers, or at these, for `seconds`; wait for the first, or for these, for `patience` s."""
    with RunningTrackers("sam2s_doctor") as running:
        named = [full_name(name) for name in names]
        found = running.names(patience, named)
        wanted = named or found
        findings = [_graph(running.node, found)]
        for name in wanted:
            if name not in found:
                advice = f"there are {', '.join(found)}" if found else ""
                findings.append(Finding(Level.FAIL, name, "no such tracker", advice))
        there = [name for name in wanted if name in found]
        followed = running.follow(there) if there else []
        watched = _watch(followed, seconds)
        for one in followed:
            findings += _tracker(running.node, one, watched[one.name])
    return findings


def _graph(node: Node, found: Sequence[str]) -> Finding:
    """Say whether there are trackers here, and where else they may be."""
    seen = f"{where()}, {len(node.get_node_names())} nodes, trackers: {', '.join(found) or 'none'}"
    if found:
        return Finding(Level.OK, "graph", seen)
    advice = ["start one with `sam2s node`"]
    own = int(os.environ.get("ROS_DOMAIN_ID") or 0)
    others = [domain for domain in used_domains() if domain != own]
    if others:
        named = ", ".join(map(str, others[:5]))
        advice.append(f"processes of this machine are in domain {named}: export ROS_DOMAIN_ID={others[0]}")
    advice += discovery_limits()
    if implementation := os.environ.get("RMW_IMPLEMENTATION"):
        advice.append(f"RMW_IMPLEMENTATION is {implementation} here: use the same for both")
    return Finding(Level.FAIL, "graph", seen, "; ".join(advice))


def discovery_limits(variables: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield what variables keep from being found, as rcl reads them: a range that it does not know is LOCALHOST."""
    name = "ROS_AUTOMATIC_DISCOVERY_RANGE"
    scope = variables.get(name, "")
    elsewhere = "the tracker is not found on another machine"
    if scope == "OFF":
        yield f"{name} is OFF: no other process is found at all"
    elif scope not in ("", *WIDE_RANGES):
        yield f"{name} is {scope}: {elsewhere}"
    if variables.get("ROS_LOCALHOST_ONLY") == "1":
        yield f"ROS_LOCALHOST_ONLY is 1: {elsewhere}"


def _watch(followed: Sequence[FollowedTracker], seconds: float) -> dict[str, Watched | None]:
    """Follow trackers for a while; None of one without a heartbeat."""
    deadline = time.monotonic() + seconds
    while any(one.status is None for one in followed) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)  # until masks come as well
    before = {one.name: (one.status, one.count, time.monotonic()) for one in followed}
    time.sleep(seconds if followed else 0.0)
    watched: dict[str, Watched | None] = {}
    for one in followed:
        first, count, at = before[one.name]
        last = one.status
        watched[one.name] = (
            Watched(first, last, one.count - count, time.monotonic() - at)
            if first is not None and last is not None and one.status is not first
            else None
        )
    return watched


def _tracker(node: Node, one: FollowedTracker, watched: Watched | None) -> Iterator[Finding]:
    space, _, name = one.name.rpartition("/")
    twins = node.get_node_names_and_namespaces().count((name, space or "/"))
    if twins > 1:
        advice = "give each a name or a namespace of its own: masks and answers of one are taken for the other's"
        yield Finding(Level.FAIL, f"{one.name}: name", f"{twins} nodes have it", advice)
    if watched is None:
        advice = "the process hangs, was stopped, or its ~/status has a quality of service that does not fit"
        yield Finding(Level.FAIL, f"{one.name}: heartbeat", "none comes", advice)
    else:
        status = watched.last
        level, advice = _STATE_ADVICE.get(status.state, (Level.OK, ""))
        yield Finding(level, f"{one.name}: state", f"{state_name(status.state)}: {status.message}", advice)
    yield _images(node, one.name, watched)
    if watched is not None:
        yield from judge_counts(one.name, watched)


def _images(node: Node, name: str, watched: Watched | None) -> Finding:
    """Say whether images come, and if not, what the graph says about why."""
    what = f"{name}: images"
    found = tracked_images(node, name)
    if found is None:
        return Finding(Level.FAIL, what, "it subscribes to none", "it is not configured: see the finding on its state")
    topic, kind = found
    publishers = node.get_publishers_info_by_topic(topic)
    others = {k: v for k, v in IMAGE_TYPES.items() if k != kind}
    judged = judge(Input(topic, "image", kind, _profile(node, topic, name.rpartition("/")[2]), others), publishers)
    return judge_images(name, topic, bool(publishers), judged, watched)


def judge_images(name: str, topic: str, published: bool, judged: Publishers, watched: Watched | None) -> Finding:
    """Say what two heartbeats, or without them the graph alone, tell of the images.

    topic: what it subscribes to; published: whether anybody publishes it; judged: what its publishers mean for it
    """
    what = f"{name}: images"
    if watched is None or watched.last.state in UNCOUNTED:
        seen = f"{topic}, not counted while {'no heartbeat comes' if watched is None else 'it is not active'}"
        if judged.unheard:
            return Finding(Level.FAIL, what, seen, judged.silent)
        advice = judged.warning if published else judged.silent
        return Finding(Level.WARN if advice else Level.OK, what, seen, advice)
    new = int(watched.last.received) - int(watched.first.received)
    if new <= 0:
        return Finding(Level.FAIL, what, f"none of {topic} came while it was watched", judged.silent)
    rate = f"{new / watched.seconds:.1f} images/s of {topic}"
    return Finding(Level.WARN if judged.warning else Level.OK, what, rate, judged.warning)


def _profile(node: Node, topic: str, name: str) -> QoSProfile:
    ends = node.get_subscriptions_info_by_topic(topic)
    return next((end.qos_profile for end in ends if end.node_name == name), qos.IMAGE_IN)


def judge_counts(name: str, watched: Watched) -> Iterator[Finding]:
    """Say what two heartbeats tell of drops, masks and objects."""
    first, last = watched.first, watched.last
    received = int(last.received) - int(first.received)
    before, after = dropped(first), dropped(last)
    for cause, text in DROP_CAUSES.items():
        new = after[cause] - before[cause]
        if received > 0 and new / received >= (MANY_EXPECTED if text.expected else MANY):
            seen = f"{new} of {received} images, {text.why}"
            yield Finding(Level.WARN, f"{name}: {cause}", seen, text.advice)
    published = int(last.published) - int(first.published)
    latency = f", latency p50 {last.latency_p50:.0f} ms, p99 {last.latency_p99:.0f} ms" * (last.latency_p50 >= 0)
    seen = f"{published} published in {watched.seconds:.1f} s, {watched.masks} came here{latency}"
    if published > 1 and watched.masks < (1 - LOST) * published - 1:  # the newest may be on its way
        level = Level.FAIL if watched.masks == 0 else Level.WARN
        yield Finding(level, f"{name}: masks", seen, f"large messages are lost on the way: {SET_FOR_OTHERS}")
    elif received > 0 and not published:
        advice = "see the findings on its state and on what is dropped"
        yield Finding(Level.FAIL, f"{name}: masks", seen, advice)
    else:
        yield Finding(Level.OK, f"{name}: masks", seen)
    if not last.objects:
        advice = "say what to track: `sam2s prompt --box X0,Y0,X1,Y1`, or click in `sam2s console`"
        yield Finding(Level.WARN, f"{name}: objects", "none", advice)
    else:
        yield Finding(Level.OK, f"{name}: objects", str(last.objects))
