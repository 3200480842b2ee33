"""The recorder's writing half: one thread that draws, encodes and writes."""

from __future__ import annotations

import json
import math
import queue
import shutil
import threading
import time
from array import array
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import av
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image

from sam2s_model.errors import ConfigError, ImageError
from sam2s_model.recordings.pixels import ImageReader
from sam2s_model.recordings.recording import Truth
from sam2s_model.results.tracks_table import TracksCsv
from sam2s_model.semantics import GENERIC, LabelSet
from sam2s_model.tracks import Tracks
from sam2s_ros.evaluation.overlap import OverlapMeter, summary_ms
from sam2s_ros.interfaces.image_codec import to_gray
from sam2s_ros.interfaces.messages import to_ns, tracks_from_message
from sam2s_ros.msg import TrackedMasks, TrackedObject
from sam2s_ros.overlay import draw_overlay
from sam2s_ros.overlay_video import OverlayVideo
from sam2s_ros.recorder.folder import BAG, LINES, TABLE, open_folder
from sam2s_ros.recorder.masks_bag import MasksBag

CLOSE_TIMEOUT = 30.0  # s
FLUSH_EVERY = 1.0  # s without a frame, after which what has come is put into the files
MAX_SIZES = 16  # of images in one recording, each with a video of its own


@dataclass(frozen=True)
class WriterJob:
    """One frame to write. arrived: ns, recorder's clock, when the masks came."""

    masks: TrackedMasks
    arrived: int
    image: Image | CompressedImage | None
    truth: Image | None


