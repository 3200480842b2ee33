"""What the values in a recording's masks mean: decided once, from all of its masks, and described in one line."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_model.errors import ConfigError, SourceError

VOID = 255  # of label images: pixels that are not scored
HOW = ("auto", "labels", "binary")
LARGEST = 0.6  # share of all pixels up to which a label is not asked about
HALF = 128  # of binary masks with grey edges, and of lossy ones, everything from here on is the object
WHITE = 200  # the least value of the object in binary masks
GREY = (48, 207)  # between, a lossy binary mask has next to nothing
INSIDE, RAMP = (
    0.1,
    0.3,
)  # shares that tell a level of an edge: hardly any inside, and between a lower and a higher value
EDGES = 8  # values that lie along edges only, from which on masks are interpolated and no labels
MAX_GREY = 0.05  # share of a lossy binary mask's pixels above zero that may be grey
NEIGHBOURS = np.ones((3, 3), np.uint8)


@dataclass
class MaskStatistics:
    """Statistics of masks, by which it is decided how they are read: sums over masks.

    masks: read; odd: not readable, and why the first is not; lossy: of the masks, those of a lossy format
    pixels: of each value; inside: with equal neighbours only; ramp: with a lower and with a higher neighbour
    both, only_void, only_labels: masks with 255 and other values, with 255 alone, with other values alone
    corners: masks with 255 in all four corners; shapes: checksums of where 255 is
    """

    masks: int = 0
    odd: int = 0
    first_odd: str = ""
    lossy: int = 0
    pixels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    inside: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    ramp: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    both: int = 0
    only_void: int = 0
    only_labels: int = 0
    corners: int = 0
    shapes: set[int] = dataclasses.field(default_factory=set)

    @classmethod
    def of(cls, values: np.ndarray, lossy: bool = False) -> MaskStatistics:
        """Count one mask, (H, W) uint8."""
        pixels = _histogram(values)
        low, high = cv2.erode(values, NEIGHBOURS), cv2.dilate(values, NEIGHBOURS)
        between = cv2.bitwise_and(cv2.compare(low, values, cv2.CMP_LT), cv2.compare(values, high, cv2.CMP_LT))
        has_void, has_label = bool(pixels[VOID]), bool(pixels[1:VOID].any())
        corners = has_void and bool((values[[0, 0, -1, -1], [0, -1, 0, -1]] == VOID).all())
        return cls(
            masks=1, lossy=int(lossy), pixels=pixels,
            inside=_histogram(values, cv2.compare(low, high, cv2.CMP_EQ)), ramp=_histogram(values, between),
            both=int(has_void and has_label), only_void=int(has_void and not has_label),
            only_labels=int(has_label and not has_void), corners=int(corners),
            shapes={zlib.crc32(np.packbits(values == VOID).tobytes())} if has_void else set(),
        )  # fmt: skip

    @classmethod
    def of_odd(cls, reason: str) -> MaskStatistics:
        return cls(odd=1, first_odd=reason)

    @classmethod
    def sum(cls, parts: Iterable[MaskStatistics]) -> MaskStatistics:
        total = cls()
        for part in parts:
            for name in ("masks", "odd", "lossy", "both", "only_void", "only_labels", "corners"):
                setattr(total, name, getattr(total, name) + getattr(part, name))
            total.first_odd = total.first_odd or part.first_odd
            total.pixels += part.pixels
            total.inside += part.inside
            total.ramp += part.ramp
            if len(total.shapes) < 2:  # whether there is more than one is all that counts
                total.shapes |= part.shapes
        return total


def _histogram(values: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    return cv2.calcHist([values], [0], where, [256], [0, 256]).ravel().astype(np.int64)


@dataclass(frozen=True)
class MaskReading:
    """How the values of masks become labels.

    threshold: for binary masks the least value of the object; 0: values are labels
    values: that occur, ascending, without 0; why: for the line that says it
    told: 256 labels, what each value becomes, where that was told; empty: what `threshold` says
    """

    threshold: int
    values: tuple[int, ...]
    why: str
    told: bytes = b""

    @property
    def binary(self) -> bool:
        return self.threshold > 0

    def labels(self, values: np.ndarray) -> np.ndarray:
        """(H, W) uint8 labels of the values of a mask: 0 none, 255 void, other values are objects."""
        if self.told:
            return np.frombuffer(self.told, np.uint8)[values]
        return (values >= self.threshold).astype(np.uint8) if self.binary else values


def told_values(threshold: int = 0, objects: Sequence[int] = (), ignore: Sequence[int] = ()) -> MaskReading:
    """Read masks as a user says what their values are, so that nothing is guessed.

    threshold: values from this one on are one object, lower ones none; 0: values are labels, 255 void
    objects: values that are objects, others, 255 too, are none; empty: all; ignore: values that are void
    """
    values = np.arange(256, dtype=np.uint8)
    labels = (values >= threshold).astype(np.uint8) if threshold else values.copy()
    if objects:
        labels[~np.isin(values, objects)] = 0
    labels[list(ignore)] = VOID
    rules = [f"{threshold} and more is object 1"] * bool(threshold) + [f"{_some(sorted(objects))} are objects"] * bool(
        objects
    )
    rules += [f"{_some(sorted(ignore))} are void"] * bool(ignore)
    return MaskReading(0, (), f"values as told: {', '.join(rules)}", labels.tobytes())


def decide(found: MaskStatistics, how: str = "auto") -> MaskReading:
    """Decide how masks with these statistics are read.

    how: "labels" (values are objects, 255 is void), "binary" (one object), or "auto": binary where 255 is the only
        value, or the only one with an inside (grey edges); otherwise labels
    Raises ConfigError for another name, and SourceError for what can be neither, with what would help.
    """
    if how not in HOW:
        raise ConfigError(f"mask_values is {how!r}: expected one of {', '.join(HOW)}")
    values = np.flatnonzero(found.pixels[1:]) + 1
    listed = tuple(int(v) for v in values)
    if how == "labels":
        return MaskReading(0, listed, f"values are labels, as asked for{_objects(listed)}")
    if how == "binary":
        threshold = HALF if listed and listed[-1] >= HALF and not _mixed(found) else 1
        return MaskReading(threshold, listed, f"binary, as asked for: {threshold} and more is object 1")
    if not listed:
        return MaskReading(0, listed, "all masks are empty" if found.masks else "no mask can be read")
    if found.lossy:
        return _lossy(found, listed)
    edges, own = _apart(found, listed)
    if _is_smoothed(edges, own):
        return MaskReading(HALF, listed, f"binary with grey edges ({len(listed)} values): {HALF} and more is object 1")
    if _was_lossy(found, listed):
        return MaskReading(HALF, listed, f"binary from lossy files ({len(listed)} values): {HALF} and more is object 1")
    if len(edges) >= EDGES and len(edges) > len(own):
        raise SourceError(
            f"the masks have {len(listed)} values, {len(edges)} of them only along edges or in gradients, such as "
            f"{_some(edges)}: labels that were interpolated, or no masks at all; resize masks with nearest neighbour, "
            "or say mask_values labels or binary"
        )
    if listed == (VOID,):
        return _white(found, listed)
    if _mixed(found):
        others = _some([v for v in listed if v != VOID])
        raise SourceError(
            f"{found.only_void} masks have 255 alone and {found.only_labels} have {others}, none has both: 255 is the "
            "object in some or void in all; say mask_values labels (255 is void) or binary (it is the object)"
        )
    note = f"; {_some(edges)} only along edges: interpolated?" if edges and own else ""
    return MaskReading(0, listed, f"labels{_objects(listed)}{note}{_background(found)}")


def decide_object(found: MaskStatistics) -> MaskReading:
    """Decide how masks of a single object are read: what is not 0 is the object, but for grey edges.

    Raises SourceError as `decide` does.
    """
    listed = tuple(int(v) for v in np.flatnonzero(found.pixels[1:]) + 1)
    if found.lossy and listed:
        return _lossy(found, listed)
    if _is_smoothed(*_apart(found, listed)):
        return MaskReading(HALF, listed, f"an object in each file, with grey edges: {HALF} and more is the object")
    return MaskReading(1, listed, "an object in each file, whatever is not 0")


def _white(found: MaskStatistics, listed: tuple[int, ...]) -> MaskReading:
    """0 and 255: one object, unless 255 is the same frame around all images."""
    framed = found.corners == found.only_void
    if framed and found.only_void > 1 and len(found.shapes) == 1:
        return MaskReading(
            0,
            listed,
            "255 is the same border in all masks, which is void: no object (mask_values binary takes it for one)",
        )
    share = found.pixels[VOID] / found.pixels.sum()
    note = f"; it has all corners and {share:.0%} of the pixels: inverted?" if framed else ""
    return MaskReading(HALF, listed, f"binary, 255 is object 1{note}")


def _lossy(found: MaskStatistics, listed: tuple[int, ...]) -> MaskReading:
    if listed[-1] >= WHITE and _hardly_grey(found):
        return MaskReading(HALF, listed, f"lossy files, binary: {HALF} and more is object 1")
    raise SourceError(
        f"the masks are lossy files (jpg) with {len(listed)} values up to {listed[-1]}, and not near 0 and 255 alone: "
        "a lossy file does not keep labels; save them as PNG, or say mask_values binary"
    )


def _apart(found: MaskStatistics, listed: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Return the values that lie along edges only, and the others."""
    edges = [v for v in listed if _is_edge(found, v)]
    return edges, [v for v in listed if v not in edges]


