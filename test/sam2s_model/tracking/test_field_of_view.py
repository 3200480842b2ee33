"""The endoscope's field: against the scene's exact one, and no surround where there is none."""

from __future__ import annotations

import functools
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from sam2s_model.errors import ImageError
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.field_of_view import endoscope_field

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@functools.cache
def picture(height: int, width: int, seed: int) -> np.ndarray:
    return Scene(SceneConfig(width=width, height=height, seed=seed, field="full", instruments=0))[0].image.clip(60)


def photo(height: int = 480, width: int = 640, seed: int = 0) -> np.ndarray:
    """A bright full-frame picture, (height, width, 3) uint8."""
    return picture(height, width, seed).copy()


def read(path: Path, number: int = 0) -> np.ndarray:
    """Frame of a video, or image of a folder, RGB. Skips where the shared data are absent."""
    if not path.exists():
        pytest.skip(reason=f"{path} is absent")
    if path.is_dir():
        bgr = cv2.imread(str(sorted(path.iterdir())[number]))
    else:
        capture = cv2.VideoCapture(str(path))
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        bgr = capture.read()[1]
    assert bgr is not None, path
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize(
    ("size", "seed"),
    [
        ((640, 512), 0),
        ((640, 512), 1),
        ((640, 512), 2),
        ((1280, 720), 3),
        ((512, 640), 4),
        ((161, 129), 5),
        ((320, 256), 6),
        ((97, 64), 8),
        ((400, 300), 9),
    ],
)
def test_agrees_with_the_exact_field(size, seed):
    scene = Scene(SceneConfig(width=size[0], height=size[1], seed=seed, frames=1000))
    field = endoscope_field(scene[100 * seed + 30].image)
    assert field.shape == size[::-1] and field.dtype == bool
    assert iou(field, scene.field) >= 0.98


@settings(max_examples=15)
@given(
    seed=st.integers(0, 30),
    radius=st.floats(0.42, 0.62),
    x=st.floats(-0.12, 0.12),
    y=st.floats(-0.12, 0.12),
    smoke=st.floats(0, 1),
    noise=st.floats(0, 1),
    index=st.integers(0, 999),
)
def test_offset_and_cut_circles(seed, radius, x, y, smoke, noise, index):
    config = SceneConfig(
        width=200,
        height=160,
        seed=seed,
        frames=1000,
        smoke=smoke,
        noise=noise,
        field_radius=radius,
        field_x=x,
        field_y=y,
    )
    scene = Scene(config)
    assert iou(endoscope_field(scene[index].image), scene.field) >= 0.97


@pytest.mark.parametrize("seed", range(8))
def test_full_frames_have_no_surround(seed):
    scene = Scene(SceneConfig(width=320, height=240, seed=seed, field="full", frames=1000))
    for index in (0, 40, 100 * seed):
        assert endoscope_field(scene[index].image).all()


@settings(max_examples=40)
@given(
    points=st.lists(st.tuples(st.integers(-40, 360), st.integers(-40, 280)), min_size=3, max_size=5),
    dark=st.integers(0, 25),
    breadth=st.integers(10, 80),
    seed=st.integers(0, 3),
)
def test_dark_instruments_in_full_frames_are_no_surround(points, dark, breadth, seed):
    image = photo(240, 320, seed)
    for start, end in pairwise(points):
        cv2.line(image, start, end, (dark, dark, dark), breadth)
    assert endoscope_field(image).all()


@pytest.mark.parametrize("corners", [1, 2, 3, 4])
def test_dark_corners_with_straight_or_soft_edges_are_no_surround(corners):
    straight, soft = photo(), photo()
    y, x = np.mgrid[:480, :640]
    for n in range(corners):
        cx, cy = (0, 0, 639, 639)[n], (0, 479, 0, 479)[n]
        straight[(abs(x - cx) < 90) & (abs(y - cy) < 90)] = 4
        light = np.clip((np.hypot(x - cx, y - cy) - 40) / 260, 0, 1)[:, :, None]
        soft = (soft * light).astype(np.uint8)
    assert endoscope_field(soft).all()
    if corners == 1:  # three or four cut corners may well be an endoscope's octagon
        assert endoscope_field(straight).all()


