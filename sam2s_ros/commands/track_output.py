"""The folder of results of `sam2s track`: masks, table, video, and what became of each object."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sam2s_model.paths import write_whole, writing
from sam2s_model.recordings.recording import Frame
from sam2s_model.results.coco import CocoTracks
from sam2s_model.results.label_png import colours_of, write_label_png
from sam2s_model.results.object_log import ObjectLog
from sam2s_model.results.tracks_table import TracksCsv, check_parquet, write_parquet
from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import Tracks
from sam2s_ros.overlay import draw_overlay
from sam2s_ros.overlay_video import OverlayVideo
from sam2s_ros.processes.results import check_masks_are_ours, claim

TABLE, COCO, PARQUET, SUMMARY = "tracks.csv", "tracks.json", "tracks.parquet", "summary.json"
OWN_FILES = ("masks/*.png", "overlay.mp4", TABLE, COCO, PARQUET, SUMMARY)


class TrackOutput:
    """Write frames as they come; masks, table and video are whole up to the newest one, whatever ends the process.

    coco, parquet: whether tracks.json and tracks.parquet are written at the end
    masks, overlay: whether masks/ and overlay.mp4 are written
    overwrite, inputs, files: as of `claim`
    log: what became of each object so far
    Raises ConfigError when the folder has results and may not overwrite them, or masks of another program, and where
    Parquet cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        fps: float,
        size: tuple[int, int],
        label_set: LabelSet,
        *,
        coco: bool = False,
        parquet: bool = False,
        masks: bool = True,
        overlay: bool = True,
        overwrite: bool = False,
        inputs: Iterable[str | Path] = (),
        files: Iterable[Path] = (),
    ):
        if parquet:
            check_parquet()
        self._folder, self._label_set, self._parquet = folder, label_set, parquet
        self._coco = CocoTracks(label_set) if coco else None
        self._masks = folder / "masks" if masks else None
        self.log = ObjectLog()
        self.frames = 0
        mark = (SUMMARY, dict(command="track", interrupted=True))  # by which a run that is killed is recognised
        with writing(folder):
            check_masks_are_ours(folder, SUMMARY, "track")
            claim(folder, OWN_FILES, overwrite=overwrite, inputs=inputs, files=files, mark=mark)
            (self._masks or folder).mkdir(parents=True, exist_ok=True)
            self._table = TracksCsv(folder / TABLE)
            self._video = OverlayVideo(folder / "overlay.mp4", fps, *size) if overlay else None

    def write(self, frame: Frame, tracks: Tracks) -> None:
        """Add a frame. Raises ConfigError where it cannot be written."""
        with writing(self._folder):
            self._write(frame, tracks)
        self.log.add(frame.index, tracks)
        self.frames += 1

    def _write(self, frame: Frame, tracks: Tracks) -> None:
        if self._masks:
            path = self._masks / f"{frame.name}.png"
            write_label_png(path, tracks.label_map, colours_of(tracks, self._label_set))
        self._table.write(frame.index, frame.name, tracks)
        if self._coco:
            self._coco.add(f"{frame.name}.png", tracks)
        if self._video:
            self._video.write(draw_overlay(frame.image, tracks, self._label_set))

    def close(self, summary: dict[str, Any]) -> None:
        """End the files and write the summary, the latter also when another one cannot be ended.

        Raises ConfigError where they cannot be written.
        """
        with writing(self._folder):
            try:
                if self._video:
                    self._video.close()
                self._table.close()
                if self._coco:
                    self._coco.write(self._folder / COCO)
                if self._parquet:
                    write_parquet(self._folder / TABLE, self._folder / PARQUET)
            finally:
                write_whole(self._folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
