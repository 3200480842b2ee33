"""What a scene is made of: one frozen dataclass, from Python or from a ``scene:`` URI."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from sam2s_model.recordings.scene.catalogue import CLASS_IDS
from sam2s_model.similar import meant

OUTSIDE = 255  # label of pixels outside the endoscope's field
MAX_INSTRUMENTS = 6


class SceneError(ValueError):
    """A scene was described with an unknown key or a value out of its range."""


def _option(default: typing.Any, doc: str, low: float | None = None, high: float | None = None, choices: tuple = ()):
    return field(default=default, metadata=dict(doc=doc, low=low, high=high, choices=choices))


@dataclass(frozen=True)
class SceneConfig:
    """Size, length and content of a scene. Raises SceneError for a value out of its (inclusive) limits.

    Motion is defined in seconds, so the same seed at another frame rate shows the same operation.
    """

    width: int = _option(640, "px", 64, 8192)
    height: int = _option(512, "px", 64, 8192)
    frames: int = _option(120, "length; a longer scene costs nothing until its frames are drawn", 1, 10**9)
    fps: float = _option(25.0, "frames per second", 0.1, 1000.0)
    seed: int = _option(0, "choice of tissue, colours, instruments and motion", 0, 2**63 - 1)
    instruments: int = _option(2, "how many; 0 shows the same tissue without them", 0, MAX_INSTRUMENTS)
    classes: str = _option("", "class names of the instruments in order, comma separated; empty: chosen by the seed")
    event_period: float = _option(4.8, "s in which two instruments cross, and one leaves and returns", 0.5, 3600.0)
    absence: float = _option(
        0.0, "s that the one that leaves stays away in addition; the period is longer by that", 0.0, 3600.0
    )
    smoke: float = _option(0.45, "density", 0.0, 1.0)
    blood: float = _option(0.4, "on tissue and instruments", 0.0, 1.0)
    camera_motion: float = _option(0.4, "pan, zoom, rotation and tremor", 0.0, 1.0)
    blur: float = _option(0.5, "motion blur of instruments, passing defocus; masks stay sharp", 0.0, 1.0)
    noise: float = _option(0.4, "sensor noise", 0.0, 1.0)
    thin: str = _option(
        "", "a structure a few px wide on the tissue: a tree of vessels, or a suture", choices=("", "vessels", "suture")
    )
    field: str = _option("circle", "circle leaves black corners, full fills the frame", choices=("circle", "full"))
    field_radius: float = _option(0.55, "of the circle, in shorter image sides; over 0.5 the frame cuts it", 0.3, 1.0)
    field_x: float = _option(0.0, "shift of the circle's centre to the right, in image widths", -0.3, 0.3)
    field_y: float = _option(0.0, "shift of the circle's centre downwards, in image heights", -0.3, 0.3)

    def __post_init__(self):
        for spec in dataclasses.fields(self):
            self._check(spec)
        for name in self.class_names:
            if name not in CLASS_IDS:
                raise SceneError(f"classes has {name!r}: expected names out of {', '.join(CLASS_IDS)}")
        # without instruments the names stay, so that the same scene can be drawn empty
        if self.class_names and self.instruments not in (0, len(self.class_names)):
            count = len(self.class_names)
            raise SceneError(f"classes has {count} names: expected {self.instruments}, one an instrument")

    @classmethod
    def from_uri(cls, uri: str) -> SceneConfig:
        """Read ``scene:?width=640&height=512&frames=120&seed=0``; keys left out have their defaults.

        Raises SceneError for another scheme, an unknown or repeated key, or a value of the wrong type or range.
        """
        head, _, query = uri.partition("?")
        if head not in ("scene:", "scene://"):
            raise SceneError(f"{uri!r} is not a scene: expected scene:?width=640&height=512&frames=120&seed=0")
        types = typing.get_type_hints(cls)
        values: dict[str, typing.Any] = {}
        for item in filter(None, query.split("&")):
            pairs = parse_qsl(item, keep_blank_values=True) if "=" in item else []
            key, text = pairs[0] if pairs else (item, None)
            if key not in types:
                known = ", ".join(types) + meant(key, types)
                raise SceneError(f"{key!r} is not an option of a scene: expected one of {known}")
            if text is None:
                raise SceneError(f"{key} has no value: expected {key}=VALUE")
            if key in values:
                raise SceneError(f"{key} is given twice in {uri!r}: expected once")
            try:
                values[key] = types[key](text)
            except ValueError:
                raise SceneError(f"{key} is {text!r}: expected a value of type {types[key].__name__}") from None
        return cls(**values)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names in ``classes``; empty where the seed chooses."""
        return tuple(name.strip() for name in self.classes.split(",")) if self.classes else ()

    @property
    def unit(self) -> int:
        """The shorter image side in px: what lengths in the scene are measured in."""
        return min(self.width, self.height)

    @property
    def field_circle(self) -> tuple[float, float, float]:
        """Centre x, centre y and radius (px, pixel centres) of the endoscope's circular field.

        With field ``full`` the circle around the frame: used for light and motion, nothing lies outside.
        """
        if self.field == "full":
            return (self.width - 1) / 2, (self.height - 1) / 2, math.hypot(self.width, self.height) / 2
        x = (self.width - 1) / 2 + self.field_x * self.width
        y = (self.height - 1) / 2 + self.field_y * self.height
        return x, y, self.field_radius * self.unit

    def _check(self, spec: dataclasses.Field) -> None:
        value, limits = getattr(self, spec.name), spec.metadata
        types: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
        wanted = types[str(spec.type)]
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise SceneError(f"{spec.name} is {value!r}: expected a value of type {spec.type}")
        if limits["choices"] and value not in limits["choices"]:
            raise SceneError(f"{spec.name} is {value!r}: expected one of {', '.join(map(repr, limits['choices']))}")
        # written so that NaN fails too
        if limits["low"] is not None and not limits["low"] <= value <= limits["high"]:
            raise SceneError(f"{spec.name} is {value!r}: expected {limits['low']} to {limits['high']}")
