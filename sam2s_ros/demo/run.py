"""`sam2s demo`: the main job as real processes over DDS: replay -> tracker -> recorder, prompted on the first frame."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2s_model.errors import SourceError
from sam2s_model.paths import write_whole
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import Recording
from sam2s_model.recordings.stream_spec import stream_spec
from sam2s_ros.commands.label_sets import check_classes, label_set_file, open_label_set
from sam2s_ros.commands.options import DemoOptions
from sam2s_ros.commands.prompting import first_frame, nothing_to_track, plan_prompts
from sam2s_ros.demo.report import summarise
from sam2s_ros.processes.dds import domain_exports
from sam2s_ros.processes.graph import ChildDied, Graph
from sam2s_ros.processes.local_graph import PATIENT, SETTLE, STEP_TIMEOUT, local_graph
from sam2s_ros.processes.results import RECORDED, claim, unclaimed_if_alone

if TYPE_CHECKING:  # loads rclpy, which is done when its environment is there
    from sam2s_ros.demo.client import DemoClient

RECORDER_MEMORY = 512 << 20  # bytes
HEADROOM = 0.8  # share of the tracker's measured speed that an automatic rate uses
RATE_PROBES = 2  # frames stepped after the prompt to measure it
OWN_FILES = (*RECORDED, "summary.json")


def run_demo(options: DemoOptions) -> dict[str, Any]:
    """Run the graph to the end of the source and return the summary, which is also written to summary.json.

    Raises a Sam2sError for bad input, before anything is started where that can be; ChildDied when a process of the
    graph ends by itself; TimeoutError when one of them does not answer.
    """
    if stream := stream_spec(options.source):
        raise SourceError(
            f"{stream.shown} is a stream, which cannot be opened twice: `sam2s track` and the replay take it"
        )
    source = open_recording(options.source, topic=options.topic, mask_topic=options.mask_topic)
    frame = first_frame(source)
    plan = plan_prompts(source, frame, options.prompts)
    if plan is None:
        raise nothing_to_track(source, frame)
    label_set = label_set_file(options.label_set, source.label_set)
    check_classes(plan.script, open_label_set(label_set))
    prompts, labels = plan.on(frame)
    if later := [entry.place for entry in plan.script.entries if not entry.is_of(frame)]:
        options.say(f"the demo prompts the first frame alone; left out: {', '.join(later)}")
    options = replace(options, engine=options.engine.with_checkpoint(source.kind, options.say))
    # of logs, only the newest stay
    claim(
        options.output,
        OWN_FILES,
        overwrite=options.overwrite,
        inputs=(options.prompts.prompts or "",),
        files=source.files(),
        mark=("summary.json", dict(command="demo", interrupted=True)),  # the recorder's files come seconds later
    )
    with unclaimed_if_alone(options.output, OWN_FILES), local_graph(options.output / "logs") as graph:
        from sam2s_ros.demo.client import DemoClient

        options.say(f"to join this graph from another shell: export {domain_exports(os.environ)}")
        _start(graph, options, source, label_set)
        with DemoClient(graph) as client:
            result = _conduct(client, options, source, prompts)
            codes = _stop(graph, client)
    summary = summarise(
        options=options, source=source, labels=labels, codes=codes, **result,
        recorded=_recorded(options.output, graph.folder / "recorder.log", codes["recorder"]),
    )  # fmt: skip
    write_whole(options.output / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _start(graph: Graph, options: DemoOptions, source: Recording, label_set: str) -> None:
    more = dict(PATIENT, label_set=label_set, input_timeout=STEP_TIMEOUT)
    graph.start("tracker", "sam2s_ros.tracker.node", dict(options.engine.parameters(), **more))
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


def _conduct(client: DemoClient, options: DemoOptions, source: Recording, prompts: list[Prompt]) -> dict[str, Any]:
    """Prompt the first frame, play the rest, wait until all is through. Returns what the summary needs."""
    options.say(f"source: {source.describe()}")
    options.say("starting replay, tracker and recorder")
    client.activated(options.say)
    client.wait_for_graph()
    time.sleep(SETTLE)

    client.step_frame()
    answer = client.add_prompts(prompts, STEP_TIMEOUT)
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
    client.wait_until_quiet()
    state = client.get_state()
    client.wait_until_recorded(int(state.status.published))
    played = client.sent - sent_before
    return dict(
        object_ids=ids,
        status=state.status,
        sent=client.sent,
        rate=shown,
        played_hz=played / seconds if seconds > 0 else 0.0,
    )


def _measured_rate(client: DemoClient, source: Recording, options: DemoOptions) -> float:
    """Step a few frames with the objects in place; the rate that the tracker follows, at most the source's own."""
    step_s = 0.0
    for _ in range(RATE_PROBES):
        if client.ended:
            break
        step_s = client.step_frame()
    return min(source.fps, HEADROOM / step_s) if step_s > 0 else source.fps


def _stop(graph: Graph, client: DemoClient) -> dict[str, int]:
    """Stop the camera first and the recorder last. Returns exit codes."""
    graph.check()
    client.stop_watching()
    codes = graph.stop("replay", timeout=5.0)
    codes |= graph.stop("tracker", timeout=5.0)
    return codes | graph.stop("recorder", timeout=40.0)


def _recorded(output: Path, log: Path, code: int) -> dict[str, Any]:
    """Read the recorder's report. Raises ChildDied when it ended, with exit code `code`, without a whole one."""
    try:
        return json.loads((output / "recorder.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise ChildDied("recorder", code, log) from error
