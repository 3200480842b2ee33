"""One tracker over ROS: its masks, images and heartbeat into a session, and requests to its services."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from sam2s_model.errors import ConfigError, ErrorCode, ImageError, RequestError
from sam2s_model.prompts import Prompt
from sam2s_ros.console.frames import Seen, ShownFrame
from sam2s_ros.console.link import LinkPrompt
from sam2s_ros.console.proposals import Discovered, proposed
from sam2s_ros.console.session import Session
from sam2s_ros.interfaces import image_codec, qos
from sam2s_ros.interfaces.messages import labels_from_message, prompt_message, to_ns, to_time
from sam2s_ros.interfaces.publishers import tracked_images
from sam2s_ros.interfaces.status_text import state_name
from sam2s_ros.msg import ClassLabels, Proposals, TrackedMasks, TrackedObject, TrackerStatus
from sam2s_ros.srv import AddPrompts, Discover, RemoveObjects

IMAGE_KINDS = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
# Looks without images until that is said; where nothing else has images either, other nodes may not be known yet.
MISSED, MISSED_ALONE = 4, 12
DISCOVERY_TIMEOUT = 60.0  # s: on a CPU it is many passes of the decoder
MAX_NAMED = 5  # topics in a sentence
COUNTERS = (
    "received", "published", "dropped_overload", "dropped_stamp", "dropped_image", "dropped_disabled", "dropped_error",
    "dropped_late", "objects", "memory_bytes", "process_bytes", "prompt_revision",
)  # fmt: skip
TIMES = ("input_age", "output_age", "latency_p50", "latency_p99", "step_p50", "step_p99")


class TrackerLink:
    """A `Link`. Callbacks run in the node's executor, the requests in the server's loop.

    name: of the tracker's node, with its namespace; image: topic, "" for the one that the tracker is subscribed to
    image_memory: bytes of images that are kept until their masks come
    timeout: s for the answer of a service
    """

    def __init__(
        self, node: Node, name: str, changed: Callable[[], None], *, image: str, image_memory: int, timeout: float
    ):
        self.session = Session(name, changed=changed)
        self._node, self._name, self._timeout, self._image_memory = node, name, timeout, image_memory
        self._image_topic, self._follow = image, not image
        self._images: OrderedDict[int, Image | CompressedImage] = OrderedDict()
        self._image_bytes = 0
        self._missing = 0  # looks in a row at which the topic that was given had no images
        self._missing_said = False
        self._image_subscription: Any = None
        self._subscribed: tuple[str, type] | None = None
        node.create_subscription(TrackedMasks, f"{name}/masks", self._on_masks, qos.own(qos.NEWEST))
        node.create_subscription(TrackerStatus, f"{name}/status", self._on_status, qos.own(qos.NEWEST))
        node.create_subscription(ClassLabels, f"{name}/labels", self._on_labels, qos.own(qos.LATCHED))
        self._prompts = node.create_client(AddPrompts, f"{name}/add_prompts")
        self._discovery = node.create_client(Discover, f"{name}/discover")
        self._removals = node.create_client(RemoveObjects, f"{name}/remove_objects")
        self._resets = node.create_client(Trigger, f"{name}/reset")
        self._switch = node.create_client(SetBool, f"{name}/enable")
        self._parameters = node.create_client(GetParameters, f"{name}/get_parameters")
        self._asked_history = False

    def now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    # What the tracker says

    def look(self) -> None:
        """Find the images, and the tracker's prompt_history. Called again and again."""
        found = self._tracked_topic() if self._follow else self._given_topic()
        if found is not None and found != self._subscribed:
            self._subscribe(*found)
        if not self.session.alive:
            self._asked_history = False  # it may be another one when it is back
        elif not self._asked_history and self._parameters.service_is_ready():
            self._asked_history = True
            request = GetParameters.Request(names=["prompt_history"])
            self._parameters.call_async(request).add_done_callback(self._on_history)

    def _given_topic(self) -> tuple[str, type] | None:
        topics = dict(self._node.get_topic_names_and_types())
        kinds = topics.get(self._image_topic, [])
        kind = next((IMAGE_KINDS[k] for k in kinds if k in IMAGE_KINDS), None)
        if kind:
            self._missing, self._missing_said = 0, False
            return self._image_topic, kind
        self._missing += 1
        images = (name for name, types in topics.items() if IMAGE_KINDS.keys() & set(types))
        there = sorted(name for name in images if not name.startswith(f"{self._name}/"))
        if self._missing >= (MISSED if there else MISSED_ALONE) and not self._missing_said:
            self._missing_said = True
            topic = self._image_topic
            as_what = f"{topic} is published as {', '.join(kinds)}" if kinds else f"nobody publishes {topic}"
            helps = f"; images are on {', '.join(there[:MAX_NAMED])}" if there else ""
            self._node.get_logger().warning(
                f"{self._name}: no images: {as_what}, which the parameter image names{helps}"
            )
        return None

    def _tracked_topic(self) -> tuple[str, type] | None:
        found = tracked_images(self._node, self._name)
        return (found[0], IMAGE_KINDS[found[1]]) if found is not None else None

    def _subscribe(self, topic: str, kind: type) -> None:
        if self._image_subscription is not None:
            self._node.destroy_subscription(self._image_subscription)
        events = SubscriptionEventCallbacks(use_default_callbacks=False)  # see TrackerNode._subscribe
        self._image_subscription = self._node.create_subscription(
            kind, topic, self._on_image, qos.own(qos.IMAGE_IN), event_callbacks=events
        )
        self._subscribed = topic, kind
        self._node.get_logger().info(f"{self._name}: images of {topic}")

    def _on_history(self, future: Any) -> None:
        answer = future.result()
        if answer is not None and answer.values and answer.values[0].type == ParameterType.PARAMETER_INTEGER:
            self.session.set_history(answer.values[0].integer_value)
        else:
            self._asked_history = False

    def _on_image(self, message: Image | CompressedImage) -> None:
        stamp = to_ns(message.header.stamp)
        replaced = self._images.pop(stamp, None)
        self._images[stamp] = message
        self._image_bytes += len(message.data) - (len(replaced.data) if replaced is not None else 0)
        while self._image_bytes > self._image_memory and len(self._images) > 1:
            _, oldest = self._images.popitem(last=False)
            self._image_bytes -= len(oldest.data)
        # Of a compressed one the size is not known without decoding it, which is done for one that is shown alone.
        size = (message.height, message.width) if isinstance(message, Image) else (0, 0)
        self.session.on_image(ShownFrame(stamp, size, partial(image_codec.decode, message)))

    def _on_masks(self, message: TrackedMasks) -> None:
        stamp = to_ns(message.header.stamp)
        image = self._images.get(stamp)
        while self._images and next(iter(self._images)) <= stamp:  # masks come in the order of stamps
            _, passed = self._images.popitem(last=False)
            self._image_bytes -= len(passed.data)
        self.session.on_masks(_frame(message, partial(_decoded, image, message)))

    def _on_status(self, message: TrackerStatus) -> None:
        values: dict[str, Any] = {name: round(float(getattr(message, name)), 4) for name in TIMES}
        values |= {name: int(getattr(message, name)) for name in COUNTERS}
        self.session.on_status(
            {
                "state": state_name(message.state), "message": message.message,
                "model": message.model, "device": message.device, **values,
            }
        )  # fmt: skip

    def _on_labels(self, message: ClassLabels) -> None:
        try:
            labels = labels_from_message(message)
        except ConfigError as error:
            self._node.get_logger().warning(f"labels of {self._name} are left out: {error}")
            return
        self.session.on_classes(
            [{"id": c.id, "name": c.name, "color": "#" + bytes(c.color).hex()} for c in labels.classes]
        )

    # What people ask for

    async def prompt(self, asked: LinkPrompt) -> int:
        points = asked.points
        prompt = Prompt(
            asked.object_id,
            asked.class_name,
            points=np.array([p[:2] for p in points], np.float32) if points else None,
            point_labels=np.array([p[2] for p in points], np.int64) if points else None,
            box=np.array(asked.box, np.float32) if asked.box else None,
            mask=asked.mask,
            proposal_id=asked.proposal,
        )
        request = AddPrompts.Request(stamp=to_time(asked.stamp), prompts=[prompt_message(prompt)])
        answer = await self._ask(self._prompts, request)
        _check(answer.success, answer.error, answer.message)
        used = to_ns(answer.stamp_used)
        if answer.masks.label_image.width:
            changed = () if asked.only_names else tuple(answer.object_ids)
            self.session.answered(used, _frame(answer.masks, partial(_decoded, None, answer.masks)), changed)
        return int(answer.object_ids[0])

    async def discover(self, stamp: int, class_name: str = "") -> Discovered:
        request = Discover.Request(class_name=class_name)
        answer = await self._ask(self._discovery, request, max(self._timeout, DISCOVERY_TIMEOUT))
        _check(answer.success, answer.error, answer.message)
        return _discovered(answer.proposals)

    async def remove(self, object_ids: tuple[int, ...]) -> None:
        answer = await self._ask(self._removals, RemoveObjects.Request(object_ids=list(object_ids)))
        _check(answer.success, answer.error, answer.message)

    async def reset(self) -> str:
        answer = await self._ask(self._resets, Trigger.Request())
        _check(answer.success, ErrorCode.INTERNAL, answer.message)
        return str(answer.message)

    async def enable(self, on: bool) -> str:
        answer = await self._ask(self._switch, SetBool.Request(data=on))
        _check(answer.success, ErrorCode.INTERNAL, answer.message)
        return str(answer.message)

    async def _ask(self, client: Any, request: Any, timeout: float = 0.0) -> Any:
        """Return the answer of a service. Raises RequestError (NOT_ACTIVE, TIMEOUT) when there is none.

        timeout: s; 0: that of all
        """
        timeout = timeout or self._timeout
        if not client.service_is_ready():
            raise RequestError(ErrorCode.NOT_ACTIVE, f"{client.srv_name} is not there: is {self._name} running?")
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
        try:
            await asyncio.wait_for(done.wait(), timeout)
        except asyncio.TimeoutError:
            client.remove_pending_request(future)
            raise RequestError(ErrorCode.TIMEOUT, f"{client.srv_name} has not answered within {timeout:g} s") from None
        return future.result()


