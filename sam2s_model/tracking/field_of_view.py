"""Where the endoscope's picture is: the round field within a dark surround."""

from __future__ import annotations

import cv2
import numpy as np

from sam2s_model.errors import ImageError

_SIDE = 320  # px of the longer side of the reduced image that the search works on
_DARK = 30  # the brightest channel of a surround pixel is not above this (8 bit)
_CORNER = 0.02  # side of the patches that show whether a corner is dark, as a share of the longer side
_MISFIT = 0.012  # distance of an edge point to the circle up to which it supports it, as a share of the longer side
_SUPPORT = 0.6  # least share of the edge points that must support the circle
_ARC = np.pi / 3  # least angle of the circle that supporting points must cover
_STEP = 10  # the picture's edge is a step of at least this (8 bit) ...
_STEP_WIDTH = 3  # px of the reduced image to either side of the edge ...
_STEP_SHARE = 0.5  # over at least this share of its length. A vignette or a shadow has no such edge
_HULL_SUPPORT = 0.9  # least share of a field that is not round (cut corners) that bright pixels must outline
_REGION = 0.03  # smaller bright regions (share of the largest) are text or specks
_OUTSIDE_DARK = 0.97  # least share of dark pixels outside the field
_MIN_OUTSIDE = 0.01  # a smaller surround (share of the image) is none


def reduced(image: np.ndarray) -> np.ndarray:
    """Copy an image, (H, W, 3) uint8 RGB, as small as the search works on: `field_of_reduced` takes it later."""
    step = _step(image.shape[:2])
    return np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step]).copy()


def _step(size: tuple[int, int]) -> int:
    return max(1, round(max(size) / _SIDE))


def endoscope_field(image: np.ndarray) -> np.ndarray:
    """Find the endoscope's field of an image.

    image: (H, W, 3) uint8 RGB. Returns (H, W) bool, True inside the field: a circle, cut by the frame or by black
    bars where it is larger; or the octagon that some flexible endoscopes show. All True where there is no dark
    surround (at least two black corners, and a sharp round edge between them and the picture): a dark instrument or
    a shadow at the border of a full picture is none. A picture that is dark as a whole has no edge to find, and is
    all True too.

    Raises ImageError for another shape or type.
    """
    is_array = isinstance(image, np.ndarray)
    if not is_array or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        found = f"{image.dtype} {image.shape}" if is_array else type(image).__name__
        raise ImageError(f"image is {found}: expected an array (H, W, 3) uint8, RGB")
    return field_of_reduced(reduced(image), image.shape[:2])


