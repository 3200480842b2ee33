"""Short clips with exact masks, drawn from the procedural scene while training runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from sam2s_model.scene import Scene, SceneConfig

POOL = 256  # clips to choose from at a step: a clip is seen a few times, augmented anew, before it goes
TEST_SEEDS = 1000  # scenes with smaller seeds are for tests and evaluation


@dataclass(frozen=True)
class Clip:
    """images: (T, S, S, 3) uint8 RGB; labels: (T, S, S) uint8, 0 none, 1.. instruments, 255 outside the field."""

    images: np.ndarray
    labels: np.ndarray

    def __getitem__(self, frames: slice) -> Clip:
        return Clip(self.images[frames], self.labels[frames])


def batch(seed: int, step: int, *, fresh: int, frames: int, length: int, size: int) -> list[Clip]:
    """The clips of a training step: a function of its arguments alone, so that a resumed run sees the same.

    fresh: clips drawn anew at each step; frames: images in the batch; length: T, frames of each clip; size: S, px
    """
    rng = np.random.default_rng((seed, step))
    clips = []
    for _ in range(frames // length):
        drawn = _cached(seed, step * fresh + int(rng.integers(POOL)), max(length, 4), size)
        first = int(rng.integers(len(drawn.images) - length + 1))
        clips.append(augment(rng, drawn[first : first + length]))
    return clips


@lru_cache(maxsize=POOL + 64)
def _cached(seed: int, number: int, length: int, size: int) -> Clip:
    return draw_clip(np.random.default_rng((seed, number)), length, size)


def draw_clip(rng: np.random.Generator, length: int, size: int) -> Clip:
    """A clip of a scene nobody has seen: random look, proportions, field, motion and frame distance.

    length: T, frames; size: S, px. The scene is drawn with its own aspect ratio and then resized to a square, as the
    tracker does with real images.
    """
    config = SceneConfig(
        width=int(rng.choice([1.0, 1.25, 1.78]) * size),
        height=size,
        frames=1_000_000,
        seed=int(rng.integers(TEST_SEEDS, 2**40)),
        instruments=int(rng.choice([1, 2, 2, 3])),
        event_period=float(rng.uniform(4, 20)),
        smoke=float(rng.uniform(0, 0.8)),
        blood=float(rng.uniform(0, 0.9)),
        camera_motion=float(rng.uniform(0, 1)),
        noise=float(rng.uniform(0, 0.8)),
        field=str(rng.choice(["circle", "full"])),
        field_radius=float(rng.uniform(0.45, 0.75)),
    )
    scene = Scene(config)
    start, stride = int(rng.integers(0, 2000)), int(rng.choice([1, 2, 4, 8, 16]))
    frames = [scene[start + i * stride] for i in range(length)]
    if rng.random() < 0.3:  # time has no direction
        frames.reverse()
    return Clip(
        np.stack([cv2.resize(f.image, (size, size), interpolation=cv2.INTER_AREA) for f in frames]),
        np.stack([cv2.resize(f.labels, (size, size), interpolation=cv2.INTER_NEAREST) for f in frames]),
    )


def augment(rng: np.random.Generator, clip: Clip) -> Clip:
    """Mirror, change gain, gamma, saturation and colour balance; the same for all frames."""
    images, labels = clip.images, clip.labels
    for axis in (1, 2):
        if rng.random() < 0.5:
            images, labels = np.flip(images, axis), np.flip(labels, axis)
    x = images.astype(np.float32) / 255
    gray = x.mean(axis=-1, keepdims=True)
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.5, 1.4)
    x = gray + saturation * (x - gray)
    x = np.clip(x * rng.uniform(0.6, 1.4) * rng.uniform(0.85, 1.15, 3).astype(np.float32), 0, 1)
    return Clip((255 * x ** rng.uniform(0.7, 1.4)).astype(np.uint8), np.ascontiguousarray(labels))
