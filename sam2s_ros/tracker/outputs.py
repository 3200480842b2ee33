"""What the tracker publishes for a frame, and the switch that stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sam2s_model.colours import coloured
from sam2s_model.semantics import GENERIC, LabelSet
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces import image_codec, messages, qos
from sam2s_ros.interfaces.annotations import ImageAnnotations, annotations_message
from sam2s_ros.interfaces.detections import Detection2DArray, LabelInfo, detections_message, label_info_message
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.msg import ClassLabels, TrackedMasks
from sam2s_ros.overlay import draw_overlay
from sam2s_ros.processes.awake import steady
from sam2s_ros.processes.log import Logger
from sam2s_ros.tracker.base_maps import BaseMaps, MergeCounts, MergedMap
from sam2s_ros.tracker.health import Health, ImageOutcome, Processed, TrackerSnapshot
from sam2s_ros.tracker.worker import Result


class TrackerPublishers:
    """The publishers of masks, images and labels. The worker delivers and is alive; any thread may switch.

    active: whether the life cycle lets anything be published; enabled: as set by ~/enable
    now: ns, the node's clock; log: told when an overlay cannot be drawn
    """

    def __init__(self, node: Node, health: Health, now: Callable[[], int], log: Logger):
        def publisher(kind, topic, profile, *more):
            return node.create_publisher(kind, topic, qos.own(profile), qos_overriding_options=qos.overridable(*more))

        deadline, lease = QoSPolicyKind.DEADLINE, QoSPolicyKind.LIVELINESS_LEASE_DURATION
        self._masks = publisher(TrackedMasks, "~/masks", qos.MASKS, deadline, lease)
        self._label_image = publisher(Image, "~/label_image", qos.OUTPUT)
        self._semantic_image = publisher(Image, "~/semantic_image", qos.OUTPUT)
        self._label_color = publisher(Image, "~/label_color", qos.OUTPUT)
        self._overlay = publisher(Image, "~/overlay", qos.OUTPUT)
        self._overlay_jpeg = publisher(CompressedImage, "~/overlay/compressed", qos.OUTPUT)
        self._class_labels = publisher(ClassLabels, "~/labels", qos.LATCHED)
        self._detections = publisher(Detection2DArray, "~/detections", qos.OUTPUT) if Detection2DArray else None
        self._annotations = publisher(ImageAnnotations, "~/annotations", qos.OUTPUT) if ImageAnnotations else None
        self._label_info = publisher(LabelInfo, "~/label_info", qos.LATCHED) if LabelInfo else None
        if self._detections is None:
            node.get_logger().debug("vision_msgs is not installed: no ~/detections")
        if self._annotations is None:
            node.get_logger().debug("foxglove_msgs is not installed: no ~/annotations")
        self._health, self._now, self._log = health, now, log
        self._lock = threading.Lock()  # held while publishing and while switching, so that off means off
        self._base_maps: BaseMaps | None = None
        self._sequence = self._labels_since = 0
        self.active, self.enabled = False, True
        self.labels = GENERIC

    def begin(self, labels: LabelSet) -> None:
        """Count from 1 again, with this table of classes: the node was configured. What was switched off stays so."""
        self._sequence, self.labels = 0, labels
        self._labels_since = self._now()

    def publish_labels(self) -> None:
        """Publish the latched table of classes: the node was activated."""
        self._class_labels.publish(self.labels_message())
        if self._label_info is not None:
            self._label_info.publish(label_info_message(self.labels, self._labels_since))

    def switch(self, *, active: bool | None = None, enabled: bool | None = None) -> None:
        """Switch on or off: once this returns with either of them False, nothing is published."""
        with self._lock:
            before = self.active and self.enabled
            self.active = self.active if active is None else active
            self.enabled = self.enabled if enabled is None else enabled
            if self.active and self.enabled and not before:
                self._health.switched_on(steady())

    def alive(self) -> None:
        """Assert the liveliness that ~/masks offers."""
        self._masks.assert_liveliness()

    def deliver(self, result: Result) -> int:
        """Publish all topics of one frame, with its header, or account for it as dropped. Return its sequence, or 0."""
        header, tracks = result.frame.header, result.tracks
        with self._lock:
            if not (self.active and self.enabled):
                self._health.ended(ImageOutcome.DISABLED)
                return 0
            age = steady() - result.frame.arrived
            late = _late(age, result.config)
            if late and result.config.on_late == "drop":
                self._health.ended(ImageOutcome.LATE, f"{late} and were not published", latency=age, step=result.step)
                return 0
            self._sequence = sequence = self._sequence + 1
            masks = messages.masks_message(
                tracks,
                header,
                sequence=sequence,
                received_ns=result.frame.received,
                finished_ns=result.finished,
                model=result.model,
                late=bool(late),
            )
            self._masks.publish(masks)
            if not late:  # which these could not say; the pictures say it
                if _heard(self._label_image):
                    self._label_image.publish(masks.label_image)
                if self._base_maps is not None:
                    self._publish_merged(self._base_maps.add_tracks(tracks.stamp, header, tracks, result.frame.arrived))
                elif _heard(self._semantic_image):
                    self._semantic_image.publish(image_codec.to_message(tracks.semantic_map(), header, "mono8"))
                if _heard(self._label_color):
                    drawn = coloured(tracks, self.labels)
                    self._label_color.publish(image_codec.to_message(drawn, header, "rgb8"))
                if self._detections is not None and _heard(self._detections):
                    self._detections.publish(detections_message(tracks, header))
            self._health.published(
                tracks.stamp, steady(), latency=steady() - result.frame.arrived, step=result.step, late=late
            )
            self._publish_pictures(result, late=bool(late))
        return sequence

    def publish_while_on(self, publish: Callable[[], None]) -> bool:
        """Let another part of the node publish, unless that is switched off. Return whether it did."""
        with self._lock:
            on = self.active and self.enabled
            if on:
                publish()
        return on

    def use_base_maps(self, maps: BaseMaps | None) -> None:
        """Publish ~/semantic_image of what is merged with base maps from here on; None: of the objects alone."""
        with self._lock:
            self._base_maps = maps

    def add_base_map(self, stamp: int, base: np.ndarray) -> None:
        """Take in the base map, (H, W) uint8, of the image of a stamp, ns, and publish what is complete with it."""
        with self._lock:
            if self._base_maps is not None and self.active and self.enabled:
                self._publish_merged(self._base_maps.add_map(stamp, base))

    def merge_counts(self) -> MergeCounts | None:
        """Return what became of frames and base maps so far; None where there are none."""
        maps = self._base_maps
        return maps.counts if maps is not None else None

    def _publish_merged(self, merged: Sequence[MergedMap]) -> None:
        for one in merged:
            if _heard(self._semantic_image):
                self._semantic_image.publish(image_codec.to_message(one.image, one.header, "mono8"))

    def _publish_pictures(self, result: Result, *, late: bool) -> None:
        """Publish what is drawn for people, while somebody looks; late ones say so."""
        config, header = result.config, result.frame.header
        try:
            if self._annotations is not None and _heard(self._annotations):
                self._annotations.publish(annotations_message(result.tracks, header, self.labels, late=late))
            if not (_heard(self._overlay) or _heard(self._overlay_jpeg)):
                return
            drawn = draw_overlay(result.image, result.tracks, self.labels, alpha=config.overlay_alpha, late=late)
            if _heard(self._overlay):
                self._overlay.publish(image_codec.to_message(drawn, header, "rgb8"))
            if _heard(self._overlay_jpeg):
                self._overlay_jpeg.publish(image_codec.to_jpeg(drawn, header, config.overlay_quality))
        except Exception as error:  # the masks are out and counted: a picture for people must not undo that
            self._log.warning(f"overlay not drawn: {type(error).__name__}: {error}")

    def labels_message(self) -> ClassLabels:
        return messages.labels_message(self.labels, self._labels_since)


def _heard(publisher) -> bool:
    return publisher.get_subscription_count() > 0


def _late(age: float, config: NodeConfig) -> str:
    """Return a sentence when masks of an image that came `age` s ago are late; "" otherwise."""
    if not 0 < config.max_output_age < age:
        return ""
    limit = f"max_output_age is {config.max_output_age:g} s"
    return f"the newest masks were ready {age:.2f} s after their image came ({limit})"


def answer_message(tracks: Tracks, view: TrackerSnapshot) -> TrackedMasks:
    """Make the masks of a service's answer. view: as of right after the request

    The header is that of the frame of `tracks`; where the view does not know the frame, it has only the stamp. The
    sequence is that of the frame's message on ~/masks, 0 when it was not published.
    """
    unknown = Processed(tracks.stamp, Header(stamp=messages.to_time(tracks.stamp)), 0, 0)
    frame = next((frame for frame in reversed(view.frames) if frame.stamp == tracks.stamp), unknown)
    return messages.masks_message(
        tracks,
        frame.header,
        sequence=frame.sequence,
        received_ns=frame.received,
        finished_ns=frame.finished,
        model=view.model,
    )
