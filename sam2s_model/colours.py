"""A colour for each instance: the hue is the class's, the shade tells objects of one class apart."""

from __future__ import annotations

import colorsys

import numpy as np

from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import Tracks

UNKNOWN_CLASS = (255, 255, 255)  # a class that is not in the label set
GOLDEN = 0.618034  # of the circle of hues: whatever the number of steps, they stay apart
HUE_STEP = 0.045  # of the circle, 16 degrees: neighbours are told apart, and the class is still recognised
# Shift of the hue in steps, and factors of saturation and value. The first leaves the class's colour as it is.
SHADES = ((0, 1.0, 1.0), (2, 0.85, 1.0), (-2, 0.9, 0.95), (1, 0.5, 1.0), (-1, 1.0, 0.65), (0, 1.0, 0.45))


def instance_colour(class_colour: tuple[int, int, int], object_id: int) -> tuple[int, int, int]:
    """Return the RGB colour, 0..255 each, of an object of that class.

    Six ids in a row differ; object 1 has the class's own colour. A class without a hue (white, grey) lends none: its
    objects are shades of grey.
    """
    steps, saturation, value = SHADES[(object_id - 1) % len(SHADES)]
    h, s, v = colorsys.rgb_to_hsv(*(channel / 255 for channel in class_colour))
    shade = colorsys.hsv_to_rgb((h + steps * HUE_STEP) % 1, s * saturation, v * value)
    red, green, blue = (round(255 * channel) for channel in shade)
    return red, green, blue


def spread_colour(number: int) -> tuple[int, int, int]:
    """Return an RGB colour, 0..255 each, for a class that no label set gives one. number: 0, 1, 2, ..., which differ"""
    shade = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.75, 0.95)
    red, green, blue = (round(255 * channel) for channel in shade)
    return red, green, blue


def palette(colours: dict[int, tuple[int, int, int]]) -> np.ndarray:
    """Return a (256, 3) uint8 RGB palette for a label image: label -> colour; others black, 255 grey."""
    table = np.zeros((256, 3), np.uint8)
    table[255] = 64
    for label, colour in colours.items():
        table[label] = colour
    return table


def colours_of(tracks: Tracks, label_set: LabelSet) -> dict[int, tuple[int, int, int]]:
    """Return label -> RGB of each object: the hue is its class's, the shade its own."""
    of_class = {label.id: label.color for label in label_set.classes}
    found = zip(tracks.labels.tolist(), tracks.class_ids.tolist(), tracks.object_ids.tolist(), strict=True)
    return {label: instance_colour(of_class.get(c, UNKNOWN_CLASS), object_id) for label, c, object_id in found}


def coloured(tracks: Tracks, label_set: LabelSet) -> np.ndarray:
    """Return the label map of a frame as a picture: (H, W, 3) uint8 RGB, no object black, outside the field grey."""
    return palette(colours_of(tracks, label_set))[tracks.label_map]
