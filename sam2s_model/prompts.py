"""What a person or a controller says about an object: points, a box or a mask, and a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.prompting.strokes import MOST_STROKES, MOST_VERTICES, Stroke, drawn, points_of

NEGATIVE, POSITIVE = 0, 1
LEAST_BOX = 2.0  # px, of each side: smaller ones are fractions of the image's size, or nothing that can be seen


@dataclass(frozen=True)
class Prompt:
    """One object's prompt. Coordinates are pixels of the source image: x right, y down, the centre of
    the first pixel is (0, 0). A mask excludes points and box, a proposal all three; for an object that is tracked a
    class alone will do, and without an object a class alone stands for all its instances on the image.

    object_id: 0 for a new object, otherwise an object that is tracked
    class_name: a name of the label set; "" keeps the class; a new object has the one that the model's class head says,
        or the set's first
    points: (P, 2) float, x y, or None
    point_labels: (P,) int, 1 on the object, 0 not on it
    box: (4,) float, x0 y0 x1 y1, or None
    mask: (H, W) bool, or numbers of which 0 and one other occur; or None
    proposal_id: 0, or a proposal of the tracker, see `Tracker.discover`, whose mask is the prompt, on its own image
    granularity: how much of what points or a box show is meant, from 0.1, its smallest part, to 1, the whole; 0:
        not given
    strokes: lines on the object or not on it, which become points by arc length, beside `points`
    tube: mask or strokes are of a vessel, suture or catheter: the skeleton prompts the model, which gives the mask
    """

    object_id: int = 0
    class_name: str = ""
    points: np.ndarray | None = None
    point_labels: np.ndarray | None = None
    box: np.ndarray | None = None
    mask: np.ndarray | None = None
    proposal_id: int = 0
    granularity: float = 0.0
    strokes: tuple[Stroke, ...] = ()
    tube: bool = False

    @property
    def gives_place(self) -> bool:
        """Whether it says itself where the object is."""
        given = (self.points, self.point_labels, self.box, self.mask)
        return bool(self.strokes) or any(v is not None and np.size(v) for v in given)

    @property
    def only_names(self) -> bool:
        """Whether it gives an object that is tracked a class, and nothing else."""
        return bool(self.object_id and self.class_name) and not (self.gives_place or self.proposal_id)

    @property
    def asks_for_class(self) -> bool:
        """Whether it asks for all instances of a class."""
        shows = self.object_id or self.gives_place or self.proposal_id or self.granularity or self.tube
        return bool(self.class_name) and not shows

    def validated(self, height: int, width: int) -> Prompt:
        """Return the prompt with its arrays in their canonical types, checked against an image's size.

        Raises RequestError (INVALID_PROMPT, EMPTY_REQUEST) naming the value and the limit.
        """
        lines = _checked(self.strokes, self.tube, height, width)
        drawing = self.tube and bool(lines) and self.mask is None
        points, labels = _points(self.points, self.point_labels, height, width)
        if lines and not drawing:
            points, labels = _with_strokes(points, labels, lines, height, width)
        box = _box(self.box, height, width)
        mask = _mask(drawn(lines, height, width) if drawing else self.mask, height, width)
        if points is None and box is None and mask is None and not self.only_names:
            raise RequestError(
                ErrorCode.EMPTY_REQUEST, "a prompt has no points, no strokes, no box and no mask: give one of them"
            )
        if mask is not None and (points is not None or box is not None):
            raise _invalid("a prompt has a mask and also points or a box: give a mask alone, or points and a box")
        granularity = float(self.granularity)
        if not 0 <= granularity <= 1:  # False for NaN as well
            raise _invalid(f"granularity is {granularity:g}: expected 0 (not given) to 1 (the whole)")
        if granularity and points is None and box is None:
            raise _invalid(
                f"granularity is {granularity:g} without points and box: give one of them, of which it says how much"
            )
        if not self.object_id and points is not None and box is None and not (labels == POSITIVE).any():
            raise _invalid(
                f"a new object has {len(points)} points, all of them negative (not on it): give one that is on it, "
                "or a box, or the id of the object that is to be corrected"
            )
        if self.tube and mask is None:
            raise _invalid("tube is true without mask and strokes: give those of the vessel, suture or catheter")
        if self.tube and find_spec("skimage") is None:
            raise _invalid("tube is true, and scikit-image is not installed: pip install 'sam2s_ros[tubes]'")
        return Prompt(
            self.object_id, self.class_name, points, labels, box, mask, granularity=granularity, tube=bool(self.tube)
        )


def _invalid(message: str) -> RequestError:
    return RequestError(ErrorCode.INVALID_PROMPT, message)


def _numbers(values, name: str) -> np.ndarray:
    """Return float32 of what numpy makes numbers of. Raises RequestError for words and uneven lists."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise _invalid(f"{name} {values!r:.60} are no numbers: {error}") from error


