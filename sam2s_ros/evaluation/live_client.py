"""The evaluation's own node: follows what is played, collects masks as they come, gives prompts."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.evaluation.follow import appeared, prompt_objects
from sam2s_model.evaluation.live import Delivery, GivenPrompt, LiveLog, PackedTruth
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.tracker import PromptResult
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces.messages import to_ns, tracks_from_message
from sam2s_ros.msg import TrackedMasks
from sam2s_ros.processes.graph import Graph
from sam2s_ros.processes.graph_client import MASKS_QOS, POLL
from sam2s_ros.processes.local_graph import GRAPH_TIMEOUT
from sam2s_ros.processes.replay_client import ReplayClient
from sam2s_ros.replay.node import FRAMES_QOS

ANSWER_TIMEOUT = 2.0  # s, after which a request is repeated
TOO_LATE = (ErrorCode.UNKNOWN_STAMP, ErrorCode.TOO_OLD)


class LiveClient(ReplayClient):
    """As `ReplayClient`. log: of the recording that is played; index_of: stamp of an image -> number of its frame"""

    node_name = "evaluation"

    def __init__(self, graph: Graph):
        super().__init__(graph)
        self.begin()

    def _connect(self, node: Node) -> None:
        super()._connect(node)
        on_masks: Callable[..., None] = self._on_masks  # rclpy's annotation does not know raw messages
        node.create_subscription(TrackedMasks, "tracker/masks", on_masks, MASKS_QOS, raw=True)
        node.create_subscription(Header, "replay/frame", self._on_frame, FRAMES_QOS)
        self._reset = node.create_client(Trigger, "tracker/reset")

    def begin(self) -> None:
        """Another recording will be played: forget the one before."""
        self.log = LiveLog()
        self.index_of: dict[int, int] = {}
        self.replay = {}

    def reset(self) -> None:
        """Have the tracker drop all objects."""
        answer = self._asked_again(self._reset, Trigger.Request())
        if not answer.success:
            raise RuntimeError(f"the tracker was not reset: {answer.message}")

    def wait_for_replay(self) -> None:
        """Wait until the replay is paused before its first frame, and sees the tracker."""
        self._wait_until_paused(GRAPH_TIMEOUT, "the tracker")
        self._wait_until_ready(GRAPH_TIMEOUT, self._prompts, self._state)
        self._wait_until_known(GRAPH_TIMEOUT, "tracker")

    def resume(self) -> None:
        self._asked_again(self._pause, SetBool.Request(data=False))

    def _asked_again(self, client: Any, request: Any) -> Any:
        """Ask until there is an answer. Only for requests that may be repeated.

        A process that has just been started may not see this one yet, or still be mistaken for the one before it.
        """
        deadline = time.monotonic() + GRAPH_TIMEOUT
        self._wait_until_ready(GRAPH_TIMEOUT, client)
        while True:
            try:
                return self._call(client, request, ANSWER_TIMEOUT)
            except TimeoutError:  # noqa: PERF203  # each attempt may time out
                if time.monotonic() > deadline:
                    raise

    def wait_a_moment(self) -> None:
        """Wait until the next look. Raises ChildDied when a process has ended."""
        self._check()
        time.sleep(POLL)

    def _on_frame(self, header: Header) -> None:
        stamp, index = to_ns(header.stamp), int(header.frame_id)
        self.index_of[stamp], self.log.shown[index] = index, stamp

    def _on_masks(self, data: bytes) -> None:
        arrived = time.time_ns()
        message = deserialize_message(data, TrackedMasks)
        times = to_ns(message.header.stamp), to_ns(message.received), to_ns(message.finished)
        self.log.deliveries.append(Delivery(*times, arrived, partial(_unpack, zlib.compress(data, 1))))
        self.masks += 1


def _unpack(data: bytes) -> Tracks:
    return tracks_from_message(deserialize_message(zlib.decompress(data), TrackedMasks))


class LivePrompts:
    """Prompts each object on the first annotated frame that shows it and of which masks have arrived, under its stamp.

    The tracker has gone on by then: it carries the prompt forward. When it remembers the frame no longer, the object
    waits for the next such frame. refused: how often that was so
    """

    def __init__(
        self, client: LiveClient, frames: dict[int, PackedTruth], protocol: EvaluationProtocol, timeout: float
    ):
        self._client, self._frames, self._protocol, self._timeout = client, frames, protocol, timeout
        self._looked = self.refused = 0
        self.ids: dict[int, int] = {}

    def look(self) -> None:
        """Give the prompts that are due. Raises RequestError when one is refused, unless for its lateness."""
        log = self._client.log
        while self._looked < len(log.deliveries):
            stamp = log.deliveries[self._looked].stamp
            index = self._client.index_of.get(stamp)
            if index is None:
                return  # its number is still on the way
            self._looked += 1
            packed = self._frames.get(index)
            if packed and not packed.visible <= self.ids.keys():
                self._prompt(index, stamp, packed)

    def _prompt(self, index: int, stamp: int, packed: PackedTruth) -> None:
        truth = packed.unpack()
        new = appeared(truth, self.ids, self._protocol.start)
        if not new:
            return
        asked = time.time_ns()
        try:
            prompt_objects(partial(self._ask, index, stamp), truth, new, self.ids, self._protocol)
        except RequestError as error:
            if error.code not in TOO_LATE:
                raise
            self.refused += 1
        answered = time.time_ns()
        started = [label for label in new if label in self.ids]
        self._client.log.prompts += [GivenPrompt(label, self.ids[label], index, asked, answered) for label in started]

    def _ask(self, index: int, stamp: int, prompts: list[Prompt]) -> PromptResult:
        answer = self._client.add_prompts(prompts, self._timeout, stamp=stamp)
        tracks = self._client.log.answers[index] = tracks_from_message(answer.masks)
        return PromptResult(stamp, tuple(int(i) for i in answer.object_ids), tracks)