def test_vignette_is_no_surround():
    y, x = np.mgrid[:480, :640]
    light = 1 / (1 + (np.hypot(x - 320, y - 240) / 220) ** 4)
    assert endoscope_field((photo() * light[:, :, None]).astype(np.uint8)).all()


@pytest.mark.parametrize("value", [0, 12, 128, 255])
def test_even_images_are_all_field(value):
    assert endoscope_field(np.full((72, 96, 3), value, np.uint8)).all()


def test_specks_and_text_in_the_surround_do_not_matter():
    scene = Scene(SceneConfig(seed=2))
    image = scene[0].image.copy()
    rng = np.random.default_rng(0)
    y, x = np.nonzero(~scene.field)
    specks = rng.choice(len(y), 40)
    image[y[specks], x[specks]] = 255
    cv2.putText(image, "12:30", (545, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    assert iou(endoscope_field(image), scene.field) >= 0.98


def test_black_pixels_inside_do_not_matter():
    scene = Scene(SceneConfig(seed=4))
    image = scene[0].image.copy()
    image[250:262, 100:400] = 0
    image[200:330, 20:120] = 0  # a black instrument over the rim
    assert iou(endoscope_field(image), scene.field) >= 0.98


@pytest.mark.parametrize("bars", [(0, 24), (24, 0), (30, 30)])
def test_black_bars_cut_the_circle(bars):
    scene = Scene(SceneConfig(seed=1, field_radius=0.6))
    image, expected = scene[0].image.copy(), scene.field
    top, bottom = bars[0], 512 - bars[1]
    image[:top], image[bottom:] = 0, 0
    expected[:top], expected[bottom:] = False, False
    assert iou(endoscope_field(image), expected) >= 0.98


def test_octagon():
    image = photo()
    expected = np.zeros((480, 640), np.uint8)
    points = np.array([(170, 0), (470, 0), (619, 120), (619, 360), (470, 479), (170, 479), (20, 360), (20, 120)])
    cv2.fillConvexPoly(expected, points, 1)
    image[expected == 0] = 3
    assert iou(endoscope_field(image), expected > 0) >= 0.98


@pytest.mark.parametrize("folder", ["davinci/s1", "davinci/s2", "davinci/s5", "davis/bmx-trees", "davis/soapbox"])
def test_real_full_frames(folder):
    for number in range(0, 60, 12):
        assert endoscope_field(read(DATA / folder / "frames", number)).all()


@pytest.mark.parametrize("number", [0, 30, 60, 100, 150, 240])
def test_real_circle(number):
    """The clip's circle wanders a little, and the frame cuts it above and below. Dark without, lit right within."""
    image = read(DATA / "laparoscopy_clip" / "endo.mp4", number)
    field = endoscope_field(image)
    near, far = (cv2.dilate((~field).astype(np.uint8), np.ones((size, size), np.uint8)) > 0 for size in (7, 15))
    without = cv2.erode((~field).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    peak = image.max(axis=2)
    assert 0.80 < field.mean() < 0.85
    assert np.percentile(peak[without], 99.5) < 40
    assert np.median(peak[far & ~near & field]) > 45


def test_wrong_images_are_refused():
    for image, words in [
        (np.zeros((4, 4), np.uint8), r"uint8 \(4, 4\)"),
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \(0, 4, 3\)"),
        ([1], "list"),
    ]:
        with pytest.raises(ImageError, match=f"image is {words}: expected an array"):
            endoscope_field(image)


@pytest.mark.parametrize("size", [(1, 1), (5, 900), (15, 15), (64, 64), (17, 16)])
def test_any_size(size):
    width, height = size
    for image in (np.full((height, width, 3), 90, np.uint8), np.zeros((height, width, 3), np.uint8)):
        assert endoscope_field(image).all() and endoscope_field(image).shape == (height, width)


def test_views_need_no_copy():
    image = Scene(SceneConfig(seed=1))[0].image
    view = np.ascontiguousarray(image[:, :, ::-1])[:, :, ::-1]
    assert np.array_equal(endoscope_field(view), endoscope_field(image))


def test_costs_little_more_than_a_blur(cost):
    image = Scene(SceneConfig(width=1280, height=720, seed=1))[0].image
    ratio = cost(
        lambda: endoscope_field(image),
        lambda: cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 3),
    )
    assert ratio < 6  # 1.1 to 1.9, on a busy machine too
