"""How well a granularity gets the part that is meant, on the procedural scene, whose parts are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_model.config import TrackerConfig
from sam2s_model.metrics import iou
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import POSITIVE, Prompt
from sam2s_model.recordings.scene import PartMasks, Scene
from sam2s_model.tracking.tracker import Tracker

PARTS = ("tip", "jaw", "whole")
ASKED = {"tip": 0.1, "jaw": 0.5, "whole": 1.0}
LEAST_AREA = 60  # px of a tip that is clicked on


@dataclass(frozen=True, eq=False)
class PartAnswer:
    """One click on the tip of an instrument, answered for a granularity.

    asked: one of `PARTS`, "" without a granularity; mask: (H, W) bool, the answer; truth: the parts
    overlaps: IoU with each of `PARTS`
    """

    image: np.ndarray
    point: tuple[int, int]
    asked: str
    mask: np.ndarray
    truth: PartMasks
    overlaps: dict[str, float]
    approximate: bool


def ask_for_parts(
    model: Sam2Model, scenes: Sequence[Scene], frames: Sequence[int], config: TrackerConfig | None = None
) -> Iterator[PartAnswer]:
    """Click once on the tip of each instrument of some frames, with each granularity and without.

    Each prompt is alone on a tracker's frame. Tips of which hardly anything is seen are left out.
    """
    for scene in scenes:
        tracker = Tracker(model, "none", config or TrackerConfig())
        for number, index in enumerate(frames, start=1):
            image = scene[index].image
            tracker.step(number, image)
            for truth in scene.parts(index).values():
                if np.count_nonzero(truth.tip) < LEAST_AREA:
                    continue
                point = _middle(truth.tip)
                for asked in ("", *PARTS):
                    yield _ask(tracker, image, point, asked, truth)


def _ask(tracker: Tracker, image: np.ndarray, point: tuple[int, int], asked: str, truth: PartMasks) -> PartAnswer:
    prompt = Prompt(
        points=np.array([point], np.float32), point_labels=np.array([POSITIVE]), granularity=ASKED.get(asked, 0.0)
    )
    told = tracker.prompt(0, [prompt])
    (object_id,) = told.object_ids
    mask = told.tracks.mask(object_id)
    tracker.remove([object_id])
    overlaps = {part: iou(mask, getattr(truth, part), None) for part in PARTS}
    return PartAnswer(image, point, asked, mask, truth, overlaps, object_id in told.approximate)


def _middle(mask: np.ndarray) -> tuple[int, int]:
    """Return the pixel x, y that lies deepest inside a mask."""
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)


def part_table(answers: Sequence[PartAnswer]) -> str:
    """Write a Markdown table: mean IoU of the answers to each granularity with each part."""
    lines = [
        f"| asked | granularity | {' | '.join(f'IoU with the {part}' for part in PARTS)} |",
        "|---|---|---|---|---|",
    ]
    for asked in ("", *PARTS):
        rows = [answer.overlaps for answer in answers if answer.asked == asked]
        means = [float(np.mean([row[part] for row in rows])) if rows else float("nan") for part in PARTS]
        told = [f"**{mean:.2f}**" if part == asked else f"{mean:.2f}" for part, mean in zip(PARTS, means, strict=True)]
        value = f"{ASKED[asked]:g}" if asked else ""
        lines.append(f"| {asked or 'nothing'} | {value} | {' | '.join(told)} |")
    return "\n".join(lines)


def part_picture(answers: Sequence[PartAnswer], side: int = 320) -> np.ndarray:
    """Draw the answers for one instrument, (side, 3 * side, 3) uint8 RGB: tip, jaw, whole; the click is a dot."""
    panels = []
    for asked in PARTS:
        answer = next(one for one in answers if one.asked == asked)
        drawn = answer.image.copy()
        drawn[answer.mask] = (0.45 * drawn[answer.mask] + 0.55 * np.array([0, 220, 130])).astype(np.uint8)
        outline, _ = cv2.findContours(answer.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outline, -1, (255, 255, 255), 1, cv2.LINE_AA)
        cv2.circle(drawn, answer.point, 4, (255, 60, 60), -1, cv2.LINE_AA)
        drawn = cv2.resize(_around(drawn, answer.truth.whole), (side, side), interpolation=cv2.INTER_AREA)
        cv2.rectangle(drawn, (0, 0), (side, 26), (0, 0, 0), -1)
        text = f"{asked}: granularity {ASKED[asked]:g}"
        cv2.putText(drawn, text, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        panels.append(drawn)
    return np.hstack(panels)


def _around(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Cut the square around a mask out of an image, with a margin, as far as the image reaches."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    side = min(round(1.3 * max(width, height)), *image.shape[:2])
    left = min(max(x + (width - side) // 2, 0), image.shape[1] - side)
    top = min(max(y + (height - side) // 2, 0), image.shape[0] - side)
    return image[top : top + side, left : left + side]
