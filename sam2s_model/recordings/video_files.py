"""Video files as players show them: under any name, turned and mirrored as the file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np

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


def as_shown(frame: av.VideoFrame) -> np.ndarray:
    """Return the image as it is shown, (H, W, 3) uint8 RGB."""
    turns, mirrored = _turns(frame)
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, turns))


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
