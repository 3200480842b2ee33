"""Draw masks, ids, classes and states on a picture, for people."""

from __future__ import annotations

import cv2
import numpy as np

from sam2s_model.colours import UNKNOWN_CLASS, instance_colour
from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import State, Tracks

_FONT = cv2.FONT_HERSHEY_SIMPLEX
LATE = "LATE: do not act on these masks"
WARNING_COLOUR = (255, 80, 80)


def draw_overlay(
    image: np.ndarray, tracks: Tracks, labels: LabelSet, *, alpha: float = 0.45, late: bool = False
) -> np.ndarray:
    """Return a copy of the image with the objects drawn on it.

    image: (H, W, 3) uint8 RGB, the one that `tracks` was made from
    alpha: 0..1, opacity of the masks
    labels: colours of the classes, of which each object has a shade of its own
    late: whether these masks came too late to act on, which is then written in the lower left corner

    Raises ValueError when image and tracks differ in size. Suspect masks are only outlined, objects without
    a mask are listed in the upper left corner.
    """
    if image.shape[:2] != tracks.size:
        raise ValueError(f"image of {image.shape[:2]} and masks of {tracks.size} (H, W): expected one size")
    drawn = image.copy()
    colors = {c.id: c.color for c in labels.classes}
    scale = max(0.4, image.shape[0] / 1080)  # text of about 2 % of the height
    hidden = []
    for i in range(len(tracks)):
        of_class = colors.get(int(tracks.class_ids[i]), UNKNOWN_CLASS)
        color = instance_colour(of_class, int(tracks.object_ids[i]))
        if tracks.areas[i] == 0:
            hidden.append((caption(tracks, i), color))
            continue
        _draw_mask(drawn, tracks, i, color, 0.0 if tracks.states[i] == State.SUSPECT else alpha, scale)
        x0, y0 = int(tracks.boxes[i, 0]), int(tracks.boxes[i, 1])
        _write(drawn, caption(tracks, i), x0, y0 - round(6 * scale), color, scale)
    for line, (text, color) in enumerate(hidden):
        _write(drawn, text, round(8 * scale), round((line + 1) * 30 * scale), color, scale)
    if late:
        _write(drawn, LATE, round(8 * scale), image.shape[0], WARNING_COLOUR, scale)
    return drawn


def caption(tracks: Tracks, i: int) -> str:
    """Return id and class of an object, and its state unless that is TRACKED."""
    state = int(tracks.states[i])
    named = f"{tracks.object_ids[i]} {tracks.class_names[i]}"
    if state == State.TRACKED:
        return named
    return f"{named} {State(state).name}" if state in list(State) else f"{named} state {state}"


def _draw_mask(drawn, tracks, i, color, alpha, scale):
    x0, y0, x1, y1 = (int(v) for v in tracks.boxes[i])
    inside = (tracks.label_map[y0:y1, x0:x1] == tracks.labels[i]).view(np.uint8)
    part = drawn[y0:y1, x0:x1]
    if alpha > 0:
        cv2.copyTo(cv2.addWeighted(part, 1 - alpha, np.full_like(part, color), alpha, 0.0), inside, part)
    outline, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # Drawn on the whole picture, since a line is wider than the box that holds the mask.
    cv2.drawContours(drawn, outline, -1, color, max(1, round(2 * scale)), cv2.LINE_AA, offset=(x0, y0))


def _write(drawn, text, x, y, color, scale):
    thickness = max(1, round(1.5 * scale))
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thickness)
    x = min(max(0, x), max(0, drawn.shape[1] - width))
    y = min(max(height, y), drawn.shape[0] - below)
    cv2.rectangle(drawn, (x, y - height), (x + width, y + below), (0, 0, 0), -1)  # legible on any ground
    cv2.putText(drawn, text, (x, y), _FONT, scale, color, thickness, cv2.LINE_AA)
