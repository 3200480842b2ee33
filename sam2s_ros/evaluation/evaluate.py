"""One recording, evaluated: what runs in this process, in another one, or on another machine, always alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from sam2s_model.device import use_deterministic_algorithms
from sam2s_model.errors import SourceError
from sam2s_model.evaluation.follow import follow
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.evaluation.scores import Scorer
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompting.prompt_script import AppliedScript, PromptScript
from sam2s_model.recordings.open import open_recordings
from sam2s_model.recordings.recording import Recording
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import MAX_LABEL
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.evaluation.overlap import summary_ms
from sam2s_ros.evaluation.step_output import ShownFrames, StepOutput
from sam2s_ros.evaluation.task import Task

WARM_UP = 2  # steps that are not timed: the first has no object, the second is slower


def evaluate_recording(
    task: Task, on_frame: Callable[[int, int | None], Any] = lambda done, total: None
) -> dict[str, Any]:
    """Evaluate a recording.

    Returns figures, rows, worst and best frames as pictures, and timing; all of it goes into a JSON file.


    on_frame: called after each frame with the frames done and their number, None if it is not known
    Raises Sam2sError for what cannot be read or run.
    """
    recording = recording_of(task)
    torch.set_num_threads(task.threads)
    use_deterministic_algorithms(True)
    model = _model(task.engine)
    on_cuda = model.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(model.device)
    tracker = Tracker(model, task.engine.policy, task.engine.tracker_config(max_objects=MAX_LABEL))
    applied = _script_of(task, recording, tracker)
    scorer, pictures, steps_ms = Scorer(task.protocol, recording.classes), ShownFrames(), []
    total = frames_expected(recording, task.protocol)
    size = (0, 0)
    with StepOutput(task, recording.fps, tracker.name, recording.object_folders) as output:
        for step in follow(tracker, recording, task.protocol, applied):
            pictures.add(step, scorer.add(step))
            output.write(step)
            steps_ms.append(step.seconds * 1e3)
            size = step.tracks.size
            on_frame(len(steps_ms), total)
    if not steps_ms:
        raise SourceError(f"{task.source.shown} has no readable frame in recording {task.name}")
    scorer.finish()
    timed = steps_ms[WARM_UP:]
    return dict(
        data_set=task.data_set,
        name=task.name,
        frames_read=len(steps_ms),
        size=list(size),
        odd=dict(count=recording.odd_count, named=recording.odd),
        images_left_out=recording.images_left_out,
        notes=[*recording.pass_notes, *_missed(applied)],
        model=tracker.name,
        image_size=model.image_size,
        device=tracker.device_description(),
        **scorer.result(),
        **pictures.kept(scorer.rows),
        timing=dict(
            fps=1e3 / float(np.mean(timed)) if timed else None,
            step_ms=summary_ms(timed),
            steps_ms=[round(ms, 3) for ms in steps_ms],
            memory_bytes=tracker.memory_bytes(),
            device_peak_bytes=torch.cuda.max_memory_allocated(model.device) if on_cuda else None,
        ),
    )


def _script_of(task: Task, recording: Recording, tracker: Tracker) -> AppliedScript | None:
    """Return the prompts of a file, None where the protocol says them. Raises ConfigError and RequestError."""
    if not task.prompts:
        return None
    script = PromptScript.read(task.prompts)
    script.check(recording.size)
    return AppliedScript(script, lambda prompts: tracker.prompt(0, prompts))


def _missed(applied: AppliedScript | None) -> list[str]:
    places = [entry.place for entry in applied.missed] if applied else []
    return [f"prompts on frames that never came: {', '.join(places)}"] if places else []


@lru_cache(maxsize=1)
def _model(engine: EngineOptions) -> Sam2Model:
    return engine.load()


def recording_of(task: Task) -> Recording:
    """Open the recording of a task. Raises SourceError when it is not there any more."""
    recording = next((r for r in open_recordings(task.source) if r.name == task.name), None)
    if recording is None:
        raise SourceError(f"{task.source.shown} has no recording {task.name!r} any more")
    return recording


def frames_expected(recording: Recording, protocol: EvaluationProtocol) -> int | None:
    """How many frames will be evaluated, None where that is not known."""
    return recording.length if not protocol.frames else min(recording.length or protocol.frames, protocol.frames)
