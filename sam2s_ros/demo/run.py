"""`sam2s demo`: the main job as real processes over DDS: replay -> tracker -> recorder, prompted on the first frame."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sam2s_model.errors import ErrorCode as Code, RequestError
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import Recording
from sam2s_ros.commands.checkpoints import checkpoint_or_default
from sam2s_ros.commands.options import DemoOptions
from sam2s_ros.commands.prompting import first_frame, first_prompts
from sam2s_ros.demo.report import summarise
from sam2s_ros.processes.dds import domain_exports, free_domain, label_set_path, local_environment
from sam2s_ros.processes.graph import ChildDied, Graph
from sam2s_ros.processes.results import RECORDED, claim

LOAD_TIMEOUT = 180.0  # s for the tracker to load a checkpoint and warm up
GRAPH_TIMEOUT = 30.0  # s for the processes to find one another
STEP_TIMEOUT = 60.0  # s that one frame may take; a demo on a slow CPU is not an error
DRAIN_TIMEOUT = 90.0  # s after the last frame
RECORD_PATIENCE = 5.0  # s without a new mask at the recorder after which it is not waited for
QUIET = 1.0  # s in which nothing changes any more: what is on its way has arrived
SETTLE = 0.5  # s after the ends of a topic have found one another, until both know it
RECORDER_MEMORY = 512 << 20  # bytes
HEADROOM = 0.8  # share of the tracker's measured speed that an automatic rate uses
RATE_PROBES = 2  # frames stepped after the prompt to measure it
OWN_FILES = (*RECORDED, "summary.json")


def run_demo(options: DemoOptions) -> dict[str, Any]:
    """Run the graph to the end of the source and return the summary, which is also written to summary.json.

    Raises a Sam2sError for bad input, before anything is started where that can be; ChildDied when a process of the
    graph ends by itself; TimeoutError when one of them does not answer.
    """
    source = open_recording(options.source, topic=options.topic, mask_topic=options.mask_topic)
    frame = first_frame(source)
    prompts, labels = first_prompts(source, frame, options.boxes, options.points)
    checkpoint = checkpoint_or_default(options.checkpoint, source.kind, options.device, options.say)
    options = replace(options, checkpoint=checkpoint)
    claim(options.output, OWN_FILES, overwrite=options.overwrite)  # of logs, only the newest stay
    environment = local_environment(free_domain())
    os.environ.update(environment)  # before rclpy is loaded: this process is part of the graph
    from sam2s_ros.processes.graph_client import DemoClient

    with Graph(options.output / "logs", environment) as graph:
        options.say(f"to join this graph from another shell: export {domain_exports(environment)}")
        _start(graph, options, source)
        with DemoClient(graph.check) as client:
            result = _conduct(client, options, source, prompts)
            codes = _stop(graph, client)
    summary = summarise(
        options=options, source=source, labels=labels, codes=codes, **result,
        recorded=_recorded(options.output, graph.folder / "recorder.log", codes["recorder"]),
    )  # fmt: skip
    (options.output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _start(graph: Graph, options: DemoOptions, source: Recording) -> None:
    graph.start(
        "tracker",
        "sam2s_ros.tracker.node",
        dict(
            checkpoint=str(options.checkpoint), model=options.model, policy=options.policy,
            image_size=options.image_size, device=options.device, precision=options.precision, adapter=options.adapter,
            allow_cpu=True,
            label_set=label_set_path(source.label_set),
            step_timeout=STEP_TIMEOUT, service_timeout=STEP_TIMEOUT, input_timeout=STEP_TIMEOUT, hang_exit=STEP_TIMEOUT,
            max_output_age=0.0,
        ),
    )  # fmt: skip
    graph.start(
        "replay",
        "sam2s_ros.replay.node",
        dict(
            source=options.source, topic=options.topic, mask_topic=options.mask_topic, start_paused=True,
            max_frames=options.frames, wait_for_subscribers=2, loop=options.keep_going,
        ),
    )  # fmt: skip
    graph.start(
        "recorder",
        "sam2s_ros.recorder.node",
        dict(
            output=str(options.output), reliable=True, fps=source.fps, truth="mask" if source.has_masks else "",
            pending=_images_kept(source),
        ),
    )  # fmt: skip


def _images_kept(source: Recording) -> int:
    """Images that the recorder keeps for their masks: as many as a slow tracker is behind, in half a GiB."""
    height, width = source.size
    return max(32, min(600, RECORDER_MEMORY // (height * width * 3)))


def _conduct(client, options: DemoOptions, source: Recording, prompts: list[Prompt]) -> dict[str, Any]:
    """Prompt the first frame, play the rest, wait until all is through. Returns what the summary needs."""
    options.say(f"source: {source.describe()}")
    options.say("starting replay, tracker and recorder")
    status = client.wait_until_active(LOAD_TIMEOUT)
    options.say(f"tracker is active: {status.model} on {status.device}")
    client.wait_for_graph(GRAPH_TIMEOUT)
    time.sleep(SETTLE)

    client.step_frame(STEP_TIMEOUT)
    answer = client.add_prompts(prompts, STEP_TIMEOUT)
    if not answer.success:
        raise RequestError(Code(answer.error), f"the tracker refused the prompts: {answer.message}")
    ids = [int(i) for i in answer.object_ids]
    options.say(f"prompted the first frame, which gave object ids {', '.join(map(str, ids))}")

    rate = options.rate
    if rate is None:
        rate = _measured_rate(client, source, options)
    client.set_rate(rate)
    shown = rate or source.fps
    options.say(
        f"playing at {shown:.3g} Hz"
        + ("" if options.rate is not None else " (what the tracker follows; --rate sets it)")
    )
    began = time.monotonic()
    sent_before = client.sent
    client.resume()
    try:
        client.wait_until_played(on_progress=options.say)
    except KeyboardInterrupt:
        if not options.keep_going:
            raise
        client.pause()
    seconds = time.monotonic() - began
    client.wait_until_quiet(QUIET, DRAIN_TIMEOUT)
    state = client.get_state()
    client.wait_until_recorded(int(state.status.published), RECORD_PATIENCE)
    played = client.sent - sent_before
    return dict(
        object_ids=ids,
        status=state.status,
        sent=client.sent,
        rate=shown,
        played_hz=played / seconds if seconds > 0 else 0.0,
    )


def _measured_rate(client, source: Recording, options: DemoOptions) -> float:
    """Step a few frames with the objects in place; the rate that the tracker follows, at most the source's own."""
    step_s = 0.0
    for _ in range(RATE_PROBES):
        if client.ended:
            break
        step_s = client.step_frame(STEP_TIMEOUT)
    return min(source.fps, HEADROOM / step_s) if step_s > 0 else source.fps


def _stop(graph: Graph, client) -> dict[str, int]:
    """The camera first, the recorder last. Returns exit codes."""
    graph.check()
    client.stop_watching()
    codes = graph.stop("replay", timeout=5.0)
    codes |= graph.stop("tracker", timeout=5.0)
    return codes | graph.stop("recorder", timeout=40.0)


def _recorded(output: Path, log: Path, code: int) -> dict[str, Any]:
    """The recorder's report. Raises ChildDied when it ended, with exit code `code`, without a whole one."""
    try:
        return json.loads((output / "recorder.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise ChildDied("recorder", code, log) from error
