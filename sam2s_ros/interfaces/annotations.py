"""Outlines and captions of a frame as foxglove_msgs has them, where that is installed: the viewer draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from std_msgs.msg import Header

from sam2s_model.colours import colours_of
from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import State, Tracks
from sam2s_ros.overlay import LATE, WARNING_COLOUR, caption

try:
    from foxglove_msgs.msg import Color, ImageAnnotations, Point2, PointsAnnotation, TextAnnotation
except ImportError:  # PyPI has no foxglove_msgs
    ImageAnnotations = None

STRAIGHT = 0.5  # px that a line of an outline may pass beside the mask's border: fewer points, the same picture
FONT_SHARE = 1 / 45  # of the image's height, as the overlay's captions
LEAST_FONT = 10.0  # px


def annotations_message(tracks: Tracks, header: Header, labels: LabelSet, *, late: bool = False) -> ImageAnnotations:
    """Make the outlines of the masks, holes too, and a caption for each object, in the overlay's colours.

    Coordinates are px of the source image, where the corner of the first pixel is (0, 0). The message has no field for
    a state: lines of what is not TRACKED are thin, and its caption names the state. Objects without a mask are listed
    in the upper left corner. late: whether these masks came too late to act on, which a caption below then says
    """
    size = max(LEAST_FONT, tracks.size[0] * FONT_SHARE)
    colours = colours_of(tracks, labels)
    made = ImageAnnotations()
    hidden = 0
    for i in range(len(tracks)):
        colour = _colour(colours[int(tracks.labels[i])])
        thickness = size / 6 if tracks.states[i] == State.TRACKED else size / 12
        if tracks.areas[i]:
            x, y = (float(v) for v in tracks.boxes[i, :2])
        else:
            hidden += 1
            x, y = size / 2, hidden * 1.5 * size
        for points in _outlines(tracks, i):
            made.points.append(
                PointsAnnotation(
                    timestamp=header.stamp, type=PointsAnnotation.LINE_LOOP, points=points, outline_color=colour,
                    thickness=thickness,
                )
            )  # fmt: skip
        made.texts.append(_text(header, caption(tracks, i), x, max(y, size), size, colour))
    if late:
        made.texts.append(_text(header, LATE, size / 2, tracks.size[0] - size / 2, size, _colour(WARNING_COLOUR)))
    return made


def _text(header: Header, text: str, x: float, y: float, size: float, colour: Color) -> TextAnnotation:
    return TextAnnotation(
        timestamp=header.stamp, position=Point2(x=x, y=y), text=text, font_size=size, text_color=colour,
        background_color=Color(a=0.7),
    )  # fmt: skip


def _colour(rgb: Sequence[int]) -> Color:
    """Make an opaque colour. rgb: 0..255"""
    return Color(a=1.0, **dict(zip("rgb", (float(v) / 255 for v in rgb), strict=True)))


def _outlines(tracks: Tracks, i: int) -> Iterator[list[Point2]]:
    """Find the borders of a mask and of its holes, through the centres of the pixels there."""
    x0, y0, x1, y1 = (int(v) for v in tracks.boxes[i])
    inside = (tracks.label_map[y0:y1, x0:x1] == tracks.labels[i]).view(np.uint8)
    found, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE) if inside.size else ((), None)
    for border in found:
        corners = cv2.approxPolyDP(border, STRAIGHT, True)[:, 0] + (x0 + 0.5, y0 + 0.5)
        yield [Point2(x=float(x), y=float(y)) for x, y in corners]
