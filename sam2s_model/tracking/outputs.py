"""The model's answers for objects on a frame: on the device, on the host, and as the one label image of all of them.

A new output is a field of `Outputs`, given where the segmenter builds them. Where the host needs it, it is a column of
`Summary` and a field of `Prediction`, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.constants import constant
from sam2s_model.network.model import ABSENT_LOGIT
from sam2s_model.tracking.holes import fill_holes
from sam2s_model.tracking.presence import Prediction


@dataclass(frozen=True)
class Outputs:
    """What the model says of N objects on one frame, on the device.

    object_ids: N; logits: (N, 1, h, w) fp32, -1024 everywhere for an absent object; iou, object_logit: (N,) fp32
    pointers: (N, dim); present: (N,) bool
    class_logits: (N, K) fp32, of the class token, zero without a memory; K is 0 for a model without one
    similarity: (N,) fp32, of an object that was LOST with what appears, NaN when it was not compared
    rejected: (N,) bool, what appeared is not the object, whose mask is withheld
    keys: of each object's memory attention, padding included, 0 without a memory. On the host: like all shapes of a
        captured step it depends on nothing that differs from one replay to the next
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
    keys: int = 0

    def copied(self) -> Outputs:
        """Copy all tensors, which another replay would overwrite."""
        copies = {name: torch.empty_like(value) for name, value in self.tensors.items()}
        for dtype in {value.dtype for value in copies.values()}:  # a kernel each, on a GPU
            names = [name for name, value in copies.items() if value.dtype == dtype]
            torch._foreach_copy_([copies[name] for name in names], [self.tensors[name] for name in names])
        return self._with(self.object_ids, self.keys, copies)

    def merged(self, newer: Outputs) -> Outputs:
        """Replace or add the outputs of some objects, whose keys these are then; rows ascend by id."""
        ids = sorted({*self.object_ids, *newer.object_ids})
        sources = [(newer if i in newer.object_ids else self) for i in ids]
        rows = [source.object_ids.index(i) for source, i in zip(sources, ids, strict=True)]
        # rows by their numbers: a list of them would be copied to the device for each tensor, which waits for it
        parts = [(source.tensors, row) for source, row in zip(sources, rows, strict=True)]
        joined = {name: torch.cat([own[name][row : row + 1] for own, row in parts]) for name in self.tensors}
        return self._with(ids, newer.keys, joined)

    def only(self, object_ids: Sequence[int]) -> Outputs:
        """Keep the outputs of some of the objects, at least one."""
        rows = [self.object_ids.index(object_id) for object_id in object_ids]
        if rows == list(range(len(self.object_ids))):
            return self
        kept = {name: torch.cat([t[row : row + 1] for row in rows]) for name, t in self.tensors.items()}
        return self._with(object_ids, self.keys, kept)

    def _with(self, object_ids: Sequence[int], keys: int, tensors: dict[str, Any]) -> Outputs:
        return Outputs(object_ids=tuple(object_ids), keys=keys, **tensors)

    @property
    def classified(self) -> Tensor:
        """(N,) bool, whether the class token says anything: not without a memory, nor for a model without one."""
        return (self.class_logits != 0).any(1)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Name and tensor of each output, with a row for each object."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if isinstance(value, Tensor)}

    def summary(self, score: Tensor) -> Tensor:
        """Put all that the host needs of N objects, but their masks, into (N, 5 + K) fp32: `predictions` reads it.

        score: (N,) 0..1, that each object is there
        """
        columns = Summary(
            score=score,
            predicted_iou=self.iou,
            present=self.present.float(),
            similarity=self.similarity,
            rejected=self.rejected.float(),
        )
        table = torch.stack([getattr(columns, name) for name in SUMMARY_COLUMNS], dim=1)
        if not self.class_logits.shape[1]:
            return table
        return torch.cat((table, self.class_logits.softmax(1) * self.classified[:, None]), dim=1)


Value = TypeVar("Value")


@dataclass(frozen=True)
class Summary(Generic[Value]):
    """The columns of a summary, which scores of classes follow: (N,) tensors of all objects, or the numbers of one."""

    score: Value
    predicted_iou: Value
    present: Value
    similarity: Value
    rejected: Value


SUMMARY_COLUMNS = tuple(field.name for field in fields(Summary))


def predictions(summary: Tensor, prompted: bool = False) -> list[Prediction]:
    """Read a summary on the host: one prediction for each object."""
    return [_prediction(row, prompted) for row in summary.tolist()]


def _prediction(row: list[float], prompted: bool) -> Prediction:
    numbers, classes = Summary(*row[: len(SUMMARY_COLUMNS)]), row[len(SUMMARY_COLUMNS) :]
    return Prediction(
        score=numbers.score,
        predicted_iou=numbers.predicted_iou,
        present=bool(numbers.present),
        prompted=prompted,
        similarity=numbers.similarity,
        rejected=bool(numbers.rejected),
        classes=np.array(classes, np.float32) if any(classes) else None,
    )


@constant
def _absent(dtype: torch.dtype, device=None) -> Tensor:
    return torch.full((), ABSENT_LOGIT, dtype=dtype, device=device)


def gate(logits: Tensor, present: Tensor) -> Tensor:
    """Set the mask logits (N, ...) of absent objects to -1024, as published."""
    present = present.reshape(-1, *[1] * (logits.dim() - 1))
    return torch.where(present, logits, _absent(logits.dtype, device=logits.device))


def label_image(logits: Tensor, present: Tensor, labels: Tensor, size: tuple[int, int], holes: int) -> Tensor:
    """Compose a label image of masks whose holes up to `holes` px are filled, see `fill_holes` and `compose`."""
    return compose(fill_holes(logits, holes), present, labels, size)


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
