"""The metrics against implementations that follow the definitions, pixel by pixel or frame by frame."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from sam2s_model import metrics
from sam2s_model.metrics import areas, boundary_f, challenge_iou, dice, iou, mean_class_iou, mean_iou

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
            if east if y == height - 1 else south if x == width - 1 else east or south or both:
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


@pytest.mark.parametrize("shape", [(24, 31), (60, 80), pytest.param((150, 140), marks=pytest.mark.full)])
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
    assert 0.3 < boundary_f(second, first) < 1 and boundary_f(second, first) == pytest.approx(
        by_definition(second, first)
    )


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
SERIES = st.lists(st.tuples(st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]), st.booleans()), max_size=12)


@st.composite
def mask_triples(draw):
    """Predicted, truth and void of one shape, small enough to be anything."""
    return tuple(draw(arrays(bool, shape)) for shape in [draw(SHAPES)] * 3)


@settings(max_examples=60)
@given(mask_triples())
def test_j_f_and_dice_of_any_masks(masks):
    predicted, truth, void = masks
    own, other = ({tuple(p) for p in np.argwhere(m & ~void)} for m in (predicted, truth))
    assert iou(predicted, truth, void) == pytest.approx(
        len(own & other) / len(own | other) if own | other else 1.0, abs=1e-12
    )
    assert dice(predicted, truth, void) == pytest.approx(
        2 * len(own & other) / (len(own) + len(other)) if own or other else 1.0
    )
    expected = by_definition(predicted & ~void, truth & ~void)
    assert boundary_f(predicted, truth, void) == pytest.approx(expected, abs=1e-12)
    assert boundary_f(truth, predicted, void) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.2))
def test_f_with_any_reach(seed, tolerance):
    """What is within reach is what a disc of that radius covers, also far from the 3 to 9 px of usual images."""
    rng = np.random.default_rng(seed)
    truth, predicted = blobs(rng, 50, 64), blobs(rng, 50, 64)
    reach = math.ceil(tolerance * math.hypot(50, 64))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (x**2 + y**2 <= reach**2).astype(np.uint8)
    lines = [np.zeros((50, 64), np.uint8) for _ in range(2)]
    for line, mask in zip(lines, (predicted, truth), strict=True):
        for place in outline(mask):
            line[place] = 1
    own, other = lines
    if own.any() and other.any():
        precision, recall = (a[cv2.dilate(b, disc) > 0].sum() / a.sum() for a, b in ((own, other), (other, own)))
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert boundary_f(predicted, truth, tolerance=tolerance) == pytest.approx(expected, abs=1e-12)


def test_f_costs_little_more_than_the_dilation_of_both_masks(cost):
    rng = np.random.default_rng(1)
    truth, predicted = (cv2.resize(blobs(rng, 48, 85).astype(np.uint8), (854, 480)) > 0 for _ in range(2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (17, 17))  # 0.008 of the diagonal to each side
    masks = truth.astype(np.uint8), predicted.astype(np.uint8)
    ratio = cost(lambda: boundary_f(predicted, truth), lambda: [cv2.dilate(mask, disc) for mask in masks])
    print(f"F at 854x480: {ratio:.1f} times two dilations")
    assert ratio < 5  # 1.1 to 1.7, on a busy machine too


def label_maps(seed: int, frames: int = 5, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(T, H, W) label images of some of the classes; some frames are empty."""
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, classes + 1, (2, frames, 6, 7)) * (rng.random((2, frames, 6, 7)) < 0.5)
    maps[:, :, :, 3:][maps[:, :, :, 3:] == rng.integers(1, classes + 1)] = 0
    return maps[0] * (rng.random((frames, 1, 1)) < 0.8), maps[1] * (rng.random((frames, 1, 1)) < 0.8)


