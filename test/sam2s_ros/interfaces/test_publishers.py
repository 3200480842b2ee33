"""What is said of a topic's publishers: none, of another type, of a quality of service that does not fit, several."""

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.publishers import Input, Publishers, judge, tracked_images

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def publisher(kind=IMAGE, profile=BEST_EFFORT, name="camera", space="/"):
    return TopicEndpointInfo(topic_type=kind, qos_profile=profile, node_name=name, node_namespace=space)


def image(profile=qos.IMAGE_IN):
    return Input("/rig/image", "image", IMAGE, profile, {COMPRESSED: "set the parameter compressed to true"})


@pytest.mark.parametrize(
    "wanted, found, candidates, said",
    [
        (image(), [], [], ["nobody publishes /rig/image (sensor_msgs/msg/Image)", "-r image:=TOPIC"]),
        (image(), [], ["/a", "/b"], ["nobody publishes", "what fits is published on /a, /b"]),
        (image(), [], [f"/t{i}" for i in range(9)], ["/t0, /t1, /t2, /t3, /t4 and 4 more"]),
        (image(), [publisher(COMPRESSED)], [], [COMPRESSED, "by /camera", "set the parameter compressed to true"]),
        (
            image(),
            [publisher("std_msgs/msg/String", name="talker", space="/x")],
            ["/a"],
            ["String by /x/talker", "remap `image`", "/a"],
        ),
        (
            image(RELIABLE),
            [publisher()],
            [],
            ["/camera", "qos_overrides./rig/image.subscription.reliability to best_effort"],
        ),
        (image(LATE), [publisher(profile=RELIABLE)], [], ["does not fit", "qos_overrides./rig/image.subscription.*"]),
        (image(), [publisher(profile=RELIABLE)], [], ["published by /camera", "sam2s doctor"]),
    ],
)
def test_p43_why_nothing_comes_is_said_with_what_to_change(wanted, found, candidates, said):
    answer = judge(wanted, found, candidates)
    assert all(part in answer.silent for part in said), answer
    assert answer.warning == ""


def test_p43_several_publishers_are_named_also_while_images_come():
    answer = judge(image(), [publisher(), publisher(name="replay"), publisher(COMPRESSED, name="other")])
    assert (
        answer == Publishers(answer.warning, answer.warning)
        and "2 publishers of /rig/image, /camera, /replay" in answer.warning
    )


def test_p43_a_publisher_that_fits_beside_one_that_does_not_is_no_reason():
    answer = judge(image(RELIABLE), [publisher(), publisher(profile=RELIABLE, name="other")])
    assert "published by /other" in answer.silent and answer.warning == ""


class Graph:
    """What a node is told of another one's subscriptions, sorted by topic as rclpy does. None: there is no such node"""

    def __init__(self, inputs):
        self._inputs = inputs

    def get_subscriber_names_and_types_by_node(self, name, namespace):
        if self._inputs is None:
            raise RuntimeError(f"cannot get subscriber names and types: no node {namespace} {name}")
        assert (name, namespace) in (("tracker", "/left"), ("tracker", "/"))
        return sorted(self._inputs.items())


@pytest.mark.parametrize("name", ["/left/tracker", "/tracker"])
@pytest.mark.parametrize("kind", [IMAGE, COMPRESSED])
def test_the_images_of_a_tracker_are_its_cameras_and_not_its_class_images(name, kind):
    inputs = {f"{name}/semantic_in": [IMAGE], f"{name}/detections_in": ["sam2s_ros/msg/DetectedBoxes"]}
    assert tracked_images(Graph(inputs), name) is None, "it is not configured"
    for topic in ("/stereo/left/image_raw", "/a", f"{name}_camera/image", f"{name}/image_raw"):
        assert tracked_images(Graph(inputs | {topic: [kind]}), name) == (topic, kind)
    assert tracked_images(Graph(None), name) is None
