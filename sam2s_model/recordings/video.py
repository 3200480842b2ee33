"""A video file, decoded with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av

from sam2s_model.errors import SourceError
from sam2s_model.recordings.image_files import PROBED, common_size
from sam2s_model.recordings.pixels import bits_said
from sam2s_model.recordings.recording import ASSUMED_FPS, FIRST_STAMP_NS, Frame, Recording
from sam2s_model.recordings.video_files import as_file, as_shown, orientation, shown_size, wide_bits
from sam2s_model.substitutes import substitute


class VideoRecording(Recording):
    """The first video stream of a file, as players show it: turned, mirrored and cut as the file says.

    Stamps are its presentation times, counted from 1 s.

    Raises SourceError when no frame of it can be decoded.
    """

    kind = "video"

    def __init__(self, name: str, spec: str, path: Path):
        super().__init__(name, spec=spec)
        self._path = path
        with self._opened() as container:
            stream = video_stream(spec, container)
            self.fps = float(stream.average_rate or stream.guessed_rate or ASSUMED_FPS)
            self.length = stream.frames or None
            few = list(islice((f for f in decoded_frames(container, stream) if not isinstance(f, str)), PROBED))
        if not few:
            raise SourceError(f"{spec} is not a readable video: none of its frames can be decoded")
        self._size = common_size([shown_size(frame) for frame in few])
        self._bits = max(wide_bits(frame) for frame in few)
        if note := bits_said(self._bits):
            self.notes.append(note)
        if turned := orientation(few[0]):
            self.notes.append(f"the file says that it is shown {turned}: so are its frames, boxes and masks")

    def _own_files(self) -> list[Path]:
        return [self._path]

    def _frames(self) -> Iterator[Frame]:
        with self._opened() as container:
            stream = video_stream(self.spec, container)
            times = FrameTimes(self.fps)
            index = 0
            skipped = [0]
            for decoded in decoded_frames(container, stream, skipped):
                if isinstance(decoded, str):
                    self._note_odd(decoded, image=True)
                    index += 1
                    continue
                stamp = times.stamp(decoded.time, index)
                name, position = f"{index:06d}", index
                index += 1
                image = as_shown(decoded, self._bits)
                if not self._fits(name, image):
                    continue
                yield Frame(position, stamp, name, image, None)
            if self.length is not None and index + skipped[0] < self.length:
                self._note_odd(
                    f"the file ends early: {index} of its {self.length - skipped[0]} frames are there", image=True
                )

    def _opened(self) -> av.container.InputContainer:
        try:
            return av.open(as_file(self._path))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            instead = substitute(self._path)
            reason = f"it {instead}" if instead else getattr(error, "strerror", None) or str(error)
            raise SourceError(f"{self.spec} is not a readable video ({reason})") from error


class FrameTimes:
    """Stamps of frames by their presentation times, ns, counted from 1 s, in a strict order."""

    def __init__(self, fps: float):
        self._fps, self._first, self._last = fps, None, FIRST_STAMP_NS - 1

    _first: float | None

    def stamp(self, time: float | None, index: int) -> int:
        """Return the stamp of the next frame. time: s, None where there is none, then its number says it"""
        time = index / self._fps if time is None else time
        self._first = time if self._first is None else self._first
        # a file may repeat a time; the next nanosecond keeps the order strict
        self._last = max(self._last + 1, FIRST_STAMP_NS + round((time - self._first) * 1e9))
        return self._last


def video_stream(spec: str, container: av.container.InputContainer):
    """Return the first video stream, decoded without delay. Raises SourceError where there is none."""
    if not container.streams.video:
        raise SourceError(f"{spec} has no video stream: expected a video file")
    stream = container.streams.video[0]
    stream.thread_type = "SLICE"  # with frame threads, a damaged packet takes good frames with it
    return stream


def decoded_frames(container, stream, skipped: list[int] | None = None) -> Iterator[av.VideoFrame | str]:
    """Yield the frames of a stream; for a packet that cannot be decoded, a sentence that names it.

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
