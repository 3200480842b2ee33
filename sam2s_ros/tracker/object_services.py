"""`~/save_objects`, `~/load_objects` and load_objects: objects of this operation go on in the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from sam2s_model.errors import ConfigError, ObjectMemoryError, RequestError
from sam2s_ros.interfaces import qos
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.processes.log import Logger
from sam2s_ros.tracker.event_log import EventLog


class ObjectServices:
    """Writes the tracked objects to the file of the parameter objects_file, and goes on with those that are in it.

    ask: runs call(tracker) in the worker and returns its result and the view, or raises RequestError
    config: as it is now; group: that of the requests, since a callback waits for the tracker; events: told each answer
    check_own: as of `OwnFiles`, before a file is written
    """

    def __init__(
        self,
        node: Node,
        ask: Callable[[Callable[[Any], Any]], tuple[Any, Any]],
        config: Callable[[], NodeConfig],
        group: CallbackGroup,
        events: EventLog,
        check_own: Callable[[str], None] = lambda parameter: None,
    ):
        self._ask, self._config, self._events, self._check_own = ask, config, events, check_own
        for name, callback in (("~/save_objects", self._save), ("~/load_objects", self._load)):
            node.create_service(Trigger, name, callback, qos_profile=qos.SERVICE, callback_group=group)

    def _save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answered(response, _saved, "~/save_objects", writes=True)

    def _load(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answered(response, _loaded, "~/load_objects")

    def _answered(
        self, response: Trigger.Response, call: Callable[[Any, str], str], name: str, *, writes: bool = False
    ) -> Trigger.Response:
        path = self._config().objects_file
        if not path:
            response.message = (
                "the parameter objects_file is empty: give the path of a file, and configure the node again"
            )
            return response
        try:
            if writes:
                self._check_own("objects_file")
            response.message, _ = self._ask(lambda tracker: call(tracker, path))
        except RequestError as error:
            response.message = f"{error.code.name}: {error}"
            self._events.refused(error, name)
        except (ConfigError, ObjectMemoryError) as error:
            response.message = str(error)
            self._events.doubt(response.message, name)
        else:
            response.success = True
            self._events.done(response.message, name)
        return response


class FirstLoad:
    """What the parameter load_objects asks for. It is called after a frame, in the worker, as `AutoPrompt` is.

    A file that does not serve is said once: the operation goes on without its objects, and ~/load_objects tries again.
    then: called with the same, where there is nothing to load
    """

    def __init__(self, config: NodeConfig, then: Callable[[Any, Any], bool], log: Logger):
        self._path, self._wanted = config.objects_file, config.load_objects
        self._then, self._log = then, log

    def __call__(self, tracker: Any, result: Any) -> bool:
        """Load on the first frame, and leave all others to what comes next. Return whether anything was done."""
        if not self._wanted:
            return self._then(tracker, result)
        self._wanted = False
        try:
            self._log.info(f"load_objects: {_loaded(tracker, self._path)}")
        except (RequestError, ObjectMemoryError) as error:
            self._log.warning(f"load_objects: no object goes on: {error}")
        return True


def _saved(tracker: Any, path: str) -> str:
    from sam2s_model.recall.object_file import save_objects

    saved = save_objects(tracker, path)
    return f"objects {_named(tracker, tracker.object_ids)} were saved to {path}, {saved.memory_bytes} bytes"


def _loaded(tracker: Any, path: str) -> str:
    from sam2s_model.recall.object_file import load_objects

    ids = load_objects(tracker, path)
    return f"objects {_named(tracker, ids)} of {path} go on: check that their masks are right now"


def _named(tracker: Any, ids: Sequence[int]) -> str:
    tracks = tracker.newest
    return ", ".join(f"{i} ({tracks.class_names[tracks.index(i)]})" for i in ids)
