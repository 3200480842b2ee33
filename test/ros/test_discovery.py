"""Whether others know what a node has, in a real graph."""

from __future__ import annotations

import sys

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header

from sam2s_ros.processes.discovery import KnownTo, KnownToSubscribers

OTHER = """
import sys, rclpy
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import Header
rclpy.init()
node = rclpy.create_node(sys.argv[1], start_parameter_services=sys.argv[2] == "yes")
def hear(message):
    print("heard", message.frame_id, flush=True)
node.create_subscription(Header, "words", hear, qos_profile_sensor_data)
rclpy.spin(node)
"""
UNRELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture
def other(start):
    return lambda name, services: start([sys.executable, "-c", OTHER, name, services])


def test_what_is_sent_once_arrives_when_the_other_node_knows_who_sends_it(graph, other):
    process = other("known", "yes")
    for number in range(5):  # each time it has to be discovered anew
        words = graph.publisher(Header, "words", UNRELIABLE)
        graph.wait_until(words.get_subscription_count, 20)
        graph.known_to("/known")
        words.publish(Header(frame_id=f"{number} once"))
        process.wait_for_output(f"heard {number} once", 5)
        graph.node.destroy_publisher(words)


def test_only_new_answers_count_after_forget_and_none_comes_from_a_node_that_has_ended(graph, other):
    process = other("mortal", "yes")
    known = KnownTo(graph.node, "/mortal")
    graph.wait_until(known, 20)
    assert known()
    process.popen.kill()
    process.popen.wait()
    known.forget()
    with pytest.raises(pytest.fail.Exception, match="waited 2 s"):
        graph.wait_until(known, 2)
    other("mortal", "yes")
    graph.wait_until(known, 30)
    known.destroy(graph.node)


def test_subscribers_that_cannot_answer_are_named_and_waited_for_no_longer(graph, other):
    other("answers", "yes"), other("mute", "no")
    words = graph.publisher(Header, "words", UNRELIABLE)
    names = lambda: {end.node_name for end in graph.node.get_subscriptions_info_by_topic("words")}  # noqa: E731
    graph.wait_until(lambda: {"answers", "mute"} <= names(), 20, names)
    known = KnownToSubscribers(graph.node, words.topic_name, patience=3.0)
    graph.wait_until(known, 20)
    assert known.silent == ("/mute",)
    graph.node.destroy_publisher(words)