def _checked(strokes: Sequence[Stroke], tube: bool, height: int, width: int) -> list[Stroke]:
    """Check strokes against an image's size; their points become float32."""
    if len(strokes) > MOST_STROKES and not tube:
        raise _invalid(f"{len(strokes)} strokes: expected at most {MOST_STROKES}, or tube true for a tree of them")
    checked = []
    for stroke in strokes:
        line = _numbers(stroke.points, "points of a stroke")
        if line.ndim != 2 or line.shape[1:] != (2,) or not 0 < len(line) <= MOST_VERTICES:
            raise _invalid(f"a stroke has points of shape {line.shape}: expected (V, 2), V from 1 to {MOST_VERTICES}")
        _points(line, np.full(len(line), stroke.label), height, width)
        checked.append(Stroke(line, int(stroke.label)))
    return checked


def _with_strokes(points, labels, strokes: Sequence[Stroke], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Add what strokes say to points and their labels, which may be None."""
    along = points_of([stroke.points for stroke in strokes], height, width)
    said = [np.full(len(line), stroke.label, np.int64) for line, stroke in zip(along, strokes, strict=True)]
    if points is not None:
        along, said = [points, *along], [labels, *said]
    return np.concatenate(along), np.concatenate(said)


def _points(points, labels, height, width):
    points = np.zeros((0, 2), np.float32) if points is None else _numbers(points, "points")
    labels = np.zeros((0,), np.int64) if labels is None else np.asarray(labels)
    if points.size == 0 and labels.size == 0:
        return None, None
    if points.ndim != 2 or points.shape[1] != 2:
        raise _invalid(f"points have shape {points.shape}: expected (P, 2)")
    if labels.shape != (len(points),):
        raise _invalid(f"{len(points)} points but {labels.size} point labels: give one label for each point")
    wrong = labels[(labels != NEGATIVE) & (labels != POSITIVE)]
    if wrong.size:
        raise _invalid(f"point label {wrong[0]}: expected {POSITIVE} (on the object) or {NEGATIVE} (not on it)")
    for x, y in points:
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):  # False for NaN as well
            raise _invalid(
                f"point ({x:g}, {y:g}) is outside the image: expected 0 <= x <= {width - 1} and 0 <= y <= {height - 1}"
            )
        if 0 < x < 1 and 0 < y < 1:
            raise _invalid(
                f"point ({x:g}, {y:g}) is within the first pixel: expected px of the image, not fractions of its size"
            )
    off = {(float(x), float(y)) for x, y in points[labels == NEGATIVE]}
    for x, y in points[labels == POSITIVE]:
        if (float(x), float(y)) in off:
            raise _invalid(f"point ({x:g}, {y:g}) is given twice, on the object and not on it: give one of them")
    return points, labels.astype(np.int64)


def _box(box, height, width):
    box = np.zeros((0,), np.float32) if box is None else _numbers(box, "box")
    if box.size == 0:
        return None
    if box.shape != (4,):
        raise _invalid(f"box has shape {box.shape}: expected 4 numbers, x0 y0 x1 y1")
    x0, y0, x1, y1 = (float(v) for v in box)
    shown = f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    if not np.isfinite(box).all():
        raise _invalid(f"{shown} is not finite")
    if not (x0 < x1 and y0 < y1):
        raise _invalid(f"{shown} is empty: expected x0 < x1 and y0 < y1")
    if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
        raise _invalid(f"{shown} is outside the image: expected 0 <= x <= {width} and 0 <= y <= {height}")
    if min(x1 - x0, y1 - y0) < min(LEAST_BOX, width, height):
        raise _invalid(
            f"{shown} is {x1 - x0:g} x {y1 - y0:g} px: expected at least {LEAST_BOX:g} on each side; coordinates are "
            "px of the image, not fractions of its size"
        )
    return box


def _mask(mask, height, width):
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.shape != (height, width):
        raise _invalid(f"mask has shape {mask.shape}: expected the image's, ({height}, {width})")
    mask = as_mask(mask)
    if not mask.any():
        raise _invalid("the mask is empty: expected at least one pixel on the object")
    return mask


def as_mask(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool of an array of bool, or of numbers of which 0 and one other occur.

    Raises RequestError for numbers that leave it unclear where the object is: logits, probabilities, grey edges,
    several labels.
    """
    if mask.dtype == bool:
        return mask
    expected = "expected bool, or 0 and 1 (0 and 255)"
    if mask.dtype.kind == "c":
        raise _invalid(f"mask is {mask.dtype}: {expected}")
    try:
        finite = bool(np.isfinite(mask).all())
    except TypeError:
        raise _invalid(f"mask is {mask.dtype}: {expected}") from None
    if not finite:
        raise _invalid(f"the mask has values that are not finite: {expected}")
    values = np.unique(mask)
    given = values[values != 0]
    if len(given) <= 1 and (given > 0).all() and (given == np.round(given)).all():
        return mask != 0
    low, high, count = values[0], values[-1], len(values)
    if low < 0:
        hint = "logits? give mask > 0"
    elif high <= 1:
        hint = "probabilities? give mask > 0.5"
    elif count <= 8 and (values == np.round(values)).all():
        hint = "labels of several objects? give mask == label"
    else:
        hint = f"grey edges or probabilities? give mask >= {high / 2:g}"
    raise _invalid(f"the mask has {count} values from {low:g} to {high:g}: {expected}; {hint}")
