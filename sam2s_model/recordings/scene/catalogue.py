"""What each class of instrument looks like: its shaft, wrist and jaws or tip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sam2s_model.recordings.scene.parts import (
    CERAMIC,
    MATTE,
    STEEL,
    Canvas,
    Colour,
    Edge,
    Finish,
    ToolPart,
    bar,
    blade,
    disc,
)

_STEEL_TINTS = ((176, 178, 184), (160, 164, 172), (188, 184, 176))
_SHAFTS = ((52, 54, 58), (70, 74, 82), (34, 36, 40), (104, 108, 118))


@dataclass(frozen=True, eq=False)
class Kit:
    """The parts of one instrument. Lengths are units (shaft diameters).

    jaws: one or two parts at the wrist's end, the first drawn first; opening: (least, most) angle of each jaw to the
    middle (rad), (0, 0) where there is one rigid tip; bend: most angle of the wrist (rad).
    """

    shaft: ToolPart
    wrist: ToolPart
    jaws: tuple[ToolPart, ...]
    wrist_length: float
    opening: tuple[float, float]
    bend: float


def make(name: str, rng: np.random.Generator, scale: float, shaft_length: float, blood: float) -> Kit:
    """Draw the kit of one class. scale: px a unit; shaft_length: units; blood: 0 to 1, stains."""
    style = _Style(rng, scale, shaft_length, blood)
    return CLASSES[name](style)


def _shaded(colour: Colour, share: float) -> Colour:
    red, green, blue = colour
    return int(share * red), int(share * green), int(share * blue)


class _Style:
    """What the parts of one instrument share: colours, scale, stains."""

    def __init__(self, rng: np.random.Generator, scale: float, shaft_length: float, blood: float):
        self.rng, self.scale, self.shaft_length, self.blood = rng, scale, shaft_length, blood
        self.steel: Colour = _STEEL_TINTS[int(rng.integers(len(_STEEL_TINTS)))]
        self.dark: Colour = _SHAFTS[int(rng.integers(len(_SHAFTS)))]

    def part(self, canvas: Canvas, finish: Finish = STEEL, reach: float = 0.3) -> ToolPart:
        return canvas.finish(finish, self.rng, self.blood, reach)

    def shaft(self, colour: Colour, finish: Finish, band: Colour | None, collar: Colour | None) -> ToolPart:
        """Draw a tube that ends at the origin, a little wider towards the camera, with a collar and a coloured band."""
        far, half = -self.shaft_length, 0.5
        wide = half * (1 + 0.022 * self.shaft_length)
        canvas = Canvas((far, -wide - 0.1, 0.25, wide + 0.1), self.scale)
        canvas.solid(bar(far - 1, 0.0, wide, half), colour, half)
        if collar:
            outline = [(-0.75, -half), (0.05, -half), (0.22, -0.3), (0.22, 0.3), (0.05, half), (-0.75, half)]
            canvas.solid(outline, collar, half)
            canvas.stripe(bar(-0.78, -0.70, half), (24, 24, 26), 0.04)
        if band:
            canvas.stripe(bar(-1.7, -1.35, half * 1.05), band)
        for mark in range(4, int(self.shaft_length), 4):  # depth marks
            canvas.stripe(bar(-mark - 0.06, -mark, half * 1.2), _shaded(colour, 0.6))
        return self.part(canvas, finish)

    def clevis(self, length: float, half: float, pin: float = 0.16) -> ToolPart:
        """Draw the fork between shaft and jaws, with its pin."""
        canvas = Canvas((-0.35, -half - 0.15, length + 0.4, half + 0.15), self.scale)
        outline = [
            (-0.25, -half * 0.85),
            (0.3, -half),
            (length, -half * 0.8),
            (length + 0.3, -half * 0.4),
            (length + 0.3, half * 0.4),
            (length, half * 0.8),
            (0.3, half),
            (-0.25, half * 0.85),
        ]
        canvas.solid(outline, self.steel, 0.22)
        canvas.stripe(bar(0.25, length * 0.8, 0.06), (40, 40, 44), 0.08)
        canvas.solid(disc(length, 0, pin), _shaded(self.steel, 0.75), 0.12, 0.1)
        canvas.stripe(disc(length, 0, pin * 0.4), (30, 30, 32), 0.06)
        canvas.solid(disc(0.0, 0, pin), _shaded(self.steel, 0.8), 0.12, 0.1)
        return self.part(canvas)

    def jaw(
        self, length: float, outer: Edge, inner: Edge, side: int, dress: Callable[[Canvas], None], bevel: float
    ) -> ToolPart:
        """Draw one jaw.

        outer, inner: its edges' distance (units) from the middle line over 0 to 1; side: -1 above, 1 below
        dress: cuts and paints it
        """
        most = max(0.45, float(np.max(np.abs(outer(np.linspace(0, 1, 33))))) + 0.2)
        canvas = Canvas((-0.35, -most, length + 0.15, most), self.scale)
        canvas.solid(disc(0, 0, 0.26), self.steel, 0.2)
        canvas.solid(blade(length, lambda s: side * outer(s), lambda s: side * inner(s)), self.steel, bevel)
        dress(canvas)
        return self.part(canvas, reach=0.0)


def _pair(jaw: Callable[[int], ToolPart]) -> tuple[ToolPart, ToolPart]:
    return jaw(1), jaw(-1)


def _forceps(style: _Style) -> Kit:
    """Fenestrated grasping forceps: long blunt jaws with a window and teeth."""

    def jaw(side: int) -> ToolPart:
        def dress(canvas: Canvas) -> None:
            window = np.array([(0.6, 0.16), (0.75, 0.12), (1.6, 0.12), (1.7, 0.17), (1.6, 0.23), (0.75, 0.25)])
            canvas.hole(window * (1, side))
            for x in np.arange(0.45, 2.05, 0.14):
                canvas.stripe([(x, 0), (x + 0.06, 0), (x + 0.06, side * 0.09), (x, side * 0.09)], (60, 60, 64), 0.05)

        def outer(s):
            return 0.36 * np.sqrt(1 - np.maximum(0, (s - 0.8) / 0.2) ** 2) - 0.08 * s

        return style.jaw(2.15, outer, lambda s: 0.02 + 0 * s, side, dress, bevel=0.16)

    band = ((200, 40, 44), (36, 86, 176), (226, 180, 40))[int(style.rng.integers(3))]
    shaft = style.shaft(style.dark, MATTE, band, style.steel)
    return Kit(shaft, style.clevis(0.95, 0.40), _pair(jaw), 0.95, (0.02, 0.42), 0.7)


def _scissors(style: _Style) -> Kit:
    """Curved scissors: two pointed smooth blades that swing apart on a large screw."""

    def jaw(side: int) -> ToolPart:
        # both blades bend to the same side
        def outer(s):
            return 0.30 * (1 - s**1.6) + 0.02 - side * 0.34 * s * s

        def inner(s):
            return -0.05 * (1 - s) - side * 0.34 * s * s

        def dress(canvas: Canvas) -> None:
            edge = blade(2.3, lambda s: side * inner(s), lambda s: side * (inner(s) + 0.05))
            canvas.stripe(edge, (232, 234, 238))

        return style.jaw(2.3, outer, inner, side, dress, bevel=0.12)

    shaft = style.shaft((28, 29, 32), MATTE, None, (224, 118, 32))
    return Kit(shaft, style.clevis(0.8, 0.36, pin=0.24), _pair(jaw), 0.8, (0.0, 0.5), 0.6)


def _needle_driver(style: _Style) -> Kit:
    """Needle driver: short, stout jaws with cross-hatched golden inserts, on a heavy steel shaft."""
    gold = (206, 164, 78)

    def jaw(side: int) -> ToolPart:
        def dress(canvas: Canvas) -> None:
            canvas.stripe([(0.25, 0), (1.25, 0), (1.2, side * 0.2), (0.25, side * 0.2)], gold)
            for x in np.arange(0.3, 1.2, 0.11):
                groove = [(x, 0), (x + 0.03, 0), (x + 0.13, side * 0.2), (x + 0.1, side * 0.2)]
                canvas.stripe(groove, (110, 84, 36), 0.04)

        return style.jaw(1.35, lambda s: 0.44 - 0.2 * s - 0.1 * s**6, lambda s: 0.0 * s, side, dress, bevel=0.2)

    shaft = style.shaft(style.steel, STEEL, gold, None)
    return Kit(shaft, style.clevis(1.35, 0.46, pin=0.14), _pair(jaw), 1.35, (0.0, 0.36), 0.6)


def _hook(style: _Style) -> Kit:
    """Monopolar cautery hook: an L of wire out of an ivory sleeve."""
    sleeve = Canvas((-0.35, -0.5, 1.5, 0.5), style.scale)
    outline = [(-0.25, -0.34), (1.1, -0.30), (1.35, -0.14), (1.35, 0.14), (1.1, 0.30), (-0.25, 0.34)]
    sleeve.solid(outline, (222, 212, 186), 0.3)
    sleeve.stripe(bar(0.1, 0.2, 0.34), (150, 140, 118), 0.04)
    wire = Canvas((-0.2, -0.4, 1.6, 1.2), style.scale)
    outline = [
        (-0.15, -0.10),
        (1.05, -0.10),
        (1.28, -0.04),
        (1.36, 0.14),
        (1.32, 0.86),
        (1.22, 0.92),
        (1.13, 0.86),
        (1.15, 0.22),
        (1.08, 0.11),
        (0.95, 0.10),
        (-0.15, 0.10),
    ]
    wire.solid(outline, style.steel, 0.1)
    wire.stripe([(1.1, 0.55), (1.4, 0.55), (1.4, 1.0), (1.1, 1.0)], (70, 52, 42))  # charred end
    shaft = style.shaft((24, 25, 28), MATTE, None, (36, 38, 42))
    return Kit(shaft, style.part(sleeve, CERAMIC, 1.5), (style.part(wire, STEEL, 0.4),), 1.3, (0.0, 0.0), 0.4)


def _suction(style: _Style) -> Kit:
    """Suction and irrigation tube: bright steel, open end, side holes."""
    tube = Canvas((-0.4, -0.5, 2.4, 0.5), style.scale)
    tube.solid([(-0.3, -0.38), (2.15, -0.38), (2.25, -0.2), (2.25, 0.2), (2.15, 0.38), (-0.3, 0.38)], style.steel, 0.38)
    for n, x in enumerate((0.7, 1.05, 1.4, 1.75)):
        tube.stripe(disc(x, 0.16 if n % 2 else -0.14, 0.10), (22, 18, 18), 0.06)
    mouth = Canvas((-0.2, -0.5, 0.4, 0.5), style.scale)
    mouth.solid(disc(0, 0, 0.37) * (0.45, 1), style.steel, 0.1)
    mouth.stripe(disc(0.02, 0, 0.28) * (0.45, 1), (20, 12, 12), 0.1)
    shaft = style.shaft(style.steel, STEEL, None, None)
    return Kit(shaft, style.part(tube, STEEL, 1.6), (style.part(mouth, STEEL, 0.0),), 2.2, (0.0, 0.0), 0.0)


def _bipolar(style: _Style) -> Kit:
    """Bipolar forceps: thin tapering tines with white insulation, on a blue shaft."""

    def jaw(side: int) -> ToolPart:
        def dress(canvas: Canvas) -> None:
            canvas.stripe(blade(1.0, lambda s: side * 0.5 + 0 * s, lambda s: -0.5 * side + 0 * s), (232, 232, 226))

        def outer(s):
            return 0.24 + 0.20 * np.sin(np.pi * np.minimum(s * 1.15, 1)) * (1 - 0.4 * s) - 0.12 * s

        def inner(s):
            return 0.01 + 0.14 * np.sin(np.pi * s) * (1 - 0.4 * s)

        return style.jaw(2.4, outer, inner, side, dress, bevel=0.12)

    shaft = style.shaft(
        ((34, 74, 150), (40, 110, 140))[int(style.rng.integers(2))], CERAMIC, (230, 230, 226), style.steel
    )
    return Kit(shaft, style.clevis(0.7, 0.34), _pair(jaw), 0.7, (0.03, 0.34), 0.6)


# the order is the class id, from 1
CLASSES: dict[str, Callable[[_Style], Kit]] = {
    "forceps": _forceps,
    "scissors": _scissors,
    "needle_driver": _needle_driver,
    "hook": _hook,
    "suction": _suction,
    "bipolar": _bipolar,
}
CLASS_IDS: dict[str, int] = {name: number for number, name in enumerate(CLASSES, start=1)}
