"""One recording, evaluated: what runs in this process, in another one, or on another machine, always alike."""

from __future__ import annotations

import base64
import heapq
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.device import use_deterministic_algorithms
from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.evaluation.follow import Step, follow
from sam2s_model.evaluation.scores import Row, Scorer
from sam2s_model.model import Sam2Model
from sam2s_model.semantics import GENERIC
from sam2s_model.tracker import Tracker
from sam2s_model.tracks import MAX_LABEL
from sam2s_ros.evaluation.sources import open_recordings
from sam2s_ros.evaluation.task import Engine, Task
from sam2s_ros.overlap import summary_ms
from sam2s_ros.overlay import draw_overlay
from sam2s_ros.overlay_video import OverlayVideo

WORST = 3  # frames of a recording that are kept as pictures
PICTURE_WIDTH = 480  # px
TRUTH_COLOUR = (255, 255, 255)
WARM_UP = 2  # steps that are not timed: the first has no object, the second is slower


def evaluate(task: Task, on_frame: Callable[[int, int | None], Any] = lambda done, total: None) -> dict[str, Any]:
    """The result of a recording: figures, rows, worst frames as pictures, timing; all of it goes into a JSON file.

    on_frame: called after each frame with the frames done and their number, None if it is not known
    Raises Sam2sError for what cannot be read or run.
    """
    recording = next((r for r in open_recordings(task.source) if r.name == task.name), None)
    if recording is None:
        raise SourceError(f"{task.source.spec} has no recording {task.name!r} any more")
    torch.set_num_threads(task.engine.threads)
    use_deterministic_algorithms(True)
    model = _model(task.engine)
    on_cuda = model.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    tracker = Tracker(model, task.engine.policy, TrackerConfig(max_objects=MAX_LABEL))
    scorer, pictures, steps_ms = Scorer(task.protocol, recording.classes), _Worst(), []
    total = recording.length if not task.protocol.frames else min(recording.length or task.protocol.frames, task.protocol.frames)
    size = (0, 0)
    with _Output(task, recording.fps) as output:
        for step in follow(tracker, recording, task.protocol):
            pictures.add(step, scorer.add(step))
            output.write(step)
            steps_ms.append(step.seconds * 1e3)
            size = step.tracks.size
            on_frame(len(steps_ms), total)
    if not steps_ms:
        raise SourceError(f"{task.source.spec} has no readable frame in recording {task.name}")
    scorer.finish()
    timed = steps_ms[WARM_UP:]
    return dict(
        data_set=task.data_set,
        name=task.name,
        frames_read=len(steps_ms),
        size=list(size),
        odd=dict(count=recording.odd_count, named=recording.odd),
        model=tracker.name,
        image_size=model.image_size,
        device=tracker.device_description(),
        **scorer.result(),
        worst=pictures.kept(scorer.rows),
        timing=dict(
            fps=1e3 / float(np.mean(timed)) if timed else None,
            step_ms=summary_ms(timed),
            steps_ms=[round(ms, 3) for ms in steps_ms],
            memory_bytes=tracker.memory_bytes(),
            device_peak_bytes=torch.cuda.max_memory_allocated(model.device) if on_cuda else None,
        ),
    )


@lru_cache(maxsize=1)
def _model(engine: Engine) -> Sam2Model:
    return load_model(engine.checkpoint, engine.model, engine.image_size, engine.device, engine.precision)


class _Output:
    """The overlay video and the masks of a recording, where they are wanted."""

    def __init__(self, task: Task, fps: float):
        self._overlay, self._masks, self._fps = task.overlay, task.masks, fps
        self._video: OverlayVideo | None = None

    def __enter__(self) -> _Output:
        try:
            if self._overlay:
                Path(self._overlay).parent.mkdir(parents=True, exist_ok=True)
            if self._masks:
                Path(self._masks).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{error.filename} cannot be written to ({error.strerror}): give another --output") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._video:
            self._video.close()

    def write(self, step: Step) -> None:
        if self._masks and not cv2.imwrite(f"{self._masks}/{step.frame.name}.png", step.tracks.label_map):
            raise OSError(f"{self._masks}/{step.frame.name}.png could not be written")
        if self._overlay:
            self._video = self._video or OverlayVideo(Path(self._overlay), self._fps, *step.tracks.size)
            self._video.write(draw_overlay(step.frame.image, step.tracks, GENERIC))


class _Worst:
    """The frames with the lowest J&F, as pictures. One more than asked for: the last frame may not be scored."""

    def __init__(self):
        self._heap: list[tuple[float, int, str, bytes]] = []  # the best of the worst comes first

    def add(self, step: Step, rows: list[Row]) -> None:
        values = [row.jf for row in rows if row.scored]
        if not values:
            return
        jf, frame = float(np.mean(values)), step.frame
        if len(self._heap) <= WORST or -jf > self._heap[0][0]:
            heapq.heappush(self._heap, (-jf, -frame.index, frame.name, _picture(step)))
            if len(self._heap) > WORST + 1:
                heapq.heappop(self._heap)

    def kept(self, rows: list[Row]) -> list[dict[str, Any]]:
        """Worst first: frame, name, J&F and the picture as base64 JPEG."""
        scored = {row.frame for row in rows if row.scored}
        chosen = [entry for entry in sorted(self._heap, reverse=True) if -entry[1] in scored][:WORST]
        return [
            dict(frame=-index, name=name, jf=-negative, jpeg=base64.b64encode(picture).decode())
            for negative, index, name, picture in chosen
        ]


def _picture(step: Step) -> bytes:
    """JPEG of a frame: what was tracked in colour, the ground truth as a white line."""
    drawn = draw_overlay(step.frame.image, step.tracks, GENERIC)
    scale = min(1.0, PICTURE_WIDTH / drawn.shape[1])
    thickness = max(1, round(1.5 / scale))
    for mask in step.frame.truth.masks.values():
        lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, lines, -1, TRUTH_COLOUR, thickness, cv2.LINE_AA)
    small = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not encoded:
        raise OSError(f"frame {step.frame.name} could not be encoded as JPEG")
    return data.tobytes()
