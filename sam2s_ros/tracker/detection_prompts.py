"""Prompts by a detector: boxes on a topic, of which those that are of no tracked object become objects."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

from sam2s_model.errors import ConfigError, RequestError
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import LabelSet
from sam2s_model.tracking.association import (
    DOUBTFUL,
    PROMPTED,
    Detection,
    Fate,
    KnownObject,
    associate,
    box_iou,
    within,
)
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.detections import Detection2DArray, boxes_of_detections
from sam2s_ros.interfaces.messages import boxes_of_message, header_ns
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.interfaces.publishers import PublisherWatch
from sam2s_ros.msg import DetectedBoxes
from sam2s_ros.tracker.contract import PromptAnswer, TrackerLike
from sam2s_ros.tracker.event_log import EventLog
from sam2s_ros.tracker.health import Processed, TrackerSnapshot
from sam2s_ros.tracker.point_prompts import image_not_later

TOPIC = "~/detections_in"
TYPES = {
    "sam2s_ros/msg/DetectedBoxes": "set the parameter detections_in to boxes",
    "vision_msgs/msg/Detection2DArray": "set the parameter detections_in to vision_msgs",
}
REMEMBERED = 64  # newest prompts whose boxes are remembered
RETRY = 10.0  # s after which a place that was prompted in vain is tried again
FRESH = 1.0  # s between a detection's image and a prompt's, within which the prompted box tells where the object is


@dataclass(frozen=True)
class _Prompted:
    object_id: int
    stamp: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class _Kept:
    """A `PromptAnswer` with the ids of the objects that were kept. prompts, by_person: of all that were asked"""

    stamp: int
    object_ids: tuple[int, ...]
    tracks: Tracks
    prompts: tuple[Prompt, ...]
    by_person: tuple[int, ...]


@dataclass(frozen=True)
class _Outcome:
    """What was done with the boxes of one image. answer: None when nothing was prompted, or nothing of it was kept"""

    fates: tuple[tuple[Detection, Fate], ...]
    answer: PromptAnswer | None


class DetectionPrompts:
    """Subscribes to ~/detections_in where the parameter detections_in says its type, and prompts what is not tracked.

    The decision and the prompt are one call in the worker, before the next image: a prompt that is not answered yet
    counts as the object that it will be, and the same instrument is not prompted twice, however slow the tracker is.
    An object is looked for where it was on the detections' image, where it is now, and where it was prompted. A class
    that is not in the table is taken for none.

    ask: runs call(tracker) in the worker and returns its result and the view, or raises RequestError
    frames: those that can be prompted, ascending, as of now; called in the worker
    config: the parameters detection_*, as they are now; max_objects: most that the tracker takes
    labels: the table of classes
    group: that of the requests, since a callback waits for the tracker; events: told each answer
    """

    def __init__(
        self,
        node: Node,
        ask: Callable[[Callable[[TrackerLike], Any]], tuple[Any, TrackerSnapshot]],
        frames: Callable[[], Sequence[Processed]],
        config: Callable[[], NodeConfig],
        max_objects: Callable[[], int],
        labels: Callable[[], LabelSet],
        group: CallbackGroup,
        events: EventLog,
    ):
        self._node, self._ask, self._frames, self._config, self._labels = node, ask, frames, config, labels
        self._max_objects, self._group, self._events = max_objects, group, events
        self._subscription: Any = None
        self._sources = PublisherWatch(node, TOPIC, TYPES, search=False)
        self._kind = "off"
        # Only the worker's thread touches them.
        self._prompted: deque[_Prompted] = deque(maxlen=REMEMBERED)
        self._in_vain: deque[_Prompted] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()
        self._counts: Counter[Fate] = Counter()

    def subscribe(self, kind: str) -> None:
        """Subscribe with the type that the parameter detections_in names. Raises ConfigError when there is none."""
        if kind == "vision_msgs" and Detection2DArray is None:
            raise ConfigError("detections_in is vision_msgs, which is not installed: install it, or set it to boxes")
        if kind == self._kind:
            return
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        self._kind = kind
        if kind == "off":
            return
        message, read = (
            (DetectedBoxes, boxes_of_message) if kind == "boxes" else (Detection2DArray, boxes_of_detections)
        )
        self._subscription = self._node.create_subscription(
            message,
            TOPIC,
            partial(self._on_detections, read),
            qos.own(qos.DETECTIONS_IN),
            callback_group=self._group,
            qos_overriding_options=qos.overridable(),
        )

    def forget(self) -> None:
        """Forget where was prompted, since another stream begins. Called in the worker."""
        self._prompted.clear()
        self._in_vain.clear()

    def unheard(self) -> str:
        """Return a sentence when a detector publishes in a way that is not heard; "" otherwise."""
        if self._subscription is not None:
            found = self._sources.look(self._subscription)
            return found.silent if found.unheard else ""
        topic = self._node.resolve_topic_name(TOPIC)
        if self._node.count_publishers(topic):
            return f"{topic} is published, and detections_in is off: set it to boxes or vision_msgs, and configure anew"
        return ""

    def values(self) -> dict[str, str]:
        """Return how many detections had which fate, for /diagnostics; nothing while the topic is off."""
        with self._lock:
            return {fate.value: str(self._counts[fate]) for fate in Fate} if self._kind != "off" else {}

    def _on_detections(self, read: Callable[[Any], list[Detection]], msg: Any) -> None:
        found = read(msg)
        if not found:
            return
        try:
            stamp = header_ns(msg.header)
            outcome, _ = self._ask(partial(self._apply, stamp=stamp, found=found, config=self._config()))
        except RequestError as error:
            self._events.refused(error, TOPIC)
            return
        with self._lock:
            self._counts.update(fate for _, fate in outcome.fates)
        for detection, fate in outcome.fates:
            if fate in DOUBTFUL:
                place = ", ".join(f"{v:.0f}" for v in detection.box)
                name = detection.class_name or "of no class"
                self._events.doubt(f"no prompt for the detection {name} at {place}: {DOUBTFUL[fate]}", TOPIC)
        if outcome.answer is not None:
            self._events.prompted(outcome.answer, TOPIC)

    def _apply(self, tracker: TrackerLike, *, stamp: int, found: list[Detection], config: NodeConfig) -> _Outcome:
        """Decide and prompt in the worker: only there is it known what is tracked, and nothing comes between."""
        frames, newest = self._frames(), tracker.newest
        used = image_not_later([frame.stamp for frame in frames], stamp, config.detection_max_age)
        if newest is not None:
            found = [replace(detection, box=within(detection.box, newest.size)) for detection in found]
        names = {label.name for label in self._labels().classes}
        found = [replace(d, class_name=d.class_name if d.class_name in names else "") for d in found]
        then = used or (frames[-1].stamp if frames else 0)
        known = self._known_objects(tracker, frames, then)
        fates = associate(
            found,
            known,
            min_iou=config.detection_iou,
            min_score=config.detection_min_score,
            prompt_lost=config.detection_lost == "prompt",
            unfollowed=[one.box for one in self._in_vain if abs(one.stamp - then) <= RETRY * 1e9],
            room=self._max_objects() - len(tracker.object_ids),
        )
        chosen = [(d, i) for d, (fate, i) in zip(found, fates, strict=True) if fate in PROMPTED]
        judged = tuple((d, fate) for d, (fate, _) in zip(found, fates, strict=True))
        if not chosen:
            return _Outcome(judged, None)
        # One that is there keeps its class.
        prompts = [Prompt(i, "" if i else d.class_name, box=np.array(d.box, np.float32)) for d, i in chosen]
        answer = tracker.prompt(used, prompts)
        kept = self._kept(tracker, answer, chosen, config.detection_iou)
        return _Outcome(judged, kept if kept.object_ids else None)

    def _kept(
        self, tracker: TrackerLike, answer: PromptAnswer, chosen: list[tuple[Detection, int]], min_iou: float
    ) -> _Kept:
        """Remove new objects whose masks are not where their detections are, and remember the others' boxes.

        Where a detector finds what the model takes for nothing, or for an instrument beside it, each detection of it
        would otherwise begin another object.
        """
        kept, tracks = [], answer.tracks
        for (detection, known_id), object_id in zip(chosen, map(int, answer.object_ids), strict=True):
            i = tracks.index(object_id)
            follows = tracks.areas[i] > 0 and box_iou(tracks.boxes[i].tolist(), detection.box) >= min_iou
            prompted = _Prompted(object_id, answer.stamp, detection.box)
            if follows or known_id:
                self._prompted.append(prompted)
                kept.append(object_id)
            else:
                self._in_vain.append(prompted)
        removed = [int(i) for i in answer.object_ids if int(i) not in kept]
        if removed:
            tracker.remove(removed)
        return _Kept(answer.stamp, tuple(kept), tracks, answer.prompts, answer.by_person)

    def _known_objects(self, tracker: TrackerLike, frames: Sequence[Processed], stamp: int) -> list[KnownObject]:
        newest = tracker.newest
        if newest is None:
            return []
        then = next((dict(frame.boxes) for frame in frames if frame.stamp == stamp), {})
        known = []
        for i, object_id in enumerate(newest.object_ids.tolist()):
            boxes = [tuple(float(v) for v in newest.boxes[i])] if newest.areas[i] else []
            boxes += [then[object_id]] if object_id in then else []
            boxes += [
                one.box
                for one in self._prompted
                if one.object_id == object_id and abs(one.stamp - stamp) <= FRESH * 1e9
            ]
            known.append(KnownObject(object_id, newest.class_names[i], int(newest.states[i]), tuple(boxes)))
        return known