class RecordingWriter:
    """Writes overlay.mp4, masks.mcap, frames.jsonl, tracks.csv and, at the end, recorder.json into a folder.

    The folder has no recording. Whatever ends the process, the first four open. In the table frames count messages, as
    lines of frames.jsonl and messages of masks.mcap do. Images of another size than the first have a video of their
    own, overlay_2.mp4 and so on. `labels` may be set at any time. When it cannot keep up, overlays are left out first
    and counted; only when the queue is full is a frame lost, and counted too. It ends while there is room on the disk
    to finish the files.

    output: the folder, unless it has a recording, see `open_folder`; overwrite: whether that is removed
    say: told what a user should know, one sentence at a time; reserve: bytes of the disk that stay free
    failed: called once, from the writer's thread, with the error that ended it
    Raises ConfigError when the folder cannot be written to.
    """

    def __init__(
        self,
        output: Path,
        *,
        overwrite: bool,
        say: Callable[[str], Any],
        topic: str,
        fps: float,
        alpha: float,
        queue_size: int,
        reserve: int,
        failed: Callable[[Exception], None],
    ):
        self.labels: LabelSet = GENERIC
        self.warning = ""  # what is wrong with the recording so far, though it goes on
        self._fps, self._alpha, self._failed, self._say = fps, alpha, failed, say
        self._reserve = reserve
        self.folder, self._lines = open_folder(output, overwrite=overwrite, say=say)
        self._bag, self._table = _begin(self.folder, self._lines, topic)
        self._reader = ImageReader()  # one, so that 10 and 12 bit images keep their brightness
        self._videos: dict[tuple[int, int], OverlayVideo] = {}  # by size, in the order in which they came
        self._meter = OverlapMeter()
        self._step_ms, self._arrival_ms = array("d"), array("d")
        self._counts = dict(overlays_left_out=0, lost_in_queue=0, malformed=0, with_truth=0)
        self._jobs: queue.Queue[WriterJob | None] = queue.Queue(maxsize=queue_size)
        self._error: Exception | None = None
        self._deadline: float | None = None  # s of the monotonic clock, once it is closing
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def put(self, job: WriterJob) -> None:
        """Queue a frame. Never blocks before `begin_close`, then until there is room or the time to close is over."""
        try:
            self._jobs.put(job, block=self._deadline is not None, timeout=self._left())
        except queue.Full:
            self._counts["lost_in_queue"] += 1
            self.warning = (
                f"{self._counts['lost_in_queue']} frames were lost: they came faster than they could be written"
            )

    def begin_close(self) -> None:
        """Let the time to close, CLOSE_TIMEOUT, begin: what is still put is waited for, so that nothing is lost."""
        if self._deadline is None:
            self._deadline = time.monotonic() + CLOSE_TIMEOUT

    def close(self, counts: dict[str, int]) -> None:
        """Write what is queued, close the files and write recorder.json with the node's counts.

        Raises TimeoutError when that is not done CLOSE_TIMEOUT after `begin_close`, as when a disk hangs.
        """
        self.begin_close()
        with suppress(queue.Full):
            self._jobs.put(None, timeout=self._left())
            self._thread.join(self._left())
        if self._thread.is_alive():
            raise TimeoutError(f"{self._jobs.qsize()} frames were still not written after {CLOSE_TIMEOUT:g} s")
        with ExitStack() as files:  # each is closed, whatever befalls the others
            files.callback(self._lines.close)
            files.callback(self._table.close)
            files.callback(self._bag.close)
            for video in self._videos.values():
                files.callback(video.close)
        report = dict(
            counts,
            **self._counts,
            messages_in_bag=self._bag.messages,
            overlay_frames=sum(video.frames for video in self._videos.values()),
            overlays=[dict(file=v.path.name, height=h, width=w, frames=v.frames) for (h, w), v in self._videos.items()],
            error=str(self._error) if self._error else "",
            step_ms=summary_ms(self._step_ms),
            stamp_to_arrival_ms=summary_ms(self._arrival_ms),
            iou=self._meter.pairs(),
        )
        (self.folder / "recorder.json").write_text(json.dumps(report, indent=2) + "\n")

    def _left(self) -> float:
        """Give the s that are left to close."""
        return max(0.0, (self._deadline or 0.0) - time.monotonic())

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=FLUSH_EVERY)
            except queue.Empty:
                self._attempt(self._bag.flush)
                continue
            if job is None:
                return
            self._attempt(self._write, job)

    def _attempt(self, act: Callable[..., None], *arguments: Any) -> None:
        if self._error is not None:
            return  # the queue is emptied so that `close` does not block
        try:
            act(*arguments)
        except Exception as error:
            self._error = error
            self._failed(error)

    def _write(self, job: WriterJob) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < self._reserve:
            raise OSError(
                f"the disk is full: {free >> 20} MiB are free, "
                f"the last {self._reserve >> 20} are left to finish the files"
            )
        masks = job.masks
        number = self._bag.messages
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
            objects=[_line_of(o) for o in masks.objects],
        )
        try:
            tracks = tracks_from_message(masks)
            self._table.write(number, f"{number:06d}", tracks)
            if job.truth is not None:
                truth = Truth.of_labels(to_gray(job.truth))
                iou = self._meter.add(truth, tracks.label_map, tracks.object_ids.tolist(), tracks.labels.tolist())
                self._counts["with_truth"] += 1
                line["iou"] = {str(k): {str(i): round(v, 4) for i, v in row.items()} for k, row in iou.items()}
            self._draw(job, tracks)
        except (OSError, av.error.FFmpegError):
            raise  # of the files
        except Exception as error:  # whatever a message leads to that no tracker of ours has sent: it alone is left out
            self._counts["malformed"] += 1
            why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            line["error"] = why
            self.warning = f"{self._counts['malformed']} frames have no overlay, the last one since {why}"
        self._lines.write(json.dumps(line) + "\n")

    def _draw(self, job: WriterJob, tracks: Tracks) -> None:
        if job.image is None or self._jobs.qsize() > self._jobs.maxsize // 2:
            self._counts["overlays_left_out"] += 1
            return
        drawn = draw_overlay(self._reader.read(job.image), tracks, self.labels, alpha=self._alpha, late=job.masks.late)
        self._video_of(drawn.shape[:2]).write(drawn)

    def _video_of(self, size: tuple[int, int]) -> OverlayVideo:
        """Return the video of a size, a new one for a new size. Raises ImageError when there are too many."""
        if size not in self._videos:
            height, width = size
            number = len(self._videos) + 1
            if number > MAX_SIZES:
                raise ImageError(f"image of {width}x{height}: expected at most {MAX_SIZES} sizes in a recording")
            name = "overlay.mp4" if number == 1 else f"overlay_{number}.mp4"
            self._videos[size] = OverlayVideo(self.folder / name, self._fps, height, width)
            if number > 1:
                self._say(f"images of another size came, {width}x{height}: their overlay is {name}")
        return self._videos[size]


def _begin(folder: Path, lines: TextIO, topic: str) -> tuple[MasksBag, TracksCsv]:
    """Make the bag and the table beside the list of frames. Raises ConfigError; none of the three is there then."""
    try:
        with ExitStack() as undo:
            undo.callback((folder / LINES).unlink, missing_ok=True)
            undo.callback(lines.close)
            bag = MasksBag(folder / BAG, topic)
            undo.callback((folder / BAG).unlink, missing_ok=True)
            undo.callback(bag.close)
            undo.callback((folder / TABLE).unlink, missing_ok=True)
            table = TracksCsv(folder / TABLE)
            undo.pop_all()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to ({error.strerror or error}): give another folder") from error
    return bag, table


def _line_of(o: TrackedObject) -> dict[str, Any]:
    """Describe an object in frames.jsonl. box: x0, y0, x1, y1, px, the last two exclusive; centroid: None if empty"""
    box = o.bounding_box
    x, y = o.centroid_x, o.centroid_y
    return dict(
        {"id": o.object_id, "class": o.class_name, "state": o.state, "score": round(o.score, 4), "area": o.area},
        box=[box.x_offset, box.y_offset, box.x_offset + box.width, box.y_offset + box.height],
        centroid=[round(x, 2), round(y, 2)] if math.isfinite(x) and math.isfinite(y) else None,
    )
