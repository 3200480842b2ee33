"""P35: the sample SROS2 policy names exactly what the node publishes, subscribes to and serves."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree

import pytest
from rclpy.parameter import Parameter

from sam2s_ros.dds import share_directory
from sam2s_ros.detections import Detection2DArray
from sam2s_ros.tracker_node import TrackerNode

NAMESPACE = "/guarded"


@pytest.fixture(scope="module")
def node(checkpoint):
    """The node, configured, in this process: what it has can be asked of it without waiting for discovery."""
    given = dict(checkpoint=checkpoint, model="sam2s_pico", device="cpu", image_size=64, autostart=False, use_sim_time=True)
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    made = TrackerNode(namespace=NAMESPACE, parameter_overrides=overrides)
    made.trigger_configure()
    assert made._worker is not None
    yield made
    assert made.close(20.0)
    made.destroy_node()


def allowed(kind: str, attribute: str) -> set[str]:
    """Full names that the policy allows the node, if it were in NAMESPACE; the optional ones only where they are possible."""
    policy = ElementTree.parse(share_directory() / "config" / "sros2" / "policy.xml").getroot()
    [profile] = policy.iterfind("enclaves/enclave/profiles/profile")
    assert profile.attrib == {"ns": "/", "node": "tracker"}
    names = [e.text for group in profile.iterfind(f"{kind}s[@{attribute}='ALLOW']") for e in group.iterfind(kind)]
    assert len(names) == len(set(names))
    missing = {"~/detections"} if Detection2DArray is None else set()
    if os.environ.get("ROS_DISTRO") == "humble":
        missing.add("~/get_type_description")
    return {full_name(name) for name in set(names) - missing}


def full_name(name: str) -> str:
    if name.startswith("/"):
        return name
    return f"{NAMESPACE}/{name.replace('~', 'tracker')}"


@pytest.mark.parametrize("kind, attribute, which", [
    ("topic", "publish", "publisher"), ("topic", "subscribe", "subscriber"), ("service", "reply", "service"),
    ("service", "request", "client"),
])  # fmt: skip
def test_p35_the_policy_names_exactly_what_the_node_has(node, kind, attribute, which):
    found = getattr(node, f"get_{which}_names_and_types_by_node")("tracker", NAMESPACE)
    assert {name for name, _ in found} == allowed(kind, attribute)


def test_p35_the_policy_names_no_action(node):
    policy = ElementTree.parse(share_directory() / "config" / "sros2" / "policy.xml").getroot()
    assert policy.attrib == {"version": "0.2.0"} and policy.find(".//actions") is None
    assert not any(name.startswith(f"{NAMESPACE}/tracker/_action") for name, _ in node.get_topic_names_and_types())
