"""A frame with a grid of pixel coordinates, for a person who is to say where an object is."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import cv2
import numpy as np

STEPS = (10, 20, 50, 100, 200, 500, 1000, 2000)  # px of the image between two lines
MOST_LINES = 14  # along the longer side
LEAST_SIDE = 960  # px of the picture's longer side, so that numbers of small images can be read
MARGIN = 44  # px around, for the numbers
LINE, TEXT = (255, 255, 0), (235, 235, 235)


def write_pixel_grid(image: np.ndarray, folder: Path, name: str = "first_frame") -> Path:
    """Write folder/name.png, or name_2.png, ... where there is one already. Returns its path. Raises OSError.

    image: (H, W, 3) uint8 RGB
    """
    folder.mkdir(parents=True, exist_ok=True)
    others = (folder / f"{name}_{number}.png" for number in count(2))
    path = folder / f"{name}.png"
    while path.exists():
        path = next(others)
    if not cv2.imwrite(str(path), cv2.cvtColor(draw_pixel_grid(image), cv2.COLOR_RGB2BGR)):
        raise OSError(f"{path} could not be written")
    return path


def draw_pixel_grid(image: np.ndarray) -> np.ndarray:
    """Return a picture, (h, w, 3) uint8 RGB, of the image with lines at round coordinates, and their numbers around.

    A small image is enlarged by a whole number; the numbers are px of the image itself.
    """
    height, width = image.shape[:2]
    scale = max(1, round(LEAST_SIDE / max(height, width)))
    step = next((step for step in STEPS if max(height, width) / step <= MOST_LINES), STEPS[-1])
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    lines = large.copy()
    xs, ys = range(0, width, step), range(0, height, step)
    for x in xs:
        lines[:, x * scale] = LINE
    for y in ys:
        lines[y * scale] = LINE
    drawn = cv2.copyMakeBorder(cv2.addWeighted(large, 0.6, lines, 0.4, 0), MARGIN, 8, MARGIN, 8, cv2.BORDER_CONSTANT)
    for x in xs:
        _write(drawn, str(x), MARGIN + x * scale, MARGIN - 12)
    for y in ys:
        _write(drawn, str(y), MARGIN // 2, MARGIN + y * scale + 5)
    return drawn


def _write(drawn: np.ndarray, text: str, middle: int, bottom: int) -> None:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    cv2.putText(drawn, text, (middle - width // 2, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.45, TEXT, 1, cv2.LINE_AA)
