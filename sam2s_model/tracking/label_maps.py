"""Label images of frames that were tracked before: composed anew of the masks that are remembered of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sam2s_model.device import upload
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.outputs import label_image
from sam2s_model.tracking.segmenter import Segmenter


def label_map_of(segmenter: Segmenter, frame: ProcessedFrame, labels: Mapping[int, int]) -> np.ndarray:
    """Compose a frame's label image (H, W) uint8. labels: object id -> its value there"""
    ids = _shown(segmenter, frame)
    return _composed(segmenter, frame, ids, labels).cpu().numpy() if ids else np.zeros(frame.size, np.uint8)


def label_maps(segmenter: Segmenter, frames: Sequence[ProcessedFrame], labels: Mapping[int, int]) -> list[np.ndarray]:
    """Compose the label images of some frames of one size, waiting for the device once."""
    shown = [(frame, _shown(segmenter, frame)) for frame in frames]
    composed = [_composed(segmenter, frame, ids, labels) for frame, ids in shown if ids]
    rows = iter(torch.stack(composed).cpu().numpy() if composed else ())
    return [next(rows).copy() if ids else np.zeros(frame.size, np.uint8) for frame, ids in shown]


def _shown(segmenter: Segmenter, frame: ProcessedFrame) -> list[int]:
    """List the objects that are still there and have a prediction on the frame, in the order of their rows."""
    return [i for i in segmenter.bank.ids if i in frame.predictions]


def _composed(
    segmenter: Segmenter, frame: ProcessedFrame, object_ids: Sequence[int], labels: Mapping[int, int]
) -> Tensor:
    """Compose a label image on the device, of at least one object."""
    bank = segmenter.bank
    logits = bank.mask(bank.rows(object_ids), frame.index)
    told = np.array([[frame.predictions[i].present for i in object_ids], [labels[i] for i in object_ids]], np.uint8)
    present, values = upload(told, logits.device)
    return label_image(logits, present.view(torch.bool), values, frame.size, segmenter.config.fill_holes)
