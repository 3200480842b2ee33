"""Label images as palette PNG, as DAVIS has them: the values are the labels, and viewers show the objects' colours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from sam2s_model.colours import colours_of, palette

__all__ = ["colours_of", "write_label_png"]


def write_label_png(path: Path, labels: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> None:
    """Write a palette PNG. labels: (H, W) uint8; colours: label -> RGB, others are black. Raises OSError."""
    opaque = np.full((256, 1), 255, np.uint8)
    table = np.hstack([opaque, palette(colours)])  # ARGB, as `VideoFrame.from_ndarray` takes pal8
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = labels.shape
    encoder.pix_fmt, encoder.time_base = "pal8", Fraction(1)
    indices_and_table: Any = (np.ascontiguousarray(labels), table)  # PyAV's annotation knows no palettes
    frame = av.VideoFrame.from_ndarray(indices_and_table, format="pal8")
    path.write_bytes(b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None))))
