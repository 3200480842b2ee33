"""How frames are tracked: as captured steps where something captures them, kernel by kernel otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from sam2s_model.acceleration.graphs import Capture
from sam2s_model.device import as_tensor, fetch, upload
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.graphed_step import GraphedStep
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.memory.stand_ins import drop_prompted
from sam2s_model.tracking.outputs import Outputs, predictions
from sam2s_model.tracking.segmenter import Segmenter


class Stepper:
    """Encode images and track objects into frames, the newest and those before.

    capture: makes what captures steps on a device; None: nothing is captured
    """

    def __init__(self, model: Sam2Model, capture: Callable[[torch.device], Capture] | None):
        self._model = model
        self._graphed = GraphedStep(model, capture) if capture else None

    def encode(self, image: np.ndarray) -> ImageFeatures:
        """Encode an image (H, W, 3) uint8: features, valid until the next call."""
        if self._graphed:
            return self._graphed.encode(image)
        return self._model.encode_image(self._model.prepare_image(as_tensor(image)))

    def track(
        self, segmenter: Segmenter, frame: ProcessedFrame, labels: Mapping[int, int], following: np.ndarray | None
    ) -> tuple[Outputs | None, np.ndarray | None]:
        """Track all objects into the frame that was encoded last, which gets their predictions.

        labels: object -> its value in the label image; following: the image that comes next, where it is known
        Returns the outputs and the label image (H, W) uint8, None without objects.
        """
        ids = list(segmenter.bank.ids)
        if not ids:
            return None, None
        values = [labels[i] for i in ids]
        if self._graphed:
            outputs, found, label_map = self._graphed.track(segmenter, frame, values, following)
        else:
            on_device = upload(np.array(values, np.uint8), self._model.device)
            outputs, summary, composed = segmenter.step(frame, ids, on_device)
            summary, composed = fetch(summary, composed)
            found, label_map = predictions(summary), composed.numpy().copy()
        frame.predictions.update(zip(ids, found, strict=True))
        return outputs, label_map

    def propagate(
        self, segmenter: Segmenter, frame: ProcessedFrame, later: Sequence[ProcessedFrame], prompted: Sequence[int]
    ) -> list[Outputs | None]:
        """Track objects that were prompted on a frame through later ones, which were tracked before; nothing is read.

        What was prompted on one of those stays as it is, but for tracked masks that only stand for prompted ones.
        Returns the outputs of each later frame, None where nothing was tracked again.
        """
        there, tracked = {*frame.predictions, *prompted}, []
        every = bool(prompted) and segmenter.config.non_overlap_memory  # then no object is on its own
        object_ids = segmenter.bank.ids if every else prompted
        for shown in later:
            stay = [i for i in object_ids if i in shown.predictions and shown.predictions[i].prompted]
            free = [i for i in object_ids if i in there and i not in stay]
            for object_id in set(prompted).intersection(free):
                drop_prompted(segmenter.bank, object_id, shown.index)
            segmenter.put_back(shown.index)
            if stay:
                segmenter.learn_again(shown, stay)
            tracked.append(self._track_again(segmenter, shown, free) if free else None)
            there = {*shown.predictions, *free}
        return tracked

    def _track_again(self, segmenter: Segmenter, frame: ProcessedFrame, object_ids: list[int]) -> Outputs:
        """Track some objects into a frame; captured, as steps are, where the objects' rows follow one another."""
        segmenter.go_back(frame, object_ids)
        plain = segmenter.matches or torch.are_deterministic_algorithms_enabled()
        if self._graphed and not plain and isinstance(segmenter.bank.rows(object_ids), slice):
            return self._graphed.track_again(segmenter, frame, object_ids)
        return segmenter.track(frame, object_ids)

    def prepare(self, segmenter: Segmenter, newest: ProcessedFrame) -> None:
        """Capture what the next step would stop for, see `GraphedStep.prepare`."""
        if self._graphed:
            self._graphed.prepare(segmenter, newest)

    def forget(self) -> None:
        """Drop what was captured of the tracking: its segmenter is another from now on."""
        if self._graphed:
            self._graphed.forget()

    @property
    def captured(self) -> int:
        """CUDA graphs that there are; 0 where steps are launched kernel by kernel."""
        return self._graphed.captured if self._graphed else 0

    @property
    def refused(self) -> str:
        """Why nothing more is captured; "" as long as it is, or where nothing is to be captured."""
        return self._graphed.refused if self._graphed else ""

    @property
    def capture_seconds(self) -> tuple[float, ...]:
        """S that each of the last captures took."""
        return self._graphed.capture_seconds if self._graphed else ()
