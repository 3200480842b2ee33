"""A video file, decoded with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np

from sam2s_model.errors import SourceError
from sam2s_model.image_files import PROBED, common_size
from sam2s_ros.sources.base import FIRST_STAMP_NS, Frame, FrameSource

ASSUMED_FPS = 25.0  # for a file that names no rate


class VideoSource(FrameSource):
    """The first video stream of a file, as players show it: turned and mirrored as the file says, and cut as its edit list says.

    Stamps are its presentation times, counted from 1 s.

    Raises SourceError when no frame of it can be decoded.
    """

    kind = "video"

    def __init__(self, spec: str, path: Path):
        super().__init__(spec)
        self._path = path
        with self._opened() as container:
            stream = _video_stream(spec, container)
            self.fps = float(stream.average_rate or stream.guessed_rate or ASSUMED_FPS)
            self.length = stream.frames or None
            few = list(islice((f for f in _decoded(container, stream) if not isinstance(f, str)), PROBED))
        if not few:
            raise SourceError(f"{spec} is not a readable video: none of its frames can be decoded")
        self.size = common_size([_shown_size(frame) for frame in few])
        if turned := _orientation(few[0]):
            self.notes.append(f"the file says that it is shown {turned}: so are its frames, boxes and masks")

    def _frames(self) -> Iterator[Frame]:
        with self._opened() as container:
            stream = _video_stream(self.spec, container)
            first_time = None
            previous = FIRST_STAMP_NS - 1
            index = 0
            skipped = [0]
            for decoded in _decoded(container, stream, skipped):
                if isinstance(decoded, str):
                    self._note_odd(decoded)
                    index += 1
                    continue
                time = index / self.fps if decoded.time is None else decoded.time
                first_time = time if first_time is None else first_time
                name, position = f"{index:06d}", index
                index += 1
                image = np.ascontiguousarray(_as_shown(decoded))
                if not self._fits(name, image):
                    continue
                # a file may repeat a time; the next nanosecond keeps the order strict
                previous = max(previous + 1, FIRST_STAMP_NS + round((time - first_time) * 1e9))
                yield Frame(position, previous, image, None, name)
            if self.length is not None and index + skipped[0] < self.length:
                self._note_odd(f"the file ends early: {index} of its {self.length - skipped[0]} frames are there")

    def _opened(self) -> av.container.InputContainer:
        try:
            return av.open(as_file(self._path))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(f"{self.spec} is not a readable video ({reason})") from error


def _video_stream(spec: str, container: av.container.InputContainer):
    if not container.streams.video:
        raise SourceError(f"{spec} has no video stream: expected a video file")
    stream = container.streams.video[0]
    stream.thread_type = "SLICE"  # with frame threads, a damaged packet takes good frames with it
    return stream


def as_file(path: Path) -> str:
    """A path that FFmpeg takes for a file, whatever is in its name: a colon would be the end of a protocol's name."""
    return f"file:{path}"


def _decoded(container, stream, skipped: list[int] | None = None) -> Iterator[av.VideoFrame | str]:
    """Frames of a stream; for a packet that cannot be decoded, a sentence that names it.

    skipped: its first element counts packets that the file's edit list cuts away
    """
    packets = container.demux(stream)
    number = 0
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            yield f"the file ends early, after packet {number} ({error.strerror})"
            return
        if packet is None:
            return
        if skipped is not None and packet.is_discard:
            skipped[0] += 1
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            yield f"packet {number} cannot be decoded ({error.strerror})"
        number += 1


def _turns(frame: av.VideoFrame) -> tuple[int, bool]:
    """Quarter turns to the left, after mirroring left to right, with which a frame is shown."""
    found = next((side for side in frame.side_data if side.type.name == "DISPLAYMATRIX"), None)
    if found is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(found, np.int32)[:5].astype(float)
    mirrored = bool(a * d < b * c)
    a, b = (-a, -b) if mirrored else (a, b)
    return round(-np.degrees(np.arctan2(b, a)) / 90) % 4, mirrored


def _orientation(frame: av.VideoFrame) -> str:
    turns, mirrored = _turns(frame)
    words = [{1: "turned to the left", 2: "upside down", 3: "turned to the right"}[turns]] if turns else []
    return " and ".join(["mirrored"] * mirrored + words)


def _shown_size(frame: av.VideoFrame) -> tuple[int, int]:
    return (frame.width, frame.height) if _turns(frame)[0] % 2 else (frame.height, frame.width)


def _as_shown(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    turns, mirrored = _turns(frame)
    image = frame.to_ndarray(format="rgb24")
    return np.rot90(image[:, ::-1] if mirrored else image, turns)