def _check(success: bool, error: int, message: str) -> None:
    if not success:
        code = ErrorCode(error) if error in set(ErrorCode) else ErrorCode.INTERNAL
        raise RequestError(code, message)


def _frame(message: TrackedMasks, image: Callable[[], np.ndarray]) -> ShownFrame:
    label_image = message.label_image
    return ShownFrame(
        stamp=to_ns(message.header.stamp),
        size=(label_image.height, label_image.width),
        image=image,
        sequence=message.sequence,
        label_map=image_codec.to_gray(label_image),
        objects=tuple(_seen(found) for found in message.objects),
        late=message.late,
    )


def _discovered(message: Proposals) -> Discovered:
    """Take those that are of no object that is tracked. Where masks overlap, the better one has the pixels."""
    labels = image_codec.to_gray(message.label_image)
    found = []
    for own in message.proposals:
        box = own.bounding_box
        if own.object_id:
            continue
        corners = (box.x_offset, box.y_offset, box.x_offset + box.width, box.y_offset + box.height)
        found.append(
            proposed(own.proposal_id, labels == own.label, corners, own.class_name, own.score, own.class_score)
        )
    return Discovered(to_ns(message.header.stamp), tuple(found))


def _seen(found: TrackedObject) -> Seen:
    box = found.bounding_box
    return Seen(
        id=int(found.object_id),
        label=int(found.label),
        class_id=int(found.class_id),
        class_name=found.class_name,
        class_score=round(float(found.class_score), 4) if math.isfinite(found.class_score) else None,
        state=int(found.state),
        score=float(found.score) if math.isfinite(found.score) else 0.0,
        box=(box.x_offset, box.y_offset, box.x_offset + box.width, box.y_offset + box.height),
        area=int(found.area),
    )


def _decoded(image: Image | CompressedImage | None, masks: TrackedMasks) -> np.ndarray:
    if image is None:
        raise ImageError(f"the image of the masks {masks.sequence} did not reach the console")
    return image_codec.decode(image)