@pytest.mark.parametrize("seed", range(8))
def test_class_figures_frame_by_frame(seed):
    predicted, truth = label_maps(seed)
    table = areas(*(np.stack([maps == c for c in range(1, 5)], axis=1) for maps in (predicted, truth)))
    in_frame, of_class, sums = [], {c: [] for c in range(1, 5)}, {c: [0, 0] for c in range(1, 5)}
    for p, t in zip(predicted, truth, strict=True):
        challenge = []
        for c in range(1, 5):
            both, either = np.sum((p == c) & (t == c)), np.sum((p == c) | (t == c))
            sums[c][0] += both
            sums[c][1] += either
            if either:
                of_class[c].append(both / either)
            if (t == c).any():
                challenge.append(both / either)
        in_frame.append(np.mean(challenge) if challenge else np.nan)
    assert np.allclose(challenge_iou(table), in_frame, atol=1e-12, equal_nan=True)
    assert mean_class_iou(table) == pytest.approx(np.mean([np.mean(v) for v in of_class.values() if v]), abs=1e-12)
    assert mean_iou(table) == pytest.approx(
        np.mean([both / either for both, either in sums.values() if either]), abs=1e-12
    )


def test_class_figures_without_anything_are_not_numbers():
    nothing = np.zeros((3, 2, 3), np.int64)
    assert (
        np.isnan(challenge_iou(nothing)).all() and math.isnan(mean_class_iou(nothing)) and math.isnan(mean_iou(nothing))
    )
    with pytest.raises(ValueError, match="expected the same"):
        areas(np.zeros((1, 3, 4), bool), np.zeros((2, 3, 4), bool))


def test_void_pixels_belong_to_no_class():
    truth, void = np.zeros((1, 4, 4), bool), np.zeros((4, 4), bool)
    truth[0, :2], void[0] = True, True
    assert areas(np.ones((1, 4, 4), bool), truth, void).tolist() == [[4, 12, 4]]


def test_davis_scores_neither_the_first_nor_the_last_frame():
    assert (
        metrics.davis_scored([0, 30, 60, 180]) == [30, 60]
        and metrics.davis_scored([4]) == metrics.davis_scored([]) == []
    )
    assert metrics.j_and_f(0.5, 1.0) == 0.75


@given(SERIES)
def test_presence_counts_every_frame_once(series):
    found, there = np.array([i > 0 for i, _ in series], bool), np.array([t for _, t in series], bool)
    counted = metrics.presence(found, there)
    assert counted.hits + counted.misses + counted.absent == len(series) and counted.false <= counted.absent
    assert counted.hits == sum(f and t for f, t in zip(found, there, strict=True))
    shares = (counted.precision, counted.recall, counted.false_presence)
    for share, whole in zip(shares, (found.sum(), there.sum(), (~there).sum()), strict=True):
        assert math.isnan(share) if whole == 0 else 0 <= share <= 1
    if counted.hits:
        assert counted.f1 == pytest.approx(2 / (1 / counted.precision + 1 / counted.recall))


def test_presence_of_all_four_kinds():
    counted = metrics.presence([1, 1, 0, 1, 0], [1, 1, 1, 0, 0])
    assert (counted.hits, counted.misses, counted.false, counted.absent) == (2, 1, 1, 2)
    assert (counted.precision, counted.recall, counted.f1, counted.false_presence) == (2 / 3, 2 / 3, 2 / 3, 0.5)
    assert counted + counted == metrics.Presence(4, 2, 2, 4)


def test_an_object_is_matched_by_at_most_one_track():
    assert metrics.matches(np.array([[0.6, 0.3], [0.5, 0.2], [0.1, 0.9]])).tolist() == [0, -1, 1]
    assert metrics.matches(np.zeros((2, 0))).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("matched", "switches"), [([], 0), ([3, 3, 3], 0), ([3, -1, 3], 0), ([3, -1, 4, 4, 3], 2), ([-1, 2, 1], 1)]
)
def test_id_switches(matched, switches):
    assert metrics.id_switches(matched) == switches


@pytest.mark.parametrize(
    ("ious", "present", "lengths", "open_end"),
    [
        ([1, 1, 1], [1, 1, 1], [], 0),
        ([1, 0, 0.5, 0.6], [1, 1, 1, 1], [20], 0),  # 0.5 is not above the limit
        ([1, 0, 1, 0], [1, 1, 0, 1], [], 1),  # the frame without the object ends nothing
        ([0, 0, 1, 0, 1], [0, 1, 1, 1, 1], [10, 10], 0),
    ],
)
def test_frames_to_recover(ious, present, lengths, open_end):
    assert metrics.frames_to_recover(ious, present, range(0, 10 * len(ious), 10)) == (lengths, open_end)
