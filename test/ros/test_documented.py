"""What is written about the node is what it has: the sample SROS2 policy (P35), docs/topics.md, services.md, qos.md."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy

from sam2s_ros.interfaces.annotations import ImageAnnotations
from sam2s_ros.interfaces.detections import Detection2DArray
from sam2s_ros.processes.dds import share_directory
from sam2s_ros.tracker.node import TrackerNode

DOCS = Path(__file__).parents[2] / "docs"
NAMESPACE = "/guarded"
OPTIONAL = {"~/detections", "~/label_info"} if Detection2DArray is None else set()
OPTIONAL |= {"~/annotations"} if ImageAnnotations is None else set()
NOT_OURS = {"/parameter_events", "/rosout"}  # every node has them; not in docs


@pytest.fixture(scope="module")
def node(checkpoint):
    """The node, configured, in this process: what it has can be asked of it without waiting for discovery."""
    given = dict(
        checkpoint=checkpoint,
        model="sam2s_pico",
        device="cpu",
        image_size=64,
        autostart=False,
        use_sim_time=True,
        detections_in="boxes",
        semantic_in=True,
    )
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    made = TrackerNode(namespace=NAMESPACE, parameter_overrides=overrides)
    made.trigger_configure()
    assert made._worker is not None
    yield made
    assert made.close(20.0)
    made.destroy_node()


def allowed(kind: str, attribute: str) -> set[str]:
    """Full names that the policy allows the node, if it were in NAMESPACE; optional ones only where possible."""
    policy = ElementTree.parse(share_directory() / "config" / "sros2" / "policy.xml").getroot()
    [profile] = policy.iterfind("enclaves/enclave/profiles/profile")
    assert profile.attrib == {"ns": "/", "node": "tracker"}
    names = [e.text for group in profile.iterfind(f"{kind}s[@{attribute}='ALLOW']") for e in group.iterfind(kind)]
    assert len(names) == len(set(names))
    missing = set(OPTIONAL)
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


def rows(name: str, heading: str = "") -> list[list[str]]:
    """The cells of the table rows in a file of docs/, from a heading to the next one."""
    text = (DOCS / name).read_text()
    part = text[text.index(heading) + len(heading) :].split("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| `")
    ]
    assert cells
    return cells


def test_docs_list_the_topics_with_their_types(node):
    for heading, which in (("\n## In\n", "subscriber"), ("\n## Out\n", "publisher")):
        found = dict(getattr(node, f"get_{which}_names_and_types_by_node")("tracker", NAMESPACE))
        listed = {
            cells[0].strip("`"): cells[1] for cells in rows("topics.md", heading) if cells[0].strip("`") not in OPTIONAL
        }
        assert {full_name(name) for name in listed} == set(found) - NOT_OURS
        for name, kind in listed.items():
            package, _, message = re.search(r"`(\w+)(/)(\w+)`", kind).groups()
            assert found[full_name(name)] == [f"{package}/msg/{message}"]


def test_docs_list_the_services_with_their_types(node):
    found = dict(node.get_service_names_and_types_by_node("tracker", NAMESPACE))
    ours = {name: kind for name, kind in found.items() if kind[0].startswith(("sam2s_ros/", "std_srvs/"))}
    listed = {
        full_name(cells[0].strip("`")): cells[1].strip("`")
        for cells in rows("services.md", "# Services")
        if "~" in cells[0]
    }
    assert {name: [kind.replace("/", "/srv/")] for name, kind in listed.items()} == ours


def test_docs_tell_the_quality_of_service(node):
    ends = {end.topic_name: end for end in (*node.publishers, *node.subscriptions)}
    told = 0
    for names, reliability, durability, depth, _ in rows("qos.md"):
        for name in re.findall(r"`(\S+)`", names):
            if name in OPTIONAL:
                continue
            profile = ends[full_name(name)].qos_profile
            assert profile.reliability == ReliabilityPolicy[reliability.upper().replace(" ", "_")], name
            assert profile.durability == DurabilityPolicy[durability.upper().replace(" ", "_")], name
            assert (profile.history, profile.depth) == (HistoryPolicy.KEEP_LAST, int(depth)), name
            told += 1
    assert told >= 10
