"""`sam2s eval live`: recordings through the real tracker node, played over DDS at a multiple of their own rate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sam2s_model.errors import Sam2sError, SourceError
from sam2s_model.evaluation.live import prompt_frames
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.recording import Recording
from sam2s_model.tracks import MAX_LABEL
from sam2s_ros.demo.run import DRAIN_TIMEOUT, GRAPH_TIMEOUT, LOAD_TIMEOUT, QUIET, SETTLE, STEP_TIMEOUT
from sam2s_ros.evaluation.evaluate import frames_expected, recording_of
from sam2s_ros.evaluation.live_result import live_result
from sam2s_ros.evaluation.runners import Outcome
from sam2s_ros.evaluation.task import Engine, Task
from sam2s_ros.processes.dds import free_domain, local_environment
from sam2s_ros.processes.graph import ChildDied, Graph, tail

if TYPE_CHECKING:  # loads rclpy, which is done when its environment is there
    from sam2s_ros.evaluation.live_client import LiveClient, LivePrompts
    from sam2s_ros.msg import TrackerStatus

LOGS = "logs"
REPLAY_TIMEOUT = 5.0  # s for the replay to end


class LiveNode:
    """A runner: one recording after the other through one tracker node, which is reset between them.

    output: folder for the logs of the processes; on_frame: called with a recording's key, the frames played and their number
    """

    def __init__(self, output: Path, say: Callable[[str], Any], on_frame: Callable[[str, int, int | None], Any]):
        self._logs, self._say, self._on_frame = output / LOGS, say, on_frame

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Raises ChildDied when the tracker ends by itself, TimeoutError when a process does not answer, and CheckpointError
        when the tracker cannot be configured. A recording that Ctrl-C ends has a result of the frames so far.
        """
        environment = local_environment(free_domain())
        os.environ.update(environment)  # before rclpy is loaded: this process is part of the graph
        from sam2s_ros.evaluation.live_client import LiveClient

        with Graph(self._logs, environment) as graph:
            graph.start("tracker", "sam2s_ros.tracker.node", _tracker_parameters(tasks[0].engine))
            with LiveClient(graph.check) as client:
                status = self._activated(client)
                self._say(f"tracker is active: {status.model} on {status.device}")
                for task in tasks:
                    try:
                        outcome: Outcome = self._evaluate(task, graph, client)
                    except ChildDied as error:
                        if error.name == "tracker":
                            raise
                        outcome = SourceError(error.last_line)
                    except Sam2sError as error:
                        outcome = error
                    yield task, outcome

    def _activated(self, client: LiveClient) -> TrackerStatus:
        try:
            return client.wait_until_active(LOAD_TIMEOUT)
        except TimeoutError as error:
            log = self._logs / "tracker.log"
            raise TimeoutError(f"{error}; the last lines of {log}:\n{tail(log)}") from error

    def _evaluate(self, task: Task, graph: Graph, client: LiveClient) -> dict[str, Any]:
        from sam2s_ros.evaluation.live_client import LivePrompts

        recording = recording_of(task)
        prompts = LivePrompts(client, prompt_frames(recording, task.protocol), task.protocol, STEP_TIMEOUT)
        interrupted = False
        with TemporaryDirectory() as folder:
            client.begin()
            client.reset()
            graph.start("replay", "sam2s_ros.replay.node", _replay_parameters(task, recording, Path(folder)))
            try:
                client.wait_for_replay(GRAPH_TIMEOUT)
                time.sleep(SETTLE)
                before = client.get_state().status
                client.resume()
                self._follow(task, recording, client, prompts)
            except KeyboardInterrupt:
                if not client.log.shown:
                    raise
                interrupted = True
            finally:
                code = graph.stop("replay", timeout=REPLAY_TIMEOUT)["replay"]
        if code:
            raise SourceError(
                f"the replay of {task.key} ended with exit code {code}: {tail(self._logs / 'replay.log', 1)}"
            )
        after = client.get_state().status
        return live_result(task, recording, client.log, before, after, refused=prompts.refused, interrupted=interrupted)

    def _follow(self, task: Task, recording: Recording, client: LiveClient, prompts: LivePrompts) -> None:
        """Until the recording was played, and all masks of it are here."""
        total, waiting = frames_expected(recording, task.protocol), True
        while not client.ended:
            prompts.look()
            if waiting and client.log.deliveries:
                waiting = False
                self._say(f"playing {task.key} at {task.rate:g}x, the first masks came")
            client.wait_a_moment()
            self._on_frame(task.key, len(client.log.shown), total)
        client.wait_until_quiet(QUIET, DRAIN_TIMEOUT)
        prompts.look()


def _tracker_parameters(engine: Engine) -> dict[str, Any]:
    return dict(
        checkpoint=engine.checkpoint, model=engine.model, policy=engine.policy, image_size=engine.image_size,
        device=engine.device, precision=engine.precision, threads=engine.threads, adapter=engine.adapter,
        allow_cpu=True, max_objects=MAX_LABEL,
        step_timeout=STEP_TIMEOUT, service_timeout=STEP_TIMEOUT, hang_exit=STEP_TIMEOUT,
        max_output_age=0.0,  # the report says how late masks came
    )  # fmt: skip


def _replay_parameters(task: Task, recording: Recording, folder: Path) -> dict[str, Any]:
    """folder: gets one with links to the images of a recording that is files, under the numbers of its frames"""
    source = task.source
    if isinstance(recording, FileRecording):
        links = folder / task.name  # so that a refusal of the replay names the recording
        links.mkdir()
        for index, image in enumerate(recording.images):
            (links / f"{index:06d}{image.suffix}").symlink_to(image.resolve())
        camera = dict(source=str(links))
    else:
        camera = dict(source=source.spec, topic=source.topic, mask_topic=source.mask_topic)
    rate = task.rate * recording.fps
    return dict(camera, rate=rate, start_paused=True, wait_for_subscribers=1, max_frames=task.protocol.frames)
