"""What is kept of tracked frames besides figures: a table, masks, a video, and pictures of the worst and the best."""

from __future__ import annotations

import base64
import heapq
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.follow import Step
from sam2s_model.evaluation.scores import Row
from sam2s_model.paths import writing
from sam2s_model.results.tracks_table import TracksCsv
from sam2s_model.semantics import GENERIC
from sam2s_ros.evaluation.task import MASKS, Task
from sam2s_ros.overlay import draw_overlay
from sam2s_ros.overlay_video import OverlayVideo

if TYPE_CHECKING:  # needs the package's messages
    from sam2s_ros.evaluation.shown_bag import ShownBag

WORST, BEST = 3, 1  # frames of a recording that are kept as pictures
PICTURE_WIDTH = 480  # px
OUTSIDE = 255  # the value of a pixel that is no object
TRUTH_COLOUR = (255, 255, 255)


class StepOutput:
    """The table of tracks, the overlay video and the masks of a recording, where they are wanted.

    Masks are grey PNGs with the ids of the ground truth, 0 none, which every program that scores reads alike (of
    a palette OpenCV makes colours). Where the ground truth has a folder for each object and an id that is no value of
    a pixel (SA-V begins with 0), there is a folder of masks, 0 and 255, for each.

    model: of the messages in a bag; folders: of `Recording.object_folders`
    Raises ConfigError, before anything is removed, for masks that do not lie inside the evaluation's folder of masks.
    """

    def __init__(self, task: Task, fps: float, model: str, folders: Mapping[int, str] | None = None):
        self._folders = dict(folders or {})
        self._apart = any(not 0 < label < OUTSIDE for label in self._folders)
        self._overlay, self._masks, self._fps = task.overlay, task.masks, fps
        self._bag_path, self._model = task.masks_bag, model
        self._table_path = task.table
        if task.masks and not _inside(Path(task.masks), Path(task.output) / MASKS):
            raise ConfigError(
                f"masks are to be written to {task.masks}: expected a folder inside {Path(task.output) / MASKS}"
            )
        self._table: TracksCsv | None = None
        self._bag: ShownBag | None = None
        self._video: OverlayVideo | None = None

    def __enter__(self) -> StepOutput:
        with writing():
            for file in filter(None, (self._overlay, self._bag_path, self._table_path)):
                Path(file).parent.mkdir(parents=True, exist_ok=True)
            if self._table_path:
                self._table = TracksCsv(Path(self._table_path))
            if self._masks:
                Path(self._masks).mkdir(parents=True, exist_ok=True)
                # a live run that was interrupted had masks of other frames
                for old in Path(self._masks).rglob("*.png"):
                    old.unlink()
            if self._bag_path:
                from sam2s_ros.evaluation.shown_bag import ShownBag

                Path(self._bag_path).unlink(missing_ok=True)  # as for the masks
                self._bag = ShownBag(Path(self._bag_path), self._model)
        return self

    def __exit__(self, *_: object) -> None:
        if self._video:
            self._video.close()
        if self._bag:
            self._bag.close()
        if self._table:
            self._table.close()

    def write(self, step: Step) -> None:
        """Add a frame. Raises OSError."""
        if self._table:
            self._table.write(step.frame.index, step.frame.name, step.tracks)
        if self._masks:
            self._write_masks(step)
        if self._bag:
            self._bag.write(step)
        if self._overlay:
            self._video = self._video or OverlayVideo(Path(self._overlay), self._fps, *step.tracks.size)
            self._video.write(draw_overlay(step.frame.image, step.tracks, GENERIC))

    def _write_masks(self, step: Step) -> None:
        tracks = step.tracks
        labels = dict(zip(tracks.object_ids.tolist(), tracks.labels.tolist(), strict=True))
        known = {label: labels[object_id] for label, object_id in step.ids.items() if object_id in labels}
        if self._apart:
            for label, folder in self._folders.items():
                mask = tracks.label_map == known[label] if label in known else np.zeros(tracks.size, bool)
                self._write_png(Path(self._masks) / folder / f"{step.frame.name}.png", mask.astype(np.uint8) * 255)
            return
        ids = np.zeros(
            256, np.uint8
        )  # of what is in the map, 255 outside the field among it, nothing but objects stays
        for label, value in known.items():
            ids[value] = label
        self._write_png(Path(self._masks) / f"{step.frame.name}.png", ids[tracks.label_map])

    @staticmethod
    def _write_png(path: Path, pixels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(path), pixels):
            raise OSError(f"{path} could not be written")


class ShownFrames:
    """The frames with the lowest J&F, and with the highest, as pictures.

    One more of each than asked for: the last frame may not be scored.
    """

    def __init__(self):
        # (J&F, its sign changed for the worst, -index, name, picture), of which the first gives way to what is greater
        self._worst: list[tuple[float, int, str, bytes]] = []
        self._best: list[tuple[float, int, str, bytes]] = []

    def add(self, step: Step, rows: list[Row]) -> None:
        values = [row.jf for row in rows if row.scored]
        if not values:
            return
        jf, frame, picture = float(np.mean(values)), step.frame, b""
        for heap, most, order in ((self._worst, WORST, -jf), (self._best, BEST, jf)):
            if len(heap) <= most or order > heap[0][0]:
                picture = picture or _picture(step)
                heapq.heappush(heap, (order, -frame.index, frame.name, picture))
                if len(heap) > most + 1:
                    heapq.heappop(heap)

    def kept(self, rows: list[Row]) -> dict[str, list[dict[str, Any]]]:
        """Return `worst` and `best`, the most extreme first: frame, name, J&F and the picture as base64 JPEG.

        A frame that is among the worst is none of the best.
        """
        scored = {row.frame for row in rows if row.scored}
        worst = [entry for entry in sorted(self._worst, reverse=True) if -entry[1] in scored][:WORST]
        others = scored - {-entry[1] for entry in worst}
        best = [entry for entry in sorted(self._best, reverse=True) if -entry[1] in others][:BEST]
        return {
            kind: [
                dict(frame=-index, name=name, jf=abs(order), jpeg=base64.b64encode(picture).decode())
                for order, index, name, picture in entries
            ]
            for kind, entries in (("worst", worst), ("best", best))
        }


def _inside(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def _picture(step: Step) -> bytes:
    """JPEG of a frame: what was tracked in colour, the ground truth as a white line."""
    drawn = draw_overlay(step.frame.image, step.tracks, GENERIC)
    scale = min(1.0, PICTURE_WIDTH / drawn.shape[1])
    thickness = max(1, round(1.5 / scale))
    for mask in step.frame.truth.masks.values() if step.frame.truth else ():
        lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, lines, -1, TRUTH_COLOUR, thickness, cv2.LINE_AA)
    small = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not encoded:
        raise OSError(f"frame {step.frame.name} could not be encoded as JPEG")
    return data.tobytes()
