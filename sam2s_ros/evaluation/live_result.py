"""The result of a recording that was played to the node: figures as offline, and what only a live stream has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sam2s_model.config import ModelConfig
from sam2s_model.evaluation.live import LiveLog, live_steps
from sam2s_model.evaluation.scores import Scorer, data_set_figures, overall_figures
from sam2s_model.recordings.recording import Recording
from sam2s_ros.evaluation.overlap import summary_ms
from sam2s_ros.evaluation.step_output import ShownFrames, StepOutput
from sam2s_ros.evaluation.task import Task

if TYPE_CHECKING:  # reports are made without ROS
    from sam2s_ros.msg import TrackerStatus

COUNTERS = (
    "received", "published", "dropped_overload", "dropped_stamp", "dropped_image", "dropped_disabled", "dropped_error",
)  # fmt: skip
LATENCIES = ("receive_to_finished_ms", "sent_to_arrival_ms", "prompt_ms")


def live_result(
    task: Task,
    recording: Recording,
    log: LiveLog,
    before: TrackerStatus,
    after: TrackerStatus,
    *,
    refused: int,
    interrupted: bool,
) -> dict[str, Any]:
    """As of `evaluate_recording`, with `live`: frames, drops, latencies, and the figures of streaming accuracy.

    before, after: the tracker's status before the first frame and after the last
    refused: prompts that came too late; interrupted: whether the recording was not played to its end
    """
    delivered, streaming = (Scorer(task.protocol, recording.classes) for _ in range(2))
    pictures, size = ShownFrames(), (0, 0)
    with StepOutput(task, recording.fps, after.model, recording.object_folders) as output:
        for frame, own, late in live_steps(recording, log, task.protocol):
            size = frame.image.shape[:2]
            if own is None:
                delivered.note_annotated(frame)
            else:
                pictures.add(own, delivered.add(own))
                output.write(own)
            if late is not None:
                streaming.add(late)
    delivered.ids = streaming.ids = {prompt.label: prompt.object_id for prompt in log.prompts}
    delivered.finish()
    streaming.finish()
    steps_ms = [round((d.finished - d.received) / 1e6, 3) for d in log.deliveries]
    of_streaming = streaming.result()
    return dict(
        data_set=task.data_set,
        name=task.name,
        frames_read=len(log.shown),
        size=list(size),
        odd=dict(count=recording.odd_count, named=recording.odd),
        model=after.model,
        image_size=task.engine.image_size or ModelConfig.from_name(after.model.split("/")[0]).image_size,
        device=after.device,
        **delivered.result(),
        **pictures.kept(delivered.rows),
        timing=dict(
            fps=_rate([delivery.finished for delivery in log.deliveries]),
            step_ms=summary_ms(steps_ms),
            steps_ms=steps_ms,
            memory_bytes=int(after.memory_bytes),
            device_peak_bytes=None,
        ),
        live=dict(
            sent=len(log.shown),
            delivered=len(log.deliveries),
            counts={name: int(getattr(after, name) - getattr(before, name)) for name in COUNTERS},
            prompts_too_late=refused,
            receive_to_finished_ms=steps_ms,
            sent_to_arrival_ms=[round((d.arrived - d.stamp) / 1e6, 3) for d in log.deliveries],
            prompt_ms=[round((p.answered - log.shown[p.frame]) / 1e6, 3) for p in log.prompts],
            streaming={name: of_streaming[name] for name in ("figures", "objects", "areas")},
        ),
        interrupted=interrupted,
    )


def _rate(times: Sequence[int]) -> float | None:
    """Per second, of times in ns; None of less than two."""
    return 1e9 * (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else None


def live_report(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what `make_report` says of live results, beside what it says of all."""
    names = list(dict.fromkeys(result["data_set"] for result in results))
    data_sets = {}
    for name in names:
        own = [result for result in results if result["data_set"] == name]
        data_sets[name] = data_set_figures([result["live"]["streaming"] for result in own], [r["name"] for r in own])
    return dict(
        **_summary([result["live"] for result in results]),
        streaming=overall_figures(list(data_sets.values())),
        data_sets=data_sets,
        recordings={
            f"{result['data_set']}/{result['name']}": dict(
                **_summary([result["live"]]), streaming=result["live"]["streaming"]["figures"],
                prompts_too_late=result["live"]["prompts_too_late"], counts=result["live"]["counts"],
            )
            for result in results
        },
    )  # fmt: skip


def _summary(lives: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum recordings up. dropped: share of the frames that were played of which no masks came"""
    sent, delivered = (sum(live[name] for live in lives) for name in ("sent", "delivered"))
    latencies = {name: summary_ms([ms for live in lives for ms in live[name]]) for name in LATENCIES}
    return dict(sent=sent, delivered=delivered, dropped=1 - delivered / sent if sent else None, **latencies)
