"""What is set while a tracker node runs is what the node does, in this process."""

from __future__ import annotations

import threading

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from sam2s_model.tracking.tracker import Tracker
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.tracker.node import TrackerNode


@pytest.fixture
def node(checkpoint):
    given = dict(checkpoint=checkpoint, model="sam2s_pico", device="cpu", image_size=64, threads=1, autostart=False)
    given |= dict(warm_up=False, policy="fifo")
    made = TrackerNode(namespace="settings", parameter_overrides=[Parameter(k, value=v) for k, v in given.items()])
    for change in (made.trigger_configure, made.trigger_activate):
        assert change() == TransitionCallbackReturn.SUCCESS
    yield made
    assert made.close(20)
    made.destroy_node()


def test_p30_a_policy_that_timed_out_and_was_followed_nevertheless_is_left_when_it_is_set_back(
    graph, node, monkeypatch
):
    """The parameter has the value from before all along: the tracker alone knows what it follows."""

    def put(name, value):
        [result] = node.set_parameters([Parameter(name, value=value)])
        return result

    set_policy, go_on = Tracker.set_policy, threading.Event()

    def slowly(tracker, policy):
        assert go_on.wait(20)
        set_policy(tracker, policy)

    monkeypatch.setattr(Tracker, "set_policy", slowly)
    assert put("service_timeout", 0.5).successful
    refused = put("policy", "divemem")
    go_on.set()
    assert not refused.successful and "it has begun and may still take effect" in refused.reason
    graph.wait_until(lambda: node.status().model == "sam2s_pico/divemem", 20, lambda: node.status().model)
    assert node.get_parameter("policy").value == "fifo"
    assert put("service_timeout", 20.0).successful and put("policy", "fifo").successful
    assert node.status().model == "sam2s_pico/fifo"


def test_what_was_switched_off_stays_off_when_the_node_is_configured_again(node):
    """As its documentation says: until true. Whoever keeps it off is not asked before a cleanup."""

    def again() -> TrackerStatus:
        for change in (node.trigger_deactivate, node.trigger_cleanup, node.trigger_configure, node.trigger_activate):
            assert change() == TransitionCallbackReturn.SUCCESS
        return node.status()

    assert again().state == TrackerStatus.STATE_WAITING
    node.enable(False)
    status = again()
    assert (status.state, status.message) == (TrackerStatus.STATE_DISABLED, "switched off by ~/enable")
    node.enable(True)
    assert again().state == TrackerStatus.STATE_WAITING
