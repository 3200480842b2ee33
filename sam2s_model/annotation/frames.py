"""The frames of an annotation as files, so that any of them can be read at any time, of a video and a bag as well."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam2s_model.annotation.store import AnnotationStore, StoredFrame
from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.image_files import read_rgb
from sam2s_model.recordings.recording import Frame, Recording

QUALITY = 95  # of the JPEG that a frame becomes which is no file


def take_frames(
    recording: Recording,
    folder: Path,
    store: AnnotationStore,
    limit: int = 0,
    on_frame: Callable[[int, int | None], Any] = lambda done, total: None,
    say: Callable[[str], Any] = lambda line: None,
) -> None:
    """Copy the frames of a recording into a folder: files as they are, others as JPEG.

    Goes on where it was ended, by what had ended it, or by a lower limit.

    limit: frames at most, 0: all; on_frame: told how many there are, and of how many, None where that is not known
    say: told where there are more frames than the limit, which stay, and where those above an earlier limit are taken
    Raises SourceError for a recording without a readable frame, ConfigError when the folder cannot be written to.
    """
    there = {frame.number for frame in store.frames()}
    if 0 < limit < len(there):
        say(f"{recording.spec}: {len(there)} frames were taken before, all of them stay, not {limit} alone")
    if store.facts.get("frames_taken"):
        before = store.facts.get("frames_limit", len(there))  # of older annotations it is not known
        if before == 0 or 0 < limit <= before:
            return
        say(f"{recording.spec}: {len(there)} frames were taken before, now {f'up to {limit}' if limit else 'all'}")
    total = min(filter(None, (recording.length, limit)), default=None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for position, frame in enumerate(islice(recording, limit or None)):
            if frame.index in there:
                continue
            name = _write(recording, frame, folder)
            store.add_frame(StoredFrame(position, frame.index, frame.stamp_ns, frame.name, name))
            on_frame(position + 1, total)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to ({error.strerror}): give another --output") from error
    taken = len(store.frames())
    if not taken:
        raise SourceError(f"{recording.spec} has no readable frame")
    ended = limit > taken or (recording.length is not None and limit >= recording.length)
    # of all there is no limit: a later pass over the recording would find nothing
    store.put_facts({"frames_taken": True, "frames_limit": 0 if ended else limit})


def _write(recording: Recording, frame: Frame, folder: Path) -> str:
    """Write one frame, whole or not at all. Returns the file's name."""
    if isinstance(recording, FileRecording):
        source = recording.images[frame.index]
        path = folder / f"{frame.name}{source.suffix.lower()}"
        part = path.with_name(path.name + ".part")
        shutil.copyfile(source, part)
    else:
        path = folder / f"{frame.name}.jpg"
        part = path.with_name(path.name + ".part")
        bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        part.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
    os.replace(part, path)
    return path.name


def read_image(path: Path, sample_bits: int = 0) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB. Raises SourceError when the file is gone or no image.

    sample_bits: significant ones of 16-bit samples in the whole recording, as of `read_rgb`
    """
    image = read_rgb(path, sample_bits)
    if image is None:
        raise SourceError(f"{path} is no longer a readable image")
    return image
