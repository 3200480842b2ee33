"""A video file, decoded with PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import av

from sam2s_model.errors import SourceError
from sam2s_model.files.substitutes import substitute
from sam2s_model.recordings.image_files import PROBED, common_size
from sam2s_model.recordings.pixels import bits_said
from sam2s_model.recordings.recording import ASSUMED_FPS, FIRST_STAMP_NS, Frame, Recording
from sam2s_model.recordings.video_files import as_file, as_shown, orientation, shown_size, wide_bits

TIME_JUMP = 1.0  # s; as with bags, times that step back further begin anew, and from 3 frames on, of short parts


class VideoRecording(Recording):
    """The first video stream of a file, as players show it: turned, mirrored and cut as the file says.

    Stamps are its presentation times, counted from 1 s, see `FrameTimes`.

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

    def count_frames(self) -> int | None:
        """Count the packets that are shown: a header may say no number, and that of before the edit list cut."""
        with self._opened() as container:
            return shown_packets(container, video_stream(self.spec, container))

    def _frames(self) -> Iterator[Frame]:
        with self._opened() as container:
            stream = video_stream(self.spec, container)
            times = FrameTimes(self.fps, self._note_of_pass)
            index = 0
            skipped = [0]
            for decoded, following in with_next_time(decoded_frames(container, stream, skipped)):
                if isinstance(decoded, str):
                    self._note_odd(decoded, image=True)
                    index += 1
                    continue
                stamp = times.stamp(decoded.time, index, following)
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
    """Stamps of frames by their presentation times, ns, counted from 1 s, in a strict order.

    Where times begin anew, as in parts that were put together, stamps go on after a frame's duration. A time that
    repeats, or steps back a little, is the next nanosecond.

    note: told once, in a sentence, that times step back, and once of a single time that is not between its neighbours
    """

    def __init__(self, fps: float, note: Callable[[str], object]):
        self._duration, self._note = 1 / fps, note
        self._time, self._index, self._last = 0.0, 0, 0  # of the frame before; stamp 0: there was none
        self._origin = 0.0  # the time of the first stamp, s
        self._noted: set[str] = set()

    def stamp(self, time: float | None, index: int, following: float | None = None) -> int:
        """Return the stamp of the next frame.

        time: s, None where there is none, then its number says it; following: the next one's, None: not known
        """
        if time is None:
            time = self._time + (index - self._index) * self._duration
        if not self._last:
            self._origin, self._last = time, FIRST_STAMP_NS - 1
        elif self._is_stray(time, following):
            away = f"{time - self._time:+.6g} s from that of the frame before, from which the next one goes on"
            self._say("stray", f"the time of frame {index:06d} is {away}: it is taken for the one between")
            time = self._time + self._duration
        elif (back := self._time - time) > self._least_jump:
            self._say("back", f"times step back by {back:.6g} s at frame {index:06d}: from there they are counted on")
            self._origin = time - self._duration - (self._last - FIRST_STAMP_NS) * 1e-9
        self._time, self._index = time, index
        self._last = max(self._last + 1, FIRST_STAMP_NS + round((time - self._origin) * 1e9))
        return self._last

    @property
    def _least_jump(self) -> float:
        return min(TIME_JUMP, 3 * self._duration)

    def _is_stray(self, time: float, following: float | None) -> bool:
        """Whether a time alone is far away: that of the frame that follows goes on from the frame before it."""
        if following is None or self._time < time < following:
            return False
        goes_on = 0 < following - self._time <= max(TIME_JUMP, 3 * self._duration)
        return goes_on and min(abs(time - self._time), abs(time - following)) > self._least_jump

    def _say(self, kind: str, sentence: str) -> None:
        if kind not in self._noted:
            self._noted.add(kind)
            self._note(sentence)


def with_next_time(frames: Iterable[av.VideoFrame | str]) -> Iterator[tuple[av.VideoFrame | str, float | None]]:
    """Yield frames, and sentences in their place, each with the time of the frame that follows; None: not known."""
    held: list[av.VideoFrame | str] = []
    for frame in frames:
        if not isinstance(frame, str):
            while held:
                yield held.pop(0), frame.time
        held.append(frame)
    for frame in held:
        yield frame, None


def video_stream(spec: str, container: av.container.InputContainer):
    """Return the first video stream, decoded without delay. Raises SourceError where there is none."""
    if not container.streams.video:
        raise SourceError(f"{spec} has no video stream: expected a video file")
    stream = container.streams.video[0]
    stream.thread_type = "SLICE"  # with frame threads, a damaged packet takes good frames with it
    return stream


def shown_packets(container, stream) -> int:
    """Count a stream's packets up to where it can be read, without decoding; not those that the edit list cuts away."""
    count = 0
    with suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            count += packet.size > 0 and not packet.is_discard  # the last one, of no size, says that it ends
    return count


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
