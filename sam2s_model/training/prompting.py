"""Simulated prompts (SAM2, arXiv 2408.00714 app. D): what a person would have said of an object, drawn from its mask.

All points are pixels of the mask, x y, whole numbers; the random generator alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam2s_model.network.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, NEGATIVE, POSITIVE
from sam2s_model.training.config import PromptConfig

KINDS = ("mask", "box", "point", "labels")


@dataclass(frozen=True)
class Plan:
    """The prompts of a batch's objects, and when they come.

    kind: of the first frame's prompt, or "labels": of each later frame, the labels of the first
    corrected: frames on which clicks follow; from_truth: those are on the object
    hard: clicks of the first frame are where the masks of student and teacher differ, and the teacher answers all
        clicks, too: the hard prompts of TinySAM (arXiv 2312.13789 sec. 3.2)
    """

    kind: str
    corrected: tuple[int, ...]
    from_truth: bool
    hard: bool = False


def draw_plan(rng: np.random.Generator, config: PromptConfig, length: int) -> Plan:
    """Draw the prompts of a batch of clips of `length` frames."""
    mask = 0.0 if length == 1 and config.images_without_mask else config.mask
    odds = np.array([mask, config.box, config.point, config.labels if length > 1 else 0.0])
    kind = str(rng.choice(KINDS, p=odds / odds.sum()))
    correct, from_truth = rng.random() < config.correct, rng.random() < config.click_from_truth
    corrected: list[int] = []
    if correct and config.clicks and config.corrected_frames and kind != "labels":
        count = int(rng.integers(1, config.corrected_frames + 1))
        if kind != "mask":  # a mask leaves nothing to correct on its own frame
            corrected.append(0)
        later = 1 + rng.permutation(length - 1)[: max(0, count - len(corrected))]
        corrected += sorted(int(t) for t in later)
    hard = bool(config.hard) and bool(rng.random() < config.hard)
    return Plan(kind, tuple(corrected), bool(from_truth), hard)


def draw_box(rng: np.random.Generator, mask: np.ndarray, jitter: float) -> np.ndarray:
    """Draw the box of a (H, W) bool mask, (2, 2) float32 corners, each edge off by up to `jitter` of the box's sides.

    Corners lie between pixels, as those of `Prompt.box`: right and bottom are exclusive. Raises ValueError when the
    mask is empty.
    """
    ys, xs = np.nonzero(mask)
    if not len(xs):
        raise ValueError("the mask is empty: expected at least one pixel to put a box around")
    box = np.array([[xs.min(), ys.min()], [xs.max() + 1, ys.max() + 1]], np.float32)
    moved = box + rng.uniform(-jitter, jitter, (2, 2)).astype(np.float32) * (box[1] - box[0])
    height, width = mask.shape
    return np.clip(moved, 0, [width, height]).astype(np.float32)


def draw_click(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Draw a pixel of a (H, W) bool mask, (2,) float32, any with the same probability.

    Raises ValueError when the mask is empty.
    """
    places = np.flatnonzero(mask)
    if not len(places):
        raise ValueError("the mask is empty: expected at least one pixel to click on")
    y, x = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
    return np.array([x, y], np.float32)


def draw_correction(
    rng: np.random.Generator, predicted: np.ndarray, truth: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, int]:
    """Draw a click on any pixel that is wrong, and its label.

    The label is POSITIVE where the object was missed, NEGATIVE where there is none.
    predicted, truth, valid: (H, W) bool. Where nothing is wrong the click is on the object or, without one, beside it.
    """
    wrong = (predicted ^ truth) & valid
    if not wrong.any():
        wrong = truth & valid if (truth & valid).any() else valid
    if not wrong.any():
        wrong = np.ones_like(truth)
    x, y = place = draw_click(rng, wrong)
    return place, POSITIVE if truth[int(y), int(x)] else NEGATIVE


def draw_first_prompt(
    rng: np.random.Generator, kind: str, mask: np.ndarray, jitter: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points (P, 2) float32 and their labels (P,) int64 of a "box" (its corners) or a "point"."""
    if kind == "box":
        return draw_box(rng, mask, jitter), np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT])
    return draw_click(rng, mask)[None], np.array([POSITIVE])
