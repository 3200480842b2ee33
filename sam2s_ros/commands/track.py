"""`sam2s track`: the tracker on a file, without ROS: masks as PNG, the overlay as a video, a summary."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2

from sam2s_model.errors import ConfigError
from sam2s_model.paths import write_whole, writing
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.lookahead import with_next
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import Frame, Recording
from sam2s_model.semantics import GENERIC, LabelSet
from sam2s_model.tracks import Tracks
from sam2s_ros.commands.options import TrackOptions
from sam2s_ros.commands.prompting import first_frame, first_prompts
from sam2s_ros.evaluation.overlap import OverlapMeter, summary_ms
from sam2s_ros.overlay import draw_overlay
from sam2s_ros.overlay_video import OverlayVideo
from sam2s_ros.processes.dds import label_set_path
from sam2s_ros.processes.ending import drop_lost_terminal, ending_signals
from sam2s_ros.processes.results import claim

OWN_FILES = ("masks/*.png", "overlay.mp4", "summary.json")


def run_track(
    options: TrackOptions, on_frame: Callable[[int, int | None], Any] = lambda done, total: None
) -> dict[str, Any]:
    """Track the objects of the first frame to the end of the source. Returns the summary, also in summary.json.

    Writes masks/<name of the frame>.png (values are labels of the summary's objects, 0 none, 255 outside the field),
    overlay.mp4 and summary.json. SIGINT, SIGTERM and a hang-up end it after the frame that is being processed. After
    one, and after an error in the middle, which is raised, the files are complete up to there, and the summary says
    what ended it.

    on_frame: called after each frame with the frames done and their number, None if it is not known
    Raises a Sam2sError for bad input, before anything is written.
    """
    source = open_recording(
        options.source, topic=options.topic, mask_topic=options.mask_topic, mask_values=options.mask_values
    )
    for note in source.notes:
        options.say(f"{source.spec}: {note}")
    known = len(source.notes)
    if source.mask_summary:
        options.say(f"masks of {source.spec}: {source.mask_summary}")
    prompts, labels = first_prompts(source, first_frame(source), options.boxes, options.points)
    # torch takes seconds to import: what can be wrong with the source is said before
    from sam2s_model.device import use_deterministic_algorithms
    from sam2s_model.tracking.tracker import Tracker

    engine = options.engine.with_checkpoint(source.kind, options.say)
    if options.deterministic:
        use_deterministic_algorithms(True)
    model = engine.load()
    label_set = LabelSet.from_yaml(label_set_path(source.label_set)) if source.label_set else GENERIC
    tracker = Tracker(model, engine.policy, engine.tracker_config(), label_set=label_set)
    output = _Output(options.output, source.fps, source.size, label_set, overwrite=options.overwrite)
    progress = _Progress()
    began = time.monotonic()
    try:
        _follow(source, tracker, prompts, output, progress, options.frames, on_frame)
    except BaseException as error:  # also a second signal, which does not wait for the frame
        progress.interrupted_by = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise
    finally:
        summary = dict(
            command="track",
            interrupted=bool(progress.interrupted_by),
            interrupted_by=progress.interrupted_by,
            source=dict(
                spec=source.spec, kind=source.kind, size=list(source.size), fps=source.fps, length=source.length
            ),
            checkpoint=str(engine.checkpoint),
            model=tracker.name,
            device=tracker.device_description(),
            image_size=model.image_size,
            frames=output.frames,
            left_out=dict(count=source.odd_count, named=source.odd),
            seconds=round(time.monotonic() - began, 3),
            step_ms=summary_ms(progress.steps_ms[2:]),  # the first has no object, the second warms up
            objects=[
                dict(object_id=i, truth_label=label, **_iou(progress.meter, label, i))
                for label, i in zip(labels, progress.ids, strict=False)  # no ids yet when it ended before the prompt
            ],
        )
        output.close(summary)
    for note in source.notes[known:]:
        options.say(f"{source.spec}: {note}")
    return summary


@dataclass
class _Progress:
    """How far a run has come. ids: of the prompted objects; interrupted_by: "" while nothing has ended it early."""

    meter: OverlapMeter = field(default_factory=OverlapMeter)
    steps_ms: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    interrupted_by: str = ""


def _follow(
    source: Recording,
    tracker,
    prompts: list[Prompt],
    output: _Output,
    progress: _Progress,
    limit: int,
    on_frame: Callable[[int, int | None], Any],
) -> None:
    """Prompt the first frame and track to the end, to `limit` frames (0: none) or to a signal."""
    total = _smaller(source.length, limit)
    with _Interrupt() as interrupt:
        for frame, following in with_next(islice(source, limit or None)):
            before = time.monotonic()
            tracks = tracker.step(frame.stamp_ns, frame.image, following.image if following else None)
            progress.steps_ms.append((time.monotonic() - before) * 1e3)
            if not progress.ids:
                result = tracker.prompt(0, prompts)
                progress.ids, tracks = [int(i) for i in result.object_ids], result.tracks
            elif frame.truth is not None:  # the prompted frame is not scored
                progress.meter.add(
                    frame.truth.labels, tracks.label_map, tracks.object_ids.tolist(), tracks.labels.tolist()
                )
            output.write(frame, tracks)
            on_frame(output.frames, total)
            if interrupt.came:
                progress.interrupted_by = interrupt.came
                break


class _Interrupt:
    """Holds signals that end it back until the frame is done, so that no file is half written; a second comes through.

    came: the name of the first one, "" so far
    """

    def __enter__(self) -> _Interrupt:
        self.came = ""
        self._before = {number: signal.signal(number, self._on_signal) for number in ending_signals()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: object) -> None:
        if number == signal.SIGHUP:
            drop_lost_terminal()
        if self.came:
            raise KeyboardInterrupt
        self.came = signal.Signals(number).name


class _Output:
    """The folder of results.

    Raises ConfigError when it has some and may not overwrite them, or masks of another program.
    """

    def __init__(
        self, folder: Path, fps: float, size: tuple[int, int], label_set: LabelSet, *, overwrite: bool = False
    ):
        self._label_set = label_set
        self._summary = folder / "summary.json"
        self.masks = folder / "masks"
        self.frames = 0
        with writing(folder):
            old = list(self.masks.glob("*.png")) if self.masks.is_dir() else []
            if old and not _is_ours(folder):
                raise ConfigError(f"{self.masks} has PNG files that are not of `sam2s track`: give another --output")
            claim(folder, OWN_FILES, overwrite=overwrite)
            self.masks.mkdir(parents=True, exist_ok=True)
            # first of all, so that a run that is killed is recognised by the next one
            write_whole(self._summary, json.dumps(dict(command="track", interrupted=True)) + "\n")
            self._video = OverlayVideo(folder / "overlay.mp4", fps, *size)

    def write(self, frame: Frame, tracks: Tracks) -> None:
        path = self.masks / f"{frame.name}.png"
        if not cv2.imwrite(str(path), tracks.label_map):
            raise OSError(f"{path} could not be written")
        self._video.write(draw_overlay(frame.image, tracks, self._label_set))
        self.frames += 1

    def close(self, summary: dict[str, Any]) -> None:
        """End the video and write the summary, the latter also when the video cannot be ended."""
        try:
            self._video.close()
        finally:
            write_whole(self._summary, json.dumps(summary, indent=2) + "\n")


def _is_ours(folder: Path) -> bool:
    try:
        return json.loads((folder / "summary.json").read_text()).get("command") == "track"
    except (OSError, ValueError, AttributeError):
        return False


def _smaller(length: int | None, limit: int) -> int | None:
    if not limit:
        return length
    return limit if length is None else min(length, limit)


def _iou(meter: OverlapMeter, label: int, object_id: int) -> dict[str, Any]:
    mean, frames = meter.mean(label, object_id)
    return dict(mean_iou=round(mean, 6), scored_frames=frames) if frames else dict(mean_iou=None, scored_frames=0)