def _is_smoothed(edges: list[int], own: list[int]) -> bool:
    """Whether only white has an inside, and there are levels between it and 0; a single level must be in the middle."""
    white = bool(own) and own[0] >= WHITE
    return white and (len(edges) > 1 or bool(edges) and GREY[0] <= edges[0] <= GREY[1])


def _was_lossy(found: MaskStatistics, listed: tuple[int, ...]) -> bool:
    """Whether values crowd just above 0 and just below 255, as in a JPEG of a binary mask, whatever its name is now."""
    low, high = ([v for v in listed if inside(v)] for inside in (lambda v: v < GREY[0], lambda v: GREY[1] < v < VOID))
    return (
        len(low) > 1 and len(high) > 1 and found.pixels[low].sum() < found.pixels[HALF:].sum() and _hardly_grey(found)
    )


def _hardly_grey(found: MaskStatistics) -> bool:
    """Whether grey is no more than the edges of what is white: of small objects, more in proportion."""
    white = found.pixels[HALF:].sum()
    return found.pixels[GREY[0] : GREY[1] + 1].sum() <= MAX_GREY * white + 4 * np.sqrt(white * found.masks)


def _is_edge(found: MaskStatistics, value: int) -> bool:
    count = found.pixels[value]
    return bool(found.inside[value] <= INSIDE * count and found.ramp[value] >= RAMP * count)


def _mixed(found: MaskStatistics) -> bool:
    return bool(found.only_void and found.only_labels and not found.both and found.corners < found.only_void)


def _objects(listed: tuple[int, ...]) -> str:
    objects = [v for v in listed if v != VOID]
    what = f": {_some(objects)} {'is an object' if len(objects) == 1 else 'are objects'}" if objects else ": no object"
    return what + (", 255 is void" if VOID in listed else "")


def _background(found: MaskStatistics) -> str:
    """Ask about a label with most of all pixels, "" where there is none: instruments are smaller."""
    share = found.pixels[1:VOID] / found.pixels.sum()
    most = int(share.argmax())
    return f"; {most + 1} has {share[most]:.0%} of the pixels: the background?" if share[most] > LARGEST else ""


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values)) if len(values) <= 8 else f"{', '.join(map(str, values[:6]))} ... {values[-1]}"
