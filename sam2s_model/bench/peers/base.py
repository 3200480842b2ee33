"""What the benchmark asks of another implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.device import as_tensor
from sam2s_model.network.model import Sam2Model


class Peer(ABC):
    """Asked like our tracker, but for label maps alone.

    version: of its package; how: in which numbers and with which attention it computes
    """

    version: str
    how: str

    def __init__(self, model: Sam2Model):
        self._prepare = model.prepare_image  # the same for all

    @abstractmethod
    def start(self, image: np.ndarray, boxes: Sequence[np.ndarray]) -> None:
        """Begin with an object in each box x0 y0 x1 y1 of the first image, (S, S, 3) uint8 RGB."""

    @abstractmethod
    def track(self, image: Tensor) -> Tensor:
        """(1, 3, S, S), normalised, on the device -> mask logits, (N, 1, h, w)."""

    @torch.inference_mode()
    def step(self, image: np.ndarray) -> np.ndarray:
        """Track all objects into the next image (S, S, 3). Returns the label map, (S, S) uint8 on the host."""
        logits = self.track(self.prepare(image)).float()
        best, owner = F.interpolate(logits, size=image.shape[:2], mode="bilinear")[:, 0].max(0)
        return torch.where(best > 0, owner + 1, 0).to(torch.uint8).cpu().numpy()

    def prepare(self, image: np.ndarray) -> Tensor:
        return self._prepare(as_tensor(image))
