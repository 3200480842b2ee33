"""Pictures as a video that every player opens."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from sam2s_model.errors import ConfigError

ENCODERS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"qscale": "3"}))


class OverlayVideo:
    """An mp4 of constant rate that every player opens: h264 (or mpeg4 where there is no h264 encoder), yuv420p.

    The format needs even sides: the last column or row of an odd one is left out.
    """

    def __init__(self, path: Path, fps: float, height: int, width: int):
        self.size = (height, width)
        self._even = (height // 2 * 2, width // 2 * 2)
        if 0 in self._even:
            raise ConfigError(f"a video of {width}x{height} px cannot be written: expected at least 2 px on each side")
        name, options = next((e for e in ENCODERS if _available(e[0])), (None, None))
        if name is None:
            raise ConfigError(f"PyAV has no video encoder: expected one of {', '.join(e[0] for e in ENCODERS)}")
        self._container = av.open(f"file:{path}", "w")  # a colon in a name is no protocol
        self._stream = self._container.add_stream(name, rate=Fraction(fps).limit_denominator(1001), options=options)
        self._stream.height, self._stream.width = self._even
        self._stream.pix_fmt = "yuv420p"
        self.frames = 0

    def write(self, image: np.ndarray) -> None:
        """image: (H, W, 3) uint8 RGB of the size given. Raises ValueError for another."""
        if image.shape[:2] != self.size:
            raise ValueError(f"image of {image.shape[:2]} (H, W): expected {self.size}")
        height, width = self._even
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


def _available(encoder: str) -> bool:
    try:
        av.codec.Codec(encoder, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True
