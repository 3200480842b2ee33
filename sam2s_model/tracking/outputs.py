"""What is said of objects on a frame: on the device, on the host, and as the one label image that all of them make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.constants import constant
from sam2s_model.network.model import ABSENT_LOGIT
from sam2s_model.tracking.presence import Prediction


@dataclass(frozen=True)
class Outputs:
    """What the model says of N objects on one frame, on the device.

    object_ids: N; logits: (N, 1, h, w) fp32, -1024 everywhere for an absent object; iou, object_logit: (N,) fp32
    pointers: (N, dim); present: (N,) bool
    class_logits: (N, K) fp32, of the class token, zero without a memory; K is 0 for a model without one
    similarity: (N,) fp32, of an object that was LOST with what appears, NaN when it was not compared
    rejected: (N,) bool, what appeared is not the object, whose mask is withheld
    """

    object_ids: tuple[int, ...]
    logits: Tensor
    iou: Tensor
    object_logit: Tensor
    pointers: Tensor
    present: Tensor
    class_logits: Tensor
    similarity: Tensor
    rejected: Tensor

    def merged(self, newer: Outputs) -> Outputs:
        """Replace or add the outputs of some objects; rows ascend by id."""
        ids = sorted({*self.object_ids, *newer.object_ids})
        sources = [(newer if i in newer.object_ids else self) for i in ids]
        rows = [source.object_ids.index(i) for source, i in zip(sources, ids, strict=True)]
        # rows by their numbers: a list of them would be copied to the device for each tensor, which waits for it
        split = [[t[row : row + 1] for t in source.tensors] for source, row in zip(sources, rows, strict=True)]
        return Outputs(tuple(ids), *(torch.cat(part) for part in zip(*split, strict=True)))

    def only(self, object_ids: Sequence[int]) -> Outputs:
        """Keep the outputs of some of the objects, at least one."""
        rows = [self.object_ids.index(object_id) for object_id in object_ids]
        if rows == list(range(len(self.object_ids))):
            return self
        return Outputs(tuple(object_ids), *(torch.cat([t[row : row + 1] for row in rows]) for t in self.tensors))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        tensors = self.logits, self.iou, self.object_logit, self.pointers, self.present, self.class_logits
        return *tensors, self.similarity, self.rejected


def predictions(rows: Tensor, prompted: bool = False) -> list[Prediction]:
    """Read a summary on the host: one prediction for each object."""
    return [
        Prediction(
            s,
            iou,
            bool(present),
            prompted,
            similarity,
            bool(rejected),
            np.array(said, np.float32) if any(said) else None,
        )
        for s, iou, present, similarity, rejected, *said in rows.tolist()
    ]


@constant
def _absent(dtype: torch.dtype, device=None) -> Tensor:
    return torch.full((), ABSENT_LOGIT, dtype=dtype, device=device)


def gate(logits: Tensor, present: Tensor) -> Tensor:
    """Set the mask logits (N, ...) of absent objects to -1024, as published."""
    present = present.reshape(-1, *[1] * (logits.dim() - 1))
    return torch.where(present, logits, _absent(logits.dtype, device=logits.device))


def compose(logits: Tensor, present: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Compose one label image at the image's size, without overlap: the object of the greatest logit above 0 wins.

    logits: (N, 1, h, w); present: (N,) bool; labels: (N,) uint8; size: (H, W)
    Returns (H, W) uint8, 0 where there is none.
    """
    if kernels.serves(logits):
        return kernels.compose(logits, present, labels, *size, ABSENT_LOGIT)
    full = F.interpolate(logits, size=size, mode="bilinear")[:, 0]
    best, owner = gate(full, present).max(0)
    return torch.where(best > 0, labels[owner], 0)
