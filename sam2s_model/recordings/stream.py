"""A camera device, a network stream or a pipe, decoded with PyAV while it comes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import av

from sam2s_model.errors import SourceError
from sam2s_model.recordings.pixels import bits_said
from sam2s_model.recordings.recording import ASSUMED_FPS, Frame, Recording
from sam2s_model.recordings.stream_spec import STDIN, StreamSpec
from sam2s_model.recordings.video import FrameTimes, decoded_frames, video_stream
from sam2s_model.recordings.video_files import as_file, as_shown, shown_size, wide_bits

SILENCE = 10.0  # s that a network stream may take to open, and to send something
AGAIN = 32  # first frames of a pipe that are kept until it is read beyond them, so that the first can be looked at
PIPEABLE = "a pipe cannot be read backwards: expected MPEG-TS, Matroska or the like, as of `ffmpeg -f mpegts -`"

Came = tuple["av.VideoFrame | str", int]  # a frame, or what is wrong with a packet, and how many were missed before it


class StreamRecording(Recording):
    """Frames as they come; `length` is not known. Stamps are its presentation times, counted from 1 s.

    Of a live one a pass begins with the next frame that comes, as number 0, and whoever is late gets the newest: those
    that it replaces are counted in `missed`, and an index is left out for each. A pipe and a server's file wait
    themselves, so that every frame is delivered, once: a second pass is possible as long as no more than `AGAIN` were
    read.

    Raises SourceError when it cannot be opened or nothing of it can be decoded.
    """

    kind = "stream"

    def __init__(self, name: str, stream: StreamSpec):
        super().__init__(name, spec=stream.shown)
        self._container = _opened(stream)
        video = video_stream(self.spec, self._container)
        self.fps = float(video.average_rate or video.guessed_rate or ASSUMED_FPS)
        incoming = decoded_frames(self._container, video)
        self._incoming: _Queued | _Newest = _Newest(incoming) if stream.live else _Queued(self.spec, incoming)
        first = next((frame for frame, _ in self._incoming.frames() if not isinstance(frame, str)), None)
        if first is None:
            raise SourceError(f"{self.spec} is not a readable video: none of its frames can be decoded")
        self._size = shown_size(first)
        self._bits = wide_bits(first)
        self.notes += [note] if (note := bits_said(self._bits)) else []

    def _frames(self) -> Iterator[Frame]:
        times, index = FrameTimes(self.fps, self._note_of_pass), 0
        for decoded, missed in self._incoming.frames():
            self.missed += missed
            position = index + missed
            index = position + 1
            if isinstance(decoded, str):
                self._note_odd(decoded, image=True)
                continue
            name, image = f"{position:06d}", as_shown(decoded, self._bits)
            stamp = times.stamp(decoded.time, position)
            if self._fits(name, image):
                yield Frame(position, stamp, name, image, None)


class _Queued:
    """What comes waits until it is asked for."""

    def __init__(self, spec: str, incoming: Iterator[av.VideoFrame | str]):
        self._spec, self._incoming = spec, incoming
        self._kept: list[av.VideoFrame | str] | None = []

    def frames(self) -> Iterator[Came]:
        """Begin a pass: with the first frame, also of a pass before. Raises SourceError where that is gone."""
        if self._kept is None:
            raise SourceError(f"{self._spec} can be read once, and is beyond its first {AGAIN} frames already")
        for frame in tuple(self._kept):
            yield frame, 0
        for frame in self._incoming:
            if self._kept is not None:
                self._kept.append(frame)
                if len(self._kept) > AGAIN:
                    self._kept = None
            yield frame, 0


class _Newest:
    """What comes is taken by a thread at once; of what nobody has asked for yet the newest stays."""

    def __init__(self, incoming: Iterator[av.VideoFrame | str]):
        self._incoming = incoming
        self._changed = threading.Condition()
        self._held: av.VideoFrame | str | None = None
        self._missed, self._ended = 0, False
        threading.Thread(target=self._take, name="stream", daemon=True).start()

    def frames(self) -> Iterator[Came]:
        """Begin a pass: with the next frame that comes. What came before the first is of no pass, and not missed."""
        with self._changed:
            self._held = None
        first = True
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held is not None or self._ended)
                frame, missed = self._held, self._missed
                self._held, self._missed = None, 0
            if frame is None:
                return
            yield frame, 0 if first else missed
            first = False

    def _take(self) -> None:
        for frame in self._incoming:
            with self._changed:
                self._missed += self._held is not None
                self._held = frame
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _opened(stream: StreamSpec) -> av.container.InputContainer:
    """Open a stream. Raises SourceError."""
    address = stream.address
    if address == STDIN:
        if os.isatty(0):
            raise SourceError("standard input is a terminal: pipe a video into it, as in `ffmpeg ... | sam2s track -`")
        address = "pipe:0"
    elif "://" not in address and not stream.format:
        address = as_file(Path(stream.address))
    try:
        return av.open(address, format=stream.format or None, options=stream.options, timeout=(SILENCE, SILENCE))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        hint = f"; {PIPEABLE}" if isinstance(error, av.error.InvalidDataError) and not stream.live else ""
        raise SourceError(f"{stream.shown} cannot be opened ({reason}){hint}") from error
