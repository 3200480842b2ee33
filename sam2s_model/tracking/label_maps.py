"""Frames that were decoded anew: what the model said of their objects, and the label images of all that is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam2s_model.device import fetch, upload
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.outputs import Outputs, label_image, predictions
from sam2s_model.tracking.segmenter import Segmenter


@dataclass(frozen=True)
class Answer:
    """What the model said of some objects on a frame, and the host has not read.

    prompt: what a person said of the one object; None: the objects were tracked
    """

    frame: ProcessedFrame
    outputs: Outputs
    prompt: Prompt | None = None


def read_answers(
    segmenter: Segmenter, frames: Sequence[ProcessedFrame], answers: Sequence[Answer], labels: Mapping[int, int]
) -> list[np.ndarray]:
    """Read answers into the predictions of their frames, and compose the label images (H, W) uint8 of some frames.

    Frames are of one size; labels: object id -> its value there. The host waits for the device once.
    """
    shown, composed = [], []
    for frame in frames:
        of_frame = [answer.outputs for answer in answers if answer.frame is frame]
        known = {*frame.predictions, *(i for outputs in of_frame for i in outputs.object_ids)}
        shown.append([i for i in segmenter.bank.ids if i in known])  # in the order of their rows
        if shown[-1]:
            composed.append(_composed(segmenter, frame, shown[-1], of_frame, labels)[None])
    summaries = [segmenter.summary(answer.outputs, answer.prompt) for answer in answers]
    there = fetch(*_joined(summaries), *_joined(composed))
    first = 0
    for answer in answers:
        ids = answer.outputs.object_ids
        found = predictions(there[0][first : first + len(ids)], answer.prompt is not None)
        answer.frame.predictions.update(zip(ids, found, strict=True))
        first += len(ids)
    maps = iter(there[-1].numpy() if composed else ())
    pairs = zip(frames, shown, strict=True)
    return [next(maps).copy() if ids else np.zeros(frame.size, np.uint8) for frame, ids in pairs]


def _joined(tensors: list[Tensor]) -> list[Tensor]:
    """Make one tensor of all, or none of none."""
    return [torch.cat(tensors)] if len(tensors) > 1 else tensors


def _composed(
    segmenter: Segmenter,
    frame: ProcessedFrame,
    object_ids: Sequence[int],
    unread: Sequence[Outputs],
    labels: Mapping[int, int],
) -> Tensor:
    """Compose a label image on the device, of at least one object. unread: outputs on the frame, not in predictions."""
    bank = segmenter.bank
    logits = bank.mask(bank.rows(object_ids), frame.index)
    known = [i in frame.predictions and frame.predictions[i].present for i in object_ids]
    told, values = upload(np.array([known, [labels[i] for i in object_ids]], np.uint8), logits.device)
    present = told.view(torch.bool)
    for outputs in unread:
        if outputs.object_ids == tuple(object_ids):
            present = outputs.present
            continue
        for row, object_id in enumerate(outputs.object_ids):
            place = object_ids.index(object_id)
            present[place : place + 1].copy_(outputs.present[row : row + 1])
    return label_image(logits, present, values, frame.size, segmenter.config.fill_holes)
