"""The evaluation's own node: follows what is played, collects masks as they come, gives prompts."""

from __future__ import annotations

import time
import zlib
from functools import partial

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
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
from sam2s_ros.demo.run import GRAPH_TIMEOUT
from sam2s_ros.interfaces.messages import to_ns, tracks_from_message
from sam2s_ros.msg import TrackedMasks
from sam2s_ros.processes.graph_client import POLL, DemoClient
from sam2s_ros.replay.node import FRAMES_QOS

# Deeper than the tracker's own: what this process does besides must not cost masks.
MASKS_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1000, reliability=ReliabilityPolicy.RELIABLE)
ANSWER_TIMEOUT = 2.0  # s, after which a request is repeated
TOO_LATE = (ErrorCode.UNKNOWN_STAMP, ErrorCode.TOO_OLD)


class LiveClient(DemoClient):
    """As `DemoClient`. log: of the recording that is played; index_of: stamp of an image -> number of its frame"""

    def __enter__(self) -> LiveClient:
        self.begin()
        super().__enter__()
        self._reset = self._node.create_client(Trigger, "tracker/reset")
        return self

    def _subscribe(self, node: Node) -> None:
        node.create_subscription(TrackedMasks, "tracker/masks", self._on_masks, MASKS_QOS, raw=True)
        node.create_subscription(Header, "replay/frame", self._on_frame, FRAMES_QOS)

    def begin(self) -> None:
        """Another recording will be played: forget the one before."""
        self.log, self.index_of, self.replay = LiveLog(), {}, {}

    def reset(self) -> None:
        """Have the tracker drop all objects."""
        answer = self._asked_again(self._reset, Trigger.Request())
        if not answer.success:
            raise RuntimeError(f"the tracker was not reset: {answer.message}")

    def wait_for_replay(self, timeout: float) -> None:
        """Until the replay is paused before its first frame, and sees the tracker."""
        self._wait(lambda: self.replay.get("state") == "paused", timeout, "the replay to see the tracker")
        for client in (self._prompts, self._state):
            self._wait(client.service_is_ready, timeout, f"service {client.srv_name}")
        self._wait_until_known(timeout, "tracker")

    def resume(self) -> None:
        self._asked_again(self._pause, SetBool.Request(data=False))

    def _asked_again(self, client, request):
        """Ask until there is an answer. Only for requests that may be repeated.

        A process that has just been started may not see this one yet, or still be mistaken for the one before it.
        """
        deadline = time.monotonic() + GRAPH_TIMEOUT
        self._wait(client.service_is_ready, GRAPH_TIMEOUT, f"service {client.srv_name}")
        while True:
            try:
                return self._call(client, request, ANSWER_TIMEOUT)
            except TimeoutError:  # noqa: PERF203  # each attempt may time out
                if time.monotonic() > deadline:
                    raise

    def wait_a_moment(self) -> None:
        """Wait until the next look. Raises ChildDied when a process has ended."""
        self._check_all()
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
        if not answer.success:
            raise RequestError(ErrorCode(answer.error), f"the tracker refused the prompts: {answer.message}")
        tracks = self._client.log.answers[index] = tracks_from_message(answer.masks)
        return PromptResult(stamp, tuple(int(i) for i in answer.object_ids), tracks)
