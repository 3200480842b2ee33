"""The tracker's services: prompts in, objects out, switching, and what it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from sam2s_model.errors import RequestError
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces import messages, qos
from sam2s_ros.msg import ClassLabels, TrackerStatus
from sam2s_ros.srv import AddPrompts, GetState, RemoveObjects
from sam2s_ros.tracker.contract import Answer, TrackerLike
from sam2s_ros.tracker.event_log import EventLog
from sam2s_ros.tracker.health import TrackerSnapshot
from sam2s_ros.tracker.outputs import answer_message


class ServedTracker(Protocol):
    """What the services, and clicks, need of the tracker node. Any thread may call."""

    def ask(self, call: Callable[[TrackerLike], Answer]) -> tuple[Answer, TrackerSnapshot]:
        """Run call(tracker) in the worker. Return its result and the view right after.

        Raises RequestError in every case in which it was not done.
        """
        ...

    def start_anew(self) -> None:
        """Drop all objects and take the next image as the first of its stream. Raises RequestError."""

    def enable(self, enabled: bool) -> None:
        """Let images in or drop them."""

    def status(self) -> TrackerStatus:
        """Report what is known now."""
        ...

    def newest(self) -> Tracks | None:
        """Return the newest frame's tracks; None when there is no frame."""
        ...

    def labels(self) -> ClassLabels:
        """Return the table of classes."""
        ...


class TrackerServices:
    """Makes the services of a node and answers them.

    group: that of requests, which may wait for the tracker; queries do not wait behind them
    events: told what was asked and answered
    """

    def __init__(self, node: Node, tracker: ServedTracker, group: CallbackGroup, events: EventLog):
        self._tracker, self._events = tracker, events
        queries = MutuallyExclusiveCallbackGroup()
        for kind, name, callback, of in (
            (AddPrompts, "~/add_prompts", self._add_prompts, group),
            (RemoveObjects, "~/remove_objects", self._remove_objects, group),
            (Trigger, "~/reset", self._reset, group),
            (SetBool, "~/enable", self._enable, queries),
            (GetState, "~/get_tracker_state", self._get_state, queries),  # ~/get_state is the life cycle's
        ):
            node.create_service(kind, name, callback, qos_profile=qos.SERVICE, callback_group=of)

    def _add_prompts(self, request: AddPrompts.Request, response: AddPrompts.Response) -> AddPrompts.Response:
        try:
            prompts = [messages.prompt_from_message(prompt) for prompt in request.prompts]
            stamp = messages.to_ns(request.stamp)
            answer, view = self._tracker.ask(lambda tracker: tracker.prompt(stamp, prompts))
        except RequestError as error:
            return self._refused(response, error, "~/add_prompts")
        self._events.prompted(answer, "~/add_prompts")
        response.success = True
        response.stamp_used = messages.to_time(answer.stamp)
        response.object_ids = list(answer.object_ids)
        response.masks = answer_message(answer.tracks, view)
        return response

    def _remove_objects(
        self, request: RemoveObjects.Request, response: RemoveObjects.Response
    ) -> RemoveObjects.Response:
        ids = tuple(int(i) for i in request.object_ids)
        try:
            _, view = self._tracker.ask(lambda tracker: tracker.remove(ids))
        except RequestError as error:
            return self._refused(response, error, "~/remove_objects")
        self._events.done(f"objects {', '.join(map(str, ids))} are tracked no more", "~/remove_objects")
        response.success, response.remaining = True, list(view.objects)
        return response

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._tracker.start_anew()
        except RequestError as error:
            response.message = f"{error.code.name}: {error}"
            self._events.refused(error, "~/reset")
        else:
            response.success, response.message = True, "all objects were dropped"
            self._events.done(response.message, "~/reset")
        return response

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._tracker.enable(request.data)
        response.success, response.message = True, "enabled" if request.data else "disabled: images are dropped"
        self._events.done(response.message, "~/enable")
        return response

    def _get_state(self, request: GetState.Request, response: GetState.Response) -> GetState.Response:
        response.status = self._tracker.status()
        response.labels = self._tracker.labels()
        newest = self._tracker.newest()
        response.objects = messages.object_messages(newest) if newest is not None else []
        return response

    def _refused(self, response, error: RequestError, by: str):
        self._events.refused(error, by)
        response.success, response.error, response.message = False, int(error.code), str(error)
        return response
