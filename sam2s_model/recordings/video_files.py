"""Video files as players show them: under any name, turned and mirrored as the file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np

from sam2s_model.recordings.pixels import narrow, significant_bits

if TYPE_CHECKING:
    from av.sidedata.sidedata import SideDataContainer


def as_file(path: Path) -> str:
    """Spell a path so that FFmpeg takes it for a file: a colon in its name would end a protocol's name."""
    return f"file:{path}"


def orientation(frame: av.VideoFrame) -> str:
    """Say how a frame is shown, in words; "" as it is stored."""
    turns, mirrored = _turns(frame)
    words = [{1: "turned to the left", 2: "upside down", 3: "turned to the right"}[turns]] if turns else []
    return " and ".join(["mirrored"] * mirrored + words)


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Return (height, width) px of the image that `as_shown` gives."""
    return (frame.width, frame.height) if _turns(frame)[0] % 2 else (frame.height, frame.width)


def wide_bits(frame: av.VideoFrame) -> int:
    """Return how many bits of the 16-bit grey or RGB samples of a frame are significant, 0 where it has others.

    FFmpeg has names for samples of 10 and 12 bits; what comes from such a camera is often written as 16 all the same.
    """
    return significant_bits(_samples(frame)) if _is_wide(frame) else 0


def as_shown(frame: av.VideoFrame, least_bits: int = 0) -> np.ndarray:
    """Return the image as it is shown, (H, W, 3) uint8 RGB.

    least_bits: of 16-bit samples, as in `image_files.read_rgb`
    """
    turns, mirrored = _turns(frame)
    if _is_wide(frame):
        samples = _samples(frame)
        image = narrow(samples, max(least_bits, significant_bits(samples)))
    else:
        image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, turns))


def _is_wide(frame: av.VideoFrame) -> bool:
    pixels = frame.format
    return all(part.bits == 16 for part in pixels.components) and (pixels.is_rgb or len(pixels.components) == 1)


def _samples(frame: av.VideoFrame) -> np.ndarray:
    """Return (H, W, 3) uint16 RGB."""
    return np.ascontiguousarray(frame.to_ndarray(format="rgb48le"))


def _turns(frame: av.VideoFrame) -> tuple[int, bool]:
    """Return the quarter turns to the left, after mirroring left to right, with which a frame is shown."""
    sides = cast("SideDataContainer", frame.side_data)  # PyAV's stub knows it as a mapping of one key
    found = next((side for side in sides if side.type.name == "DISPLAYMATRIX"), None)
    if found is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5].astype(float)
    mirrored = bool(a * d < b * c)
    a, b = (-a, -b) if mirrored else (a, b)
    return round(-np.degrees(np.arctan2(b, a)) / 90) % 4, mirrored
