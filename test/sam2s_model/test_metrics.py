"""J and F against implementations that follow the definitions, pixel by pixel."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.metrics import boundary_f, iou

DAVIS = Path(__file__).parents[3] / "shared" / "data" / "davis"


def outline(mask: np.ndarray) -> list[tuple[int, int]]:
    """DAVIS's boundary map: shifted copies padded with zeros, then its special cases for the last row and column."""
    height, width = mask.shape
    get = lambda y, x: bool(mask[y, x]) if y < height and x < width else False  # noqa: E731
    points = []
    for y in range(height):
        for x in range(width):
            if (y, x) == (height - 1, width - 1):
                continue
            east, south, both = (get(y, x) ^ get(*other) for other in ((y, x + 1), (y + 1, x), (y + 1, x + 1)))
            if (east if y == height - 1 else south if x == width - 1 else east or south or both):
                points.append((y, x))
    return points


def by_definition(predicted: np.ndarray, truth: np.ndarray) -> float:
    reach = math.ceil(0.008 * math.sqrt(predicted.shape[0] ** 2 + predicted.shape[1] ** 2))
    own, other = outline(predicted), outline(truth)

    def share(points, targets):
        if not points:
            return 1.0
        apart = np.array(points)[:, None] - np.array(targets).reshape(1, -1, 2)
        return float(((apart**2).sum(2) <= reach**2).any(1).mean())

    if bool(own) != bool(other):
        precision, recall = (0.0, 1.0) if own else (1.0, 0.0)
    else:
        precision, recall = share(own, other), share(other, own)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), rng.uniform(1, 5))
    return noise > rng.uniform(0, 1.5) * noise.std()


@pytest.mark.parametrize("shape", [(24, 31), (60, 80), (150, 140)])
def test_f_is_what_its_definition_says(shape):
    rng = np.random.default_rng(0)
    for _ in range(4):
        truth = blobs(rng, *shape)
        moved = np.roll(truth, rng.integers(-3, 4, 2), (0, 1)) ^ (rng.random(shape) < 0.003)
        for predicted in (moved, blobs(rng, *shape)):
            assert boundary_f(predicted, truth) == pytest.approx(by_definition(predicted, truth), abs=1e-12)


def test_empty_and_full_masks():
    empty, full, dot = np.zeros((20, 30), bool), np.ones((20, 30), bool), np.zeros((20, 30), bool)
    dot[10, 10] = True
    for predicted in (empty, full, dot):
        for truth in (empty, full, dot):
            assert boundary_f(predicted, truth) == by_definition(predicted, truth)
    assert boundary_f(empty, empty) == iou(empty, empty) == 1.0 and boundary_f(dot, empty) == iou(dot, empty) == 0.0
    assert iou(dot, full) == 1 / 600


def test_void_pixels_do_not_count():
    truth, void = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    truth[5:20, 5:20] = True
    void[:, 20:] = True
    predicted = truth | void
    assert iou(predicted, truth) < 0.5 and iou(predicted, truth, void) == 1.0
    assert boundary_f(predicted, truth) < 1.0 and boundary_f(predicted, truth, void) == 1.0


def test_masks_of_different_shapes_are_refused():
    for measure in (iou, boundary_f):
        with pytest.raises(ValueError, match=r"masks have shapes \(3, 4\) and \(4, 3\): expected the same"):
            measure(np.zeros((3, 4), bool), np.zeros((4, 3), bool))


def test_f_on_a_real_outline():
    paths = sorted(DAVIS.glob("camel/masks/*.png"))[:2]
    if not paths:
        pytest.skip("no DAVIS sequences beside the repository")
    first, second = (cv2.imread(str(p), cv2.IMREAD_GRAYSCALE)[100:300, 250:450] > 0 for p in paths)
    assert 0.3 < boundary_f(second, first) < 1 and boundary_f(second, first) == pytest.approx(by_definition(second, first))
