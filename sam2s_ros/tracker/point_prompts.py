"""Prompts by clicking: points on topics instead of a service, for people at a screen, and the answer on a topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from geometry_msgs.msg import Point, PointStamped
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

from sam2s_model.errors import RequestError
from sam2s_model.prompts import NEGATIVE, POSITIVE, Prompt
from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.messages import to_ns, to_time
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.interfaces.publishers import PublisherWatch, type_name
from sam2s_ros.msg import PromptResult
from sam2s_ros.tracker.contract import PromptAnswer, TrackerLike
from sam2s_ros.tracker.event_log import EventLog
from sam2s_ros.tracker.gate import seconds
from sam2s_ros.tracker.health import Processed, TrackerSnapshot

LAST_USED = -1


class PointPrompts:
    """Subscribes to ~/point (PointStamped, with the image's stamp) and ~/click (Point), and answers on ~/prompt_result.

    ~/click is remapped to what a viewer publishes when it is clicked on (rqt_image_view: <image>_mouse_left). It has no
    stamp, so it is of the newest image, and so is a PointStamped with stamp 0. A stamp that is no image's is the time
    of the click, as RViz gives it: the newest image that is not later is taken, within point_max_age. Points are in px
    of the source image, on the object or, with point_label negative, not on it; z is not read.

    ask: runs call(tracker) in the worker and returns its result and the view, or raises RequestError
    frames: those that can be prompted, ascending, as of now; called in the worker
    config: the parameters point_object_id, point_class, point_max_age and point_label, as they are now
    group: that of the requests, since a callback waits for the tracker
    events: told each answer
    """

    def __init__(
        self,
        node: Node,
        ask: Callable[[Callable[[TrackerLike], PromptAnswer]], tuple[PromptAnswer, TrackerSnapshot]],
        frames: Callable[[], Sequence[Processed]],
        config: Callable[[], NodeConfig],
        group: CallbackGroup,
        events: EventLog,
    ):
        self._ask, self._frames, self._config, self._events = ask, frames, config, events
        self._last_id = 0
        self._results = node.create_publisher(
            PromptResult, "~/prompt_result", qos.own(qos.OUTPUT), qos_overriding_options=qos.overridable()
        )
        self._inputs = []
        for kind, name, callback, other, instead in (
            (PointStamped, "~/point", self._on_point, Point, "~/click"),
            (Point, "~/click", self._on_click, PointStamped, "~/point"),
        ):
            watch = PublisherWatch(node, name, {type_name(other): f"remap `{instead}` to it instead"}, search=False)
            profile, overridable = qos.own(qos.OUTPUT), qos.overridable()
            subscription = node.create_subscription(
                kind, name, callback, profile, callback_group=group, qos_overriding_options=overridable
            )
            self._inputs.append((watch, subscription))

    def unheard(self) -> str:
        """Return a sentence when somebody publishes points in a way that is not heard; "" otherwise."""
        found = [watch.look(subscription) for watch, subscription in self._inputs]
        return next((one.silent for one in found if one.unheard), "")

    def _on_point(self, msg: PointStamped) -> None:
        self._prompt(to_ns(msg.header.stamp), msg.point, "~/point")

    def _on_click(self, msg: Point) -> None:
        self._prompt(0, msg, "~/click")

    def _prompt(self, stamp: int, point: Point, by: str) -> None:
        result = PromptResult(point=point)
        try:
            answer, _ = self._ask(partial(self._apply, stamp=stamp, point=point, config=self._config()))
        except RequestError as error:
            result.error, result.message = int(error.code), str(error)
            self._events.refused(error, by)
        else:
            self._events.prompted(answer, by)
            [self._last_id] = answer.object_ids
            name = answer.tracks.class_names[answer.tracks.index(self._last_id)]
            result.success, result.object_ids = True, list(answer.object_ids)
            result.stamp_used = to_time(answer.stamp)
            result.message = f"object {self._last_id} ({name}) was prompted on the image of {seconds(answer.stamp)}"
            if stamp and stamp != answer.stamp:
                result.message += f", the newest not later than the click, by {(stamp - answer.stamp) / 1e9:.3f} s"
        self._results.publish(result)

    def _apply(self, tracker: TrackerLike, *, stamp: int, point: Point, config: NodeConfig) -> PromptAnswer:
        """Prompt in the worker: only there is it known whether the last object is still tracked."""
        object_id = config.point_object_id
        if object_id == LAST_USED:
            object_id = self._last_id if self._last_id in tracker.object_ids else 0
        place = np.array([[point.x, point.y]])
        label = POSITIVE if config.point_label == "positive" else NEGATIVE
        prompt = Prompt(object_id, config.point_class, points=place, point_labels=np.array([label]))
        stamps = [frame.stamp for frame in self._frames()]
        return tracker.prompt(image_not_later(stamps, stamp, config.point_max_age), [prompt])


def image_not_later(stamps: Sequence[int], stamp: int, max_age: float) -> int:
    """Return the stamp of the image that something is on; its own where there is none: the tracker refuses it.

    stamps: ns, of the images that can be prompted, ascending; stamp: ns, 0 for the newest; max_age: s
    """
    before = next((s for s in reversed(stamps) if s <= stamp), None) if stamp else None
    return before if before is not None and stamp - before <= max_age * 1e9 else stamp
