"""A subscription to images of whichever type they are published as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}


class CameraSubscription:
    """Images of a topic: Image, or CompressedImage where that is what is published. Call `look` now and then.

    topic: its full name
    warning: why nothing comes, "" when all is well
    """

    def __init__(self, node: Node, topic: str, callback: Callable[[Image | CompressedImage], Any], profile: QoSProfile):
        self.topic = node.resolve_topic_name(topic)
        self.warning = ""
        self._node, self._callback, self._profile = node, callback, profile
        self._kind = "sensor_msgs/msg/" + ("CompressedImage" if topic.endswith("/compressed") else "Image")
        self._subscription = node.create_subscription(TYPES[self._kind], topic, callback, profile)

    def look(self) -> None:
        """Subscribe anew when images are published as the other type."""
        published = {end.topic_type for end in self._node.get_publishers_info_by_topic(self.topic)}
        self.warning = ""
        if not published or self._kind in published:
            return
        other = next((kind for kind in TYPES if kind in published), None)
        if other is None:
            self.warning = f"{self.topic} is published as {', '.join(sorted(published))}: expected {' or '.join(TYPES)}"
            return
        self._node.destroy_subscription(self._subscription)
        self._kind = other
        self._subscription = self._node.create_subscription(TYPES[other], self.topic, self._callback, self._profile)
        self._node.get_logger().info(f"{self.topic} is published as {other}: subscribed to that")
