"""Pictures as a video that every player opens."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from sam2s_model.errors import ConfigError

# zerolatency: each picture is in the file's next fragment, not held back in the encoder
ENCODERS = (("libx264", {"crf": "20", "preset": "veryfast", "tune": "zerolatency"}), ("mpeg4", {"qscale": "3"}))
FRAGMENT = 0.2  # s of video that are written at once
KEY_FRAME_EVERY = 2.0  # s, to which players jump
HYBRID_SINCE = (61, 7)  # libavformat of FFmpeg 7.1, which makes a plain file of the fragments when it is closed


class OverlayVideo:
    """An mp4 of constant rate that every player opens: h264 (or mpeg4 where there is no h264 encoder), yuv420p.

    The format needs even sides: the last column or row of an odd one is left out. It is written in fragments, so that a
    file that was not closed opens, too, up to the last few pictures.
    """

    def __init__(self, path: Path, fps: float, height: int, width: int):
        self.path, self.size = path, (height, width)
        self._even = (height // 2 * 2, width // 2 * 2)
        if 0 in self._even:
            raise ConfigError(f"a video of {width}x{height} px cannot be written: expected at least 2 px on each side")
        name, options = next((e for e in ENCODERS if _available(e[0])), (None, None))
        if name is None:
            raise ConfigError(f"PyAV has no video encoder: expected one of {', '.join(e[0] for e in ENCODERS)}")
        self._container = av.open(f"file:{path}", "w", options=_fragments())  # a colon in a name is no protocol
        stream = self._container.add_stream(name, rate=Fraction(fps).limit_denominator(1001), options=options)
        assert isinstance(stream, VideoStream), "both ENCODERS are of videos"
        self._stream = stream
        self._stream.height, self._stream.width = self._even
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.gop_size = max(1, round(fps * KEY_FRAME_EVERY))
        self.frames = 0

    def write(self, image: np.ndarray) -> None:
        """Append a picture, (H, W, 3) uint8 RGB of the size given. Raises ValueError for another."""
        if image.shape[:2] != self.size:
            raise ValueError(f"image of {image.shape[:2]} (H, W): expected {self.size}")
        height, width = self._even
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


def _fragments() -> dict[str, str]:
    """Return the options of the mp4 muxer."""
    flags = ["empty_moov", "default_base_moof"]
    if av.library_versions["libavformat"][:2] >= HYBRID_SINCE:
        flags.append("hybrid_fragmented")
    return dict(movflags="+".join(flags), frag_duration=str(round(FRAGMENT * 1e6)), flush_packets="1")


def _available(encoder: str) -> bool:
    try:
        av.codec.Codec(encoder, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True
