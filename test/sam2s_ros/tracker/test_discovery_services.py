"""~/proposals: what is found is published while the node is active and enabled, and at no other time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from said_log import SaidLog
from std_msgs.msg import Header

from sam2s_model.semantics import GENERIC
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.srv import Discover
from sam2s_ros.tracker.discovery_services import DiscoveryServices
from sam2s_ros.tracker.health import Health, TrackerSnapshot
from sam2s_ros.tracker.outputs import TrackerPublishers


class Published(list):
    """A publisher that keeps its messages."""

    publish = list.append


class Topics:
    """What publishers and services need of a node; `published` has the messages by topic."""

    def __init__(self):
        self.published: dict[str, Published] = {}

    def create_publisher(self, kind, topic, profile, **_):
        return self.published.setdefault(topic, Published())

    def create_service(self, *_, **__):
        pass

    def get_logger(self):
        return SimpleNamespace(debug=lambda sentence: None)


@pytest.mark.parametrize("active, enabled", [(True, True), (False, True), (True, False), (False, False)])
def test_p28_proposals_are_published_while_the_node_is_active_and_enabled_alone(active, enabled):
    node = Topics()
    outputs = TrackerPublishers(node, Health(), lambda: 1, SaidLog())
    outputs.switch(active=active, enabled=enabled)
    tracks = SimpleNamespace(size=(8, 10), stamp=7)
    tracker = SimpleNamespace(discover=lambda name: [], newest=tracks)
    services = DiscoveryServices(
        node, lambda call: (call(tracker), TrackerSnapshot()), outputs.publish_while_on, lambda: GENERIC, NodeConfig,
        None,
    )  # fmt: skip
    on = active and enabled
    result = SimpleNamespace(frame=SimpleNamespace(header=Header(frame_id="camera")), tracks=tracks)
    assert services.publish(result, []) == on
    answer = services._discover(Discover.Request(), Discover.Response())
    assert answer.success and answer.proposals.label_image.width == 10, "who asks is answered in any case"
    sent = node.published["~/proposals"]
    assert [message.header.frame_id for message in sent] == ["camera", ""] * on
