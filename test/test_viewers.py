"""config/viewers: what the viewers read and publish are topics of the node, and the files are whole."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
VIEWERS = ROOT / "config" / "viewers"
PICTURES = {"/tracker/overlay", "/tracker/overlay/compressed", "/tracker/label_color"}


def topics() -> dict[str, str]:
    """The node's topics, as /tracker has them, with the package and name of their type."""
    rows = re.findall(r"^\| `(\S+)` \| `(\S+)`", (ROOT / "docs" / "topics.md").read_text(), re.M)
    return {name.replace("~", "/tracker"): kind for name, kind in rows}


def leaves(tree: object) -> Iterator[str]:
    """The panels at the ends of a layout's tree."""
    if isinstance(tree, str):
        yield tree
    else:
        yield from (*leaves(tree["first"]), *leaves(tree["second"]))


def test_the_foxglove_layout_shows_each_of_its_panels_once():
    made = json.loads((VIEWERS / "foxglove.json").read_text())
    shown = list(leaves(made["layout"]))
    assert sorted(shown) == sorted(made["configById"]) and len(shown) == len(set(shown)) >= 6


def test_the_foxglove_layout_names_topics_of_the_node():
    text = (VIEWERS / "foxglove.json").read_text()
    named = {path.split(".")[0] for path in re.findall(r'"(/[\w/]+[^"]*)"', text)}
    assert {"/tracker/masks", "/tracker/status", "/diagnostics"} < named <= set(topics())
    [publish] = (c for name, c in json.loads(text)["configById"].items() if name.startswith("Publish"))
    assert publish["datatype"] == topics()[publish["topicName"]].replace("/", "/msg/") and json.loads(publish["value"])


def test_rviz_names_topics_of_the_node():
    manager = yaml.safe_load((VIEWERS / "tracker.rviz").read_text())["Visualization Manager"]
    shown = {display["Topic"]["Value"] for display in manager["Displays"]}
    assert shown <= PICTURES and shown <= set(topics()) and len(shown) == 2
    [clicks] = (tool["Topic"] for tool in manager["Tools"] if "Topic" in tool)
    assert topics()[clicks["Value"]] == "geometry_msgs/PointStamped" and clicks["Reliability Policy"] == "Reliable"


def test_rqt_names_topics_of_the_node_and_publishes_clicks_where_the_docs_say():
    plugins = json.loads((VIEWERS / "rqt.perspective").read_text())["groups"]["pluginmanager"]
    running = ast.literal_eval(plugins["keys"]["running-plugins"]["repr"])
    views = [
        {key: ast.literal_eval(value["repr"]) for key, value in group["groups"]["plugin"]["keys"].items()}
        for group in plugins["groups"].values()
    ]
    assert len(views) == len(running["rqt_image_view/ImageView"])
    assert {view["topic"] for view in views} <= PICTURES
    [clicks] = (view["mouse_pub_topic"] for view in views if view["publish_click_location"])
    assert all(f"click:={clicks}" in (ROOT / "docs" / page).read_text() for page in ("viewers.md", "topics.md"))
