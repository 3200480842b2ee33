"""The recorder's writing half: one thread that draws, encodes and writes."""

from __future__ import annotations

import json
import queue
import shutil
import threading
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from sam2s_model.errors import ConfigError, ImageError
from sam2s_model.semantics import GENERIC, LabelSet
from sam2s_model.tracks import Tracks
from sam2s_ros.evaluation.overlap import OverlapMeter, summary_ms
from sam2s_ros.interfaces.image_codec import to_gray, to_rgb
from sam2s_ros.interfaces.messages import to_ns, tracks_from_message
from sam2s_ros.msg import TrackedMasks
from sam2s_ros.overlay import draw_overlay
from sam2s_ros.overlay_video import OverlayVideo
from sam2s_ros.recorder.masks_bag import MasksBag

FILES = ("overlay.mp4", "masks.mcap", "frames.jsonl", "recorder.json")
CLOSE_TIMEOUT = 30.0  # s


@dataclass(frozen=True)
class Job:
    """One frame to write. arrived: ns, recorder's clock, when the masks came."""

    masks: TrackedMasks
    arrived: int
    image: Image | None
    truth: Image | None


class RecordingWriter:
    """Writes the four FILES into a folder. `labels` may be set at any time.

    When it cannot keep up, overlays are left out first and counted; only when the queue is full is a frame lost, and
    counted too. While there is room to finish the files it ends: what a full disk cuts off cannot be read.
    reserve: bytes of the disk that stay free; failed: called once, from the writer's thread, with the error that ended it
    Raises ConfigError when the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        topic: str,
        fps: float,
        alpha: float,
        queue_size: int,
        reserve: int,
        failed: Callable[[Exception], None],
    ):
        self.labels: LabelSet = GENERIC
        self._folder, self._fps, self._alpha, self._failed = folder, fps, alpha, failed
        self._reserve = reserve
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in FILES:
                (folder / name).unlink(missing_ok=True)
            self._lines = (folder / "frames.jsonl").open("w")
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written to ({error.strerror}): give another folder") from error
        self._bag = MasksBag(folder / "masks.mcap", topic)
        self._video: OverlayVideo | None = None
        self._meter = OverlapMeter()
        self._step_ms, self._arrival_ms = array("d"), array("d")
        self._counts = dict(overlays_left_out=0, lost_in_queue=0, malformed=0, with_truth=0)
        self._jobs: queue.Queue[Job | None] = queue.Queue(maxsize=queue_size)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queue a frame. Never blocks."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._counts["lost_in_queue"] += 1

    def close(self, counts: dict[str, int]) -> None:
        """Write what is queued, close the files and write recorder.json with the node's counts."""
        self._jobs.put(None)
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            raise TimeoutError(f"{self._jobs.qsize()} frames were still not written after {CLOSE_TIMEOUT:g} s")
        with ExitStack() as files:  # each is closed, whatever befalls the others
            files.callback(self._lines.close)
            files.callback(self._bag.close)
            if self._video is not None:
                files.callback(self._video.close)
        report = dict(
            counts,
            **self._counts,
            messages_in_bag=self._bag.messages,
            overlay_frames=self._video.frames if self._video else 0,
            error=str(self._error) if self._error else "",
            step_ms=summary_ms(self._step_ms),
            stamp_to_arrival_ms=summary_ms(self._arrival_ms),
            iou=self._meter.pairs(),
        )
        (self._folder / "recorder.json").write_text(json.dumps(report, indent=2) + "\n")

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._error is not None:
                continue  # the queue is emptied so that `close` does not block
            try:
                self._write(job)
            except Exception as error:
                self._error = error
                self._failed(error)

    def _write(self, job: Job) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < self._reserve:
            raise OSError(
                f"the disk is full: {free >> 20} MiB are free, the last {self._reserve >> 20} are left to finish the files"
            )
        masks = job.masks
        self._bag.write(job.arrived, serialize_message(masks))
        stamp = to_ns(masks.header.stamp)
        step_ms = (to_ns(masks.finished) - to_ns(masks.received)) / 1e6
        arrival_ms = (job.arrived - stamp) / 1e6
        self._step_ms.append(step_ms)
        self._arrival_ms.append(arrival_ms)
        line = dict(
            stamp=stamp,
            sequence=masks.sequence,
            revision=masks.prompt_revision,
            received_to_finished_ms=round(step_ms, 3),
            stamp_to_arrival_ms=round(arrival_ms, 3),
            matched=job.image is not None,
            objects=[dict(id=o.object_id, state=o.state, score=round(o.score, 4), area=o.area) for o in masks.objects],
        )
        try:
            tracks = tracks_from_message(masks)
            if job.truth is not None:
                iou = self._meter.add(
                    to_gray(job.truth), tracks.label_map, tracks.object_ids.tolist(), tracks.labels.tolist()
                )
                self._counts["with_truth"] += 1
                line["iou"] = {str(k): {str(i): round(v, 4) for i, v in row.items()} for k, row in iou.items()}
            self._draw(job, tracks)
        except (ImageError, ValueError) as error:
            self._counts["malformed"] += 1
            line["error"] = str(error)
        self._lines.write(json.dumps(line) + "\n")

    def _draw(self, job: Job, tracks: Tracks) -> None:
        if job.image is None or self._jobs.qsize() > self._jobs.maxsize // 2:
            self._counts["overlays_left_out"] += 1
            return
        drawn = draw_overlay(to_rgb(job.image), tracks, self.labels, alpha=self._alpha)
        if self._video is None:
            self._video = OverlayVideo(self._folder / "overlay.mp4", self._fps, *drawn.shape[:2])
        self._video.write(drawn)