def field_of_reduced(small: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Find the field as `endoscope_field` does, of an image of the size (H, W) of which only `reduced` was kept."""
    height, width = size
    step = _step(size)
    full = np.ones((height, width), bool)
    if min(small.shape[:2]) < 16:
        return full
    peak = cv2.medianBlur(np.maximum(np.maximum(small[:, :, 0], small[:, :, 1]), small[:, :, 2]), 3)
    bright = _bright(peak)
    dark = _dark_corners(bright)
    if dark < 2:
        return full
    edge, hull, support = _edge(bright)
    # pixel i of the reduced image is pixel i * step + step // 2 of the image
    circle = _fit_circle(edge, max(small.shape[:2]))
    if circle is not None:
        x, y, radius = circle
        bars = _bars(bright, circle)
        if _is_surround(peak, bright, _disc(small.shape[:2], circle, bars), _on_circle(circle), np.array([x, y])):
            left, top, right, bottom = bars
            bars = (
                left * step,
                top * step,
                right * step if right < small.shape[1] else width,
                bottom * step if bottom < small.shape[0] else height,
            )
            return _disc((height, width), (x * step + step // 2, y * step + step // 2, radius * step), bars)
    if dark == 4 and support >= _HULL_SUPPORT:
        inside = np.zeros_like(bright)
        cv2.fillConvexPoly(inside, hull, 1)
        if _is_surround(peak, bright, inside > 0, edge, edge.mean(axis=0)):
            return cv2.resize(inside, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    return full


def _bright(peak: np.ndarray) -> np.ndarray:
    """Mark (h, w) uint8 1 where the picture is: large bright regions, so that text in the surround does not count."""
    bright = (peak > _DARK).astype(np.uint8)
    _, regions, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    return (areas > _REGION * areas.max()).astype(np.uint8)[regions]


def _dark_corners(bright: np.ndarray) -> int:
    side = max(2, round(_CORNER * max(bright.shape)))
    ends = (slice(None, side), slice(-side, None))
    return sum(not bright[rows, columns].any() for rows in ends for columns in ends)


def _edge(bright: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Find the picture's edge.

    Returns points x, y (n, 2) float64 on it, without those on the frame; the convex hull of the picture (m, 1, 2)
    int32; the share of the hull's outline, without the frame, where there are such points.

    The edge is taken from the convex hull: the field is convex, so a dark organ or instrument at its rim only dents
    the bright region, and the hull bridges the dent.
    """
    height, width = bright.shape
    contours, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.empty((0, 2)), np.empty((0, 1, 2), np.int32), 0.0
    hull = cv2.convexHull(np.concatenate(contours))
    shape = np.zeros_like(bright)
    cv2.fillConvexPoly(shape, hull, 1)
    inner = cv2.erode(shape, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    rim = shape - inner.astype(np.uint8, copy=False)
    for side in (rim[:2], rim[-2:], rim[:, :2], rim[:, -2:]):
        side[:] = 0
    # the rim of a dent's chord carries no bright pixels
    y, x = np.nonzero(rim & bright)
    near = cv2.dilate(bright, np.ones((3, 3), np.uint8)).astype(np.uint8, copy=False)  # the hull is drawn a pixel apart
    outlined = int(np.count_nonzero(rim & near)) / max(1, int(np.count_nonzero(rim)))
    return np.stack([x, y], axis=-1).astype(np.float64), hull, outlined


def _is_surround(
    peak: np.ndarray, bright: np.ndarray, inside: np.ndarray, edge: np.ndarray, centre: np.ndarray
) -> bool:
    """Tell whether what lies outside is large and dark, and the edge (points x, y) around the centre is a step."""
    outside = ~inside
    count = np.count_nonzero(outside)
    if not _MIN_OUTSIDE <= count / outside.size <= 0.95:
        return False
    clear = cv2.erode(outside.astype(np.uint8), np.ones((3, 3), np.uint8))  # less the edge's own pixels
    if np.count_nonzero(bright & clear) > (1 - _OUTSIDE_DARK) * np.count_nonzero(clear):
        return False
    ray = edge - centre
    ray *= _STEP_WIDTH / np.maximum(np.hypot(ray[:, 0], ray[:, 1]), 1e-6)[:, None]
    inner, outer = np.round(edge - ray).astype(int), np.round(edge + ray).astype(int)
    size = peak.shape[::-1]
    seen = ((inner >= 0) & (inner < size) & (outer >= 0) & (outer < size)).all(axis=1)
    if np.count_nonzero(seen) < 8:
        return False
    inner, outer = inner[seen], outer[seen]
    rise = peak[inner[:, 1], inner[:, 0]].astype(int) - peak[outer[:, 1], outer[:, 0]]
    return bool(np.count_nonzero(rise >= _STEP) >= _STEP_SHARE * len(rise))


def _on_circle(circle: tuple[float, float, float]) -> np.ndarray:
    """Place (n, 2) points x, y around a circle."""
    angles = np.linspace(0, 2 * np.pi, 181)[:-1]
    return np.stack([circle[0] + circle[2] * np.cos(angles), circle[1] + circle[2] * np.sin(angles)], axis=-1)


def _fit_circle(edge: np.ndarray, side: int) -> tuple[float, float, float] | None:
    """Fit centre x, y and radius of the circle that most of the edge lies on, or None."""
    if len(edge) < 8:
        return None
    limit, kept, circle = max(1.0, _MISFIT * side), np.ones(len(edge), bool), _least_squares(edge)
    for tolerance in (4 * limit, 2 * limit, limit, limit):
        if circle is None:
            return None
        kept = np.abs(np.hypot(edge[:, 0] - circle[0], edge[:, 1] - circle[1]) - circle[2]) <= tolerance
        if np.count_nonzero(kept) < 8:
            return None
        circle = _least_squares(edge[kept])
    if circle is None:
        return None
    x, y, radius = circle
    if not 0.15 * side < radius < 1.0 * side or np.count_nonzero(kept) < _SUPPORT * len(edge):
        return None
    angles = np.sort(np.arctan2(edge[kept, 1] - y, edge[kept, 0] - x))
    sectors = np.unique(np.floor((angles + np.pi) / (np.pi / 18)))
    if len(sectors) * np.pi / 18 < _ARC:
        return None
    # bright pixel centres lie half a pixel within the edge
    return x, y, radius + 0.5


def _least_squares(points: np.ndarray) -> tuple[float, float, float] | None:
    middle = points.mean(axis=0)
    u, v = (points - middle).T
    matrix = np.stack([u, v, np.ones_like(u)], axis=-1)
    (a, b, c), _, rank, _ = np.linalg.lstsq(matrix, u * u + v * v, rcond=None)
    square = c + (a * a + b * b) / 4
    if rank < 3 or square <= 0:
        return None
    return float(middle[0] + a / 2), float(middle[1] + b / 2), float(np.sqrt(square))


def _bars(bright: np.ndarray, circle: tuple[float, float, float]) -> tuple[int, int, int, int]:
    """Find left, top, right, bottom (exclusive) of the rectangle that black bars leave, where they cut the circle."""
    height, width = bright.shape
    x, y, radius = circle
    left, right = _ends(np.count_nonzero(bright, axis=0), x, radius)
    top, bottom = _ends(np.count_nonzero(bright, axis=1), y, radius)
    return left, top, right, bottom


def _ends(counts: np.ndarray, centre: float, radius: float) -> tuple[int, int]:
    """Find the first and one past the last line of the picture. counts: bright pixels in each line across this axis."""
    filled = np.flatnonzero(counts)
    slack = 2  # px of the reduced image: thinner bars cannot be told from a dim rim

    def is_bar(line: int) -> bool:
        # a bar ends the picture straight, over most of the circle's chord; a dark organ leaves scraps beside it
        chord = 2 * np.sqrt(max(0.0, radius**2 - (line - centre) ** 2))
        return counts[line] > 0.6 * min(chord, counts.max())

    first, last = int(filled[0]), int(filled[-1])
    cut_first = first > max(0, centre - radius) + slack and is_bar(first + 1)
    cut_last = last + 1 < min(len(counts), centre + radius) - slack and is_bar(last - 1)
    return first if cut_first else 0, last + 1 if cut_last else len(counts)


def _disc(shape: tuple[int, int], circle: tuple[float, float, float], bars: tuple[int, int, int, int]) -> np.ndarray:
    height, width = shape
    x, y, radius = circle
    left, top, right, bottom = bars
    rows = (np.arange(height, dtype=np.float32)[:, None] - np.float32(y)) ** 2
    columns = (np.arange(width, dtype=np.float32)[None] - np.float32(x)) ** 2
    inside = rows + columns <= np.float32(radius * radius)
    inside[:top], inside[bottom:], inside[:, :left], inside[:, right:] = False, False, False, False
    return inside
