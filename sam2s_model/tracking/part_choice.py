"""Granularity of a prompt; without a token of it, a choice among candidate masks and their parts, by area."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2s_model.device import fetch, upload
from sam2s_model.network.granularity import HIGHEST, LOWEST
from sam2s_model.network.mask_decoder import Candidates, Decoded
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import POSITIVE, Prompt
from sam2s_model.tracking.history import ProcessedFrame

LEAST_AREA = 4  # low-resolution px of a part
OUTSIDE = -10.0  # logit of what is not in the part


def decode_granular(
    model: Sam2Model,
    features: Tensor,
    frame: ProcessedFrame,
    prompt: Prompt,
    points: Tensor,
    labels: Tensor,
    previous: Tensor | None,
) -> Decoded:
    """Decode as much as a prompt of one object asks for: by the model's own token, or approximately.

    features: conditioned; points, labels: of the prompt, encoded, see `Sam2Model.decode`; previous: mask logits or None
    """
    if model.config.granularity:
        asked = points.new_full((1,), max(prompt.granularity, LOWEST))
        return model.decode(
            features, frame.features, points=points, point_labels=labels, mask_logits=previous, multimask=False,
            granularity=asked,
        )  # fmt: skip
    found = model.candidates(features, frame.features, points, labels, previous)
    places = np.zeros((0, 2), np.int64)
    if prompt.points is not None:
        size = np.array(found.logits.shape[:1:-1]) / np.array(frame.size[::-1])
        places = ((prompt.points[prompt.point_labels == POSITIVE] + 0.5) * size).astype(np.int64)
    return choose_part(found, prompt.granularity, places)


def choose_part(found: Candidates, granularity: float, places: np.ndarray) -> Decoded:
    """Take, of one object's candidates, the mask or the connected part of it whose size is nearest to a granularity.

    found: of one object; granularity: 0..1, of which 0.1 is the smallest and 1 the largest there is, on the scale of
    the square roots of areas (as UnSAMv2's labels are made)
    places: (P, 2) int, x y, low-resolution px on the object, may be empty: what has one is preferred to what has none
    With equal sizes the higher predicted IoU is taken. Waits for the device.
    """
    shown, expected = fetch(found.logits[0, 1:] > 0, found.iou[0, 1:])
    masks, ious = shown.numpy(), expected.tolist()
    options = [(k, part) for k, mask in enumerate(masks) for part in _parts(mask)]
    on_it = [(k, part) for k, part in options if len(places) and part[places[:, 1], places[:, 0]].any()]
    options = on_it or options
    if not options:  # all candidates are empty
        return found.taken(found.iou[:, 1:].argmax(1) + 1)
    sides = np.sqrt([float(part.sum()) for _, part in options])
    span = sides.max() - sides.min()
    scale = LOWEST + (HIGHEST - LOWEST) * (sides - sides.min()) / span if span else np.full(len(sides), HIGHEST)
    chosen, part = options[min(range(len(options)), key=lambda i: (abs(scale[i] - granularity), -ious[options[i][0]]))]
    decoded = found.taken(torch.full((1,), chosen + 1, device=found.logits.device))
    inside = upload(part, decoded.logits.device)
    return Decoded(
        torch.where(inside, decoded.logits, decoded.logits.clamp(max=OUTSIDE)),
        decoded.iou,
        decoded.token,
        decoded.object_logit,
    )


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """List a mask, and its connected parts where there are several; nothing of an empty one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= LEAST_AREA]
    return [mask, *(labels == i for i in large if count > 2)] if mask.any() else []
