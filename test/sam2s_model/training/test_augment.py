"""What augmentation does to a clip: image, labels and features stay together, and frames stay alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sam2s_model.training.augment import ColourChange, draw_geometry
from sam2s_model.training.data_config import NO_AUGMENTATION, AugmentConfig

STILL = dataclasses.replace(AugmentConfig(), jitter=0.0)


def scene(height: int = 120, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red says where a disc is, and the disc's labels."""
    y, x = np.ogrid[:height, :width]
    labels = ((x - 90) ** 2 + (y - 50) ** 2 < 30**2).astype(np.uint8)
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 255 * labels
    return image, labels


@pytest.mark.parametrize("seed", range(8))
def test_image_labels_and_features_move_together(seed):
    geometry = draw_geometry(np.random.default_rng(seed), AugmentConfig(), 2, focus=(90 / 160, 50 / 120))
    image, labels = scene()
    features = labels[None, ::4, ::4].repeat(5, 0).astype(np.float32)
    for t in range(2):
        seen, mask = geometry.warp(t, image, 96), geometry.warp(t, labels, 96, nearest=True)
        assert seen.shape == (96, 96, 3) and mask.shape == (96, 96) and mask.dtype == np.uint8
        assert np.mean((seen[..., 0] > 127) == (mask > 0)) > 0.98
        small = geometry.warp_features(t, np.stack([f[:30, :30] for f in features]))
        assert small.shape == (5, 30, 30) and small.dtype == np.float16


def test_features_are_warped_like_the_image():
    rng = np.random.default_rng(0)
    geometry = draw_geometry(rng, STILL, 1)
    smooth = np.linspace(0, 200, 32)[None] + np.linspace(0, 50, 32)[:, None]
    image = np.repeat(smooth[..., None], 3, axis=2).astype(np.uint8)
    features = geometry.warp_features(0, image.transpose(2, 0, 1).astype(np.float16))
    assert np.abs(features[0] - geometry.warp(0, image, 32)[..., 0]).max() <= 1.5


def test_without_augmentation_the_whole_image_is_resized():
    image, labels = scene(96, 96)
    geometry, look = (make(np.random.default_rng(0), NO_AUGMENTATION, 3) for make in (draw_geometry, ColourChange))
    for t in range(3):
        assert (look.apply(t, geometry.warp(t, image, 96)) == image).all()
        assert (geometry.warp(t, labels, 96, nearest=True) == labels).all()


def test_the_first_frame_shows_the_focus():
    for seed in range(60):
        geometry = draw_geometry(np.random.default_rng(seed), AugmentConfig(), 1, focus=(0.9, 0.1))
        linear, offset = geometry.matrices[0][:, :2], geometry.matrices[0][:, 2]
        place = np.linalg.solve(linear, np.array([0.9, 0.1]) - offset)
        assert ((place > -0.02) & (place < 1.02)).all()


def test_frames_jitter_a_little_and_stills_move_on():
    geometry = draw_geometry(np.random.default_rng(1), AugmentConfig(), 8)
    moved = np.abs(np.diff(geometry.matrices[:, :, 2], axis=0))
    assert 0 < moved.max() < 0.1
    moving = draw_geometry(np.random.default_rng(1), STILL, 8, motion=0.06)
    assert np.abs(moving.matrices[-1, :, 2] - moving.matrices[0, :, 2]).max() > 0.05


def test_a_look_is_one_for_the_clip_with_a_flicker():
    rng = np.random.default_rng(0)
    image = rng.integers(60, 180, (64, 64, 3), dtype=np.uint8)
    for seed in range(10):
        look = ColourChange(np.random.default_rng(seed), dataclasses.replace(AugmentConfig(), highlights=0.0), 4)
        frames = [look.apply(t, image).astype(float).mean((0, 1)) for t in range(4)]
        assert np.ptp(frames, axis=0).max() < 25
    means = [ColourChange(np.random.default_rng(s), AugmentConfig(), 1).apply(0, image).mean() for s in range(20)]
    assert np.ptp(means) > 30


def test_gray_highlights_and_blur_do_what_they_say():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (64, 64, 3), dtype=np.uint8)
    gray = ColourChange(rng, dataclasses.replace(NO_AUGMENTATION, gray=1.0), 1).apply(0, image)
    assert np.ptp(gray.astype(int), axis=2).max() <= 1
    blurred = ColourChange(rng, dataclasses.replace(NO_AUGMENTATION, blur=1.0), 1).apply(
        0, np.repeat(image, 8, 0).repeat(8, 1)
    )
    assert blurred.std() < image.std()
    dark = np.zeros((128, 128, 3), np.uint8)
    shiny = ColourChange(rng, dataclasses.replace(NO_AUGMENTATION, highlights=1.0), 1).apply(0, dark)
    assert 0 < np.mean(shiny > 60) < 0.3


def test_noise_is_of_the_clip_and_different_on_each_frame():
    grey = np.full((64, 64, 3), 128, np.uint8)
    config = dataclasses.replace(AugmentConfig(), colour=0.0, gray=0.0, blur=0.0, highlights=0.0, noise=0.05)
    spread = []
    for seed in range(30):
        look = ColourChange(np.random.default_rng(seed), config, 2)
        first, second = look.apply(0, grey).astype(float), look.apply(1, grey).astype(float)
        assert (look.apply(0, grey) == first).all() and abs(first.mean() - 128) < 1.5
        assert first.std() < 1 or (first != second).any()
        spread.append(first.std())
    assert max(spread) <= 0.055 * 255 and max(spread) > 4 * min(spread)
