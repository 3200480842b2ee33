"""A video that comes in parts, one to each message, as H.264 cameras send it."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import av
import numpy as np

from sam2s_model.errors import ImageError
from sam2s_model.recordings.pixels import ImageReader, is_video

CODECS = {
    "h264": "h264", "h.264": "h264", "avc": "h264",
    "h265": "hevc", "h.265": "hevc", "hevc": "hevc",
    "av1": "av1", "vp8": "vp8", "vp9": "vp9",
}  # fmt: skip


class VideoReader(ImageReader):
    """As `ImageReader`, for compressed images, too, that are parts of one video: every message must be given, in order.

    From a bag that is so. From a camera it is not: after a lost part the decoder makes a picture of what was before and
    of what follows, and does not say so.
    """

    _decoder: av.VideoCodecContext | None = None
    _parts = 0

    def check(self, message: Any) -> None:
        if not (hasattr(message, "format") and is_video(message)):
            super().check(message)

    def read(self, message: Any) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB. Raises ImageError, also for parts before the first picture that stands alone."""
        if not (hasattr(message, "format") and is_video(message)):
            return super().read(message)
        what = f"part {self._parts + 1} of a video of format {message.format!r}"
        try:
            frames = self._decode(message)
        except av.error.FFmpegError as error:
            why = f"{what} does not decode ({error.strerror}): a picture that needs no other may be missing before it"
            raise ImageError(why) from error
        if not frames:
            expected = "expected a video in which no picture needs later ones (no B-frames)"
            raise ImageError(f"{what} gives no picture of its own: {expected}")
        given = frames[-1].pts
        if given != self._parts - 1:
            part = "an unknown part" if given is None else f"part {given + 1}"
            raise ImageError(f"{what} gives the picture of {part}: expected a video without B-frames")
        return np.ascontiguousarray(frames[-1].to_ndarray(format="rgb24"))

    def skip(self, message: Any) -> None:
        """Take a message that nobody looks at; what comes after it may build upon it."""
        if hasattr(message, "format") and is_video(message):
            with contextlib.suppress(av.error.FFmpegError):  # the next message will raise it, if it matters
                self._decode(message)

    def _decode(self, message: Any) -> list[av.VideoFrame]:
        if self._decoder is None:
            named = next(
                (CODECS[word] for word in re.findall(r"[\w.]+", message.format.lower()) if word in CODECS), "h264"
            )
            decoder = av.CodecContext.create(named, "r")
            assert isinstance(decoder, av.VideoCodecContext)  # as all of CODECS are
            decoder.thread_type = "SLICE"  # a decoder with a thread for each picture gives each one later
            self._decoder = decoder
        packet = av.Packet(bytes(message.data))
        packet.pts = packet.dts = self._parts
        self._parts += 1
        return self._decoder.decode(packet)
