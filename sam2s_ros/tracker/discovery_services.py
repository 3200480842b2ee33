"""`~/discover`, `~/save_prototypes` and `~/proposals` of the tracker node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from sam2s_model.errors import ConfigError, PrototypeError, RequestError
from sam2s_model.semantics import LabelSet
from sam2s_ros.interfaces import messages, qos
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.msg import Proposals
from sam2s_ros.srv import Discover

if TYPE_CHECKING:  # loads torch
    from sam2s_model.discovery.discover import Proposal
    from sam2s_ros.tracker.worker import Result


class DiscoveryServices:
    """What of discovery is seen outside.

    ask: runs call(tracker) in the worker and returns its result and the view, or raises RequestError
    while_on: calls what publishes, unless the node is inactive or switched off, and returns whether it did
    labels, config: as they are now; group: that of the requests, since a callback waits for the tracker
    check_own: as of `OwnFiles`, before a file is written
    """

    def __init__(
        self,
        node: Node,
        ask: Callable[[Callable[[Any], Any]], tuple[Any, Any]],
        while_on: Callable[[Callable[[], None]], bool],
        labels: Callable[[], LabelSet],
        config: Callable[[], NodeConfig],
        group: CallbackGroup,
        check_own: Callable[[str], None] = lambda parameter: None,
    ):
        self._ask, self._while_on, self._labels, self._config = ask, while_on, labels, config
        self._check_own = check_own
        self._proposals = node.create_publisher(
            Proposals, "~/proposals", qos.own(qos.OUTPUT), qos_overriding_options=qos.overridable()
        )
        for kind, name, callback in (
            (Discover, "~/discover", self._discover),
            (Trigger, "~/save_prototypes", self._save),
        ):
            node.create_service(kind, name, callback, qos_profile=qos.SERVICE, callback_group=group)

    def publish(self, result: Result, proposals: Sequence[Proposal]) -> bool:
        """Publish what was found on a frame that the worker has processed; called in its thread.

        Return whether it was: not when the node was deactivated or switched off meanwhile.
        """
        message = self._message(proposals, result.frame.header, result.tracks.size)
        return self._while_on(lambda: self._proposals.publish(message))

    def _message(self, proposals: Sequence[Proposal], header: Header, size: tuple[int, int]) -> Proposals:
        from sam2s_ros.interfaces.proposals import proposals_message

        return proposals_message(proposals, header, self._labels(), size)

    def _discover(self, request: Discover.Request, response: Discover.Response) -> Discover.Response:
        try:
            (found, newest), view = self._ask(lambda tracker: (tracker.discover(request.class_name), tracker.newest))
        except RequestError as error:
            response.error, response.message = int(error.code), str(error)
            return response
        headers = (frame.header for frame in reversed(view.frames) if frame.stamp == newest.stamp)
        header = next(headers, Header(stamp=messages.to_time(newest.stamp)))
        response.success, response.proposals = True, self._message(found, header, newest.size)
        self._while_on(lambda: self._proposals.publish(response.proposals))
        return response

    def _save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        path = self._config().prototypes
        if not path:
            response.message = (
                "the parameter prototypes is empty: give the path of a file, and configure the node again"
            )
            return response
        try:
            self._check_own("prototypes")
            response.message, _ = self._ask(lambda tracker: _saved(tracker, path))
        except (RequestError, ConfigError, PrototypeError) as error:
            response.message = str(error)
        else:
            response.success = True
        return response


def _saved(tracker: Any, path: str) -> str:
    from sam2s_model.discovery.learnt import is_learnt
    from sam2s_model.discovery.prototype_file import ModelIdentity, save_prototypes

    if is_learnt(path):
        raise PrototypeError(f"{path} has class prompts that were trained: give another path to save prototypes to")
    bank = tracker.discovery.bank
    save_prototypes(bank, ModelIdentity.of(tracker.model), path)
    return f"{len(bank)} prototypes of {', '.join(bank.class_names) or 'no class'} were saved to {path}"
