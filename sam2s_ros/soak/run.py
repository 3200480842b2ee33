"""`sam2s soak`: a camera, the tracker node and a subscriber in three processes, counted to the frame for hours."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam2s_model.errors import ConfigError
from sam2s_model.paths import claimed_file, write_result
from sam2s_model.recordings.scene import Scene, SceneConfig, SceneError, SceneFrame
from sam2s_ros.commands.checkpoints import checkpoint_or_default
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.processes.graph import Graph
from sam2s_ros.processes.local_graph import PATIENT, STEP_TIMEOUT, local_graph

if TYPE_CHECKING:  # loads rclpy, which is done when its environment is there
    from sam2s_ros.soak.client import SoakClient

PICTURES, PICTURES_BYTES = 50, 128 << 20  # that the camera shows, at most
LARGEST = 1920 * 1080  # px; ten such images are what the DDS profile's shared memory holds
PROGRESS_EVERY = 30.0  # s


@dataclass(frozen=True)
class SoakOptions:
    """What is measured, with what, for how long.

    model_time: s that a step sleeps, in place of the model; None: the model
    size: (width, height) of the camera, px
    rate: Hz; output: of the report, JSON; overwrite: whether one that is there is replaced
    say: told what happens, one line at a time
    """

    minutes: float
    size: tuple[int, int]
    rate: float
    engine: EngineOptions = EngineOptions()
    model_time: float | None = None
    output: Path | None = None
    overwrite: bool = False
    say: Callable[[str], Any] = print


def size_of(text: str) -> tuple[int, int]:
    """(width, height) of "640x480". Raises ConfigError, also for a side that the scene cannot have."""
    width, x, height = text.partition("x")
    if not (x and width.isdecimal() and height.isdecimal()) or int(width) * int(height) > LARGEST:
        raise ConfigError(f"size is {text!r}: expected WIDTHxHEIGHT in px, as 640x480, at most 1920x1080")
    try:
        scene = SceneConfig(width=int(width), height=int(height))
    except SceneError as error:
        raise ConfigError(f"size is {text!r}: expected WIDTHxHEIGHT in px, and {error}") from error
    return scene.width, scene.height


def run_soak(options: SoakOptions) -> dict[str, Any]:
    """Run the graph and return the report, which is also written to `options.output`.

    Raises a Sam2sError for bad input; ChildDied when a process of the graph ends by itself; TimeoutError when one of
    them does not answer.
    """
    options, model = _with_model(options)
    with claimed_file(options.output, overwrite=options.overwrite):
        with tempfile.TemporaryDirectory(prefix="sam2s_soak_") as folder, local_graph(Path(folder)) as graph:
            from sam2s_ros.soak.client import SoakClient
            from sam2s_ros.soak.report import soak_report

            start_tracker(graph, options)
            frames = draw_frames(options)
            start_camera_node(graph, Path(folder), options, frames)
            pids = dict(camera=graph.pid("camera"), tracker=graph.pid("tracker"), subscriber=os.getpid())
            with SoakClient(graph, pids) as client:
                client.activated(options.say)
                _conduct(client, options, frames)
                client.stop_watching()
                codes = graph.stop(timeout=5.0)
        found = soak_report(options, model, client.log, codes)
        if options.output is not None:
            write_result(options.output, json.dumps(found, indent=2) + "\n")
    return found


def _with_model(options: SoakOptions) -> tuple[SoakOptions, dict[str, Any]]:
    """Put the checkpoint in, and describe what the tracker runs, for the report."""
    if options.model_time is not None:
        what = f"no model: each step sleeps {options.model_time * 1e3:g} ms and gives a constant mask"
        return options, dict(what=what, checkpoint=None)
    from sam2s_model.checkpoint.describe import describe
    from sam2s_model.device import resolve_device, resolve_dtype

    path = checkpoint_or_default(options.engine.checkpoint, "scene", options.engine.device, options.say)
    engine = replace(options.engine, checkpoint=path)
    found = describe(path)
    dtype = resolve_dtype(engine.precision, resolve_device(engine.device))
    return replace(options, engine=engine), dict(
        what=found.model, checkpoint=str(path), sha256=found.sha256, image_size=engine.image_size or found.image_size,
        dtype=str(dtype).removeprefix("torch."),
    )  # fmt: skip


def start_tracker(graph: Graph, options: SoakOptions) -> None:
    """Start the tracker node, with the model or a step that sleeps."""
    parameters = dict(PATIENT, input_timeout=STEP_TIMEOUT)
    if options.model_time is None:
        graph.start("tracker", "sam2s_ros.tracker.node", dict(options.engine.parameters(), **parameters))
    else:
        graph.start("tracker", "sam2s_ros.soak.timed_tracker", dict(parameters, model_time=options.model_time))


def draw_frames(options: SoakOptions) -> list[SceneFrame]:
    """Draw the camera's pictures, each with an object."""
    width, height = options.size
    count = max(2, min(PICTURES, PICTURES_BYTES // (width * height * 3)))
    options.say(f"drawing {count} pictures of {width}x{height}")
    scene = Scene(SceneConfig(width=width, height=height, frames=count, fps=options.rate, seed=0))
    return [frame for frame in scene if any(state.box for state in frame.objects)]


def start_camera_node(graph: Graph, folder: Path, options: SoakOptions, frames: list[SceneFrame]) -> None:
    """Start the camera, with these pictures, which it shows when it is told to."""
    path = folder / "pictures.npy"
    np.save(path, np.stack([frame.image[..., ::-1] for frame in frames]))
    graph.start("camera", "sam2s_ros.soak.camera", dict(pictures=str(path), rate=options.rate))


def _conduct(client: SoakClient, options: SoakOptions, frames: list[SceneFrame]) -> None:
    """Start the camera, prompt one object on a picture that was tracked, measure, stop, wait for the rest."""
    client.start_camera()
    end = time.monotonic() + options.minutes * 60
    client.wait_for_masks()
    boxes = [next(state.box for state in frame.objects if state.box) for frame in frames]
    client.prompt(options.rate, boxes)
    options.say(f"one object is prompted, measuring for {options.minutes:g} min")
    while (left := end - time.monotonic()) > 0:
        client.wait(min(left, PROGRESS_EVERY))
        options.say(client.progress())
    client.stop_camera()
    client.wait_until_quiet()
    client.finish()
