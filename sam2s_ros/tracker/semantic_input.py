"""`~/semantic_in`: the class image of a segmentation network, which ~/semantic_image is made better with."""

from __future__ import annotations

from typing import Any

import numpy as np
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import Image

from sam2s_model.errors import ImageError, StampError
from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.messages import header_ns
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.interfaces.publishers import PublisherWatch
from sam2s_ros.processes.log import Logger
from sam2s_ros.tracker.base_maps import BaseMaps
from sam2s_ros.tracker.outputs import TrackerPublishers

TOPIC = "~/semantic_in"
TYPES = {"sensor_msgs/msg/Image": "set the parameter semantic_in to true"}
ENCODINGS = ("mono8", "8UC1")


class SemanticInput:
    """Subscribes to ~/semantic_in where the parameter semantic_in is true, and hands its maps to the publishers.

    outputs: that merge and publish; log: told what is refused, scaled or late
    group: a callback waits for nothing but the publishing of other topics
    """

    def __init__(self, node: Node, outputs: TrackerPublishers, log: Logger, group: CallbackGroup):
        self._node, self._outputs, self._log, self._group = node, outputs, log, group
        self._subscription: Any = None
        self._sources = PublisherWatch(node, TOPIC, TYPES, search=False)
        self._refused = self._seen = 0
        self._limit = 0.0  # s

    def subscribe(self, config: NodeConfig) -> None:
        """Begin anew, or end, as the parameters say: the node is configured."""
        self._refused = self._seen = 0
        self._limit = config.semantic_max_age
        self._outputs.use_base_maps(
            BaseMaps(config.semantic_max_age, self._log.warning) if config.semantic_in else None
        )
        if config.semantic_in == (self._subscription is not None):
            return
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
            return
        self._subscription = self._node.create_subscription(
            Image,
            TOPIC,
            self._on_map,
            qos.own(qos.IMAGE_IN),
            callback_group=self._group,
            qos_overriding_options=qos.overridable(),
        )

    def unheard(self) -> str:
        """Return a sentence when maps are published in a way that is not heard, or are of no image; "" otherwise."""
        if self._subscription is None:
            topic = self._node.resolve_topic_name(TOPIC)
            if self._node.count_publishers(topic):
                return f"{topic} is published, and semantic_in is false: set it to true, and configure anew"
            return ""
        found = self._sources.look(self._subscription)
        if found.unheard:
            return found.silent
        counts = self._outputs.merge_counts()
        if counts is None or counts.merged or not (counts.late or counts.without_masks):
            return ""
        if counts.late:
            limit = self._limit
            return f"every base map came later than semantic_max_age ({limit:g} s) after its image: none was merged"
        return (
            f"none of {self._seen} base maps has the stamp of an image whose masks were published: expected the header "
            "of the image that a map was made of"
        )

    def values(self) -> dict[str, str]:
        """Return what became of frames and maps, for /diagnostics; nothing while the topic is off."""
        counts = self._outputs.merge_counts()
        if counts is None:
            return {}
        found = dict(
            semantic_merged=counts.merged,
            semantic_late=counts.late,
            semantic_without_map=counts.without_map,
            semantic_without_masks=counts.without_masks,
            semantic_refused=self._refused,
        )
        return {name: str(count) for name, count in found.items()}

    def _on_map(self, msg: Image) -> None:
        self._seen += 1
        try:
            stamp, base = header_ns(msg.header), class_map(msg)
        except (ImageError, StampError) as error:
            self._refused += 1
            self._log.warning(f"{TOPIC} refused: {error}")
            return
        self._outputs.add_base_map(stamp, base)


def class_map(msg: Image) -> np.ndarray:
    """Read a class image, (H, W) uint8, without a copy where rows have no padding. Raises ImageError for another."""
    if msg.encoding not in ENCODINGS:
        raise ImageError(f"encoding {msg.encoding!r}: expected {' or '.join(ENCODINGS)}, a class id at each pixel")
    if not (0 < msg.width <= msg.step and msg.height > 0 and len(msg.data) == msg.step * msg.height):
        raise ImageError(
            f"{len(msg.data)} bytes for {msg.width}x{msg.height} in rows of {msg.step}: expected rows as long as the "
            "image is wide, and as many as it is high"
        )
    rows = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)
    return np.ascontiguousarray(rows[:, : msg.width])
