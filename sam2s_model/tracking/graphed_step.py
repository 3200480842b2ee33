"""A step in two halves, which are CUDA graphs: encode the image; track, and compose the label image.

What differs from one frame to the next, image and time, is written to fixed places first, and shapes are those of the
frames to come: while an object has fewer memories than there is room for, the others are masked. A graph serves as long
as the number of objects, the greatest number of prompted frames and whether memories are missing stay what they are;
each combination is captured once, the second time that it comes, and so is what a late prompt tracks again. Prompts are
not captured, nor is the tracking half where the same bits are wanted every time (`torch.use_deterministic_algorithms`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2s_model.acceleration.graphs import Capture, Graphs
from sam2s_model.device import as_tensor
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.outputs import Outputs, predictions
from sam2s_model.tracking.presence import Prediction
from sam2s_model.tracking.segmenter import Segmenter

PATIENCE = 30  # steps that are launched kernel by kernel before one stops for the capture, where nobody is ever idle


class GraphedEncoder:
    """Encodes images in a stream of work of its own: one can be begun while the frame before it is still tracked.

    On a CPU everything is done when it is called for. What cannot be captured is launched kernel by kernel.
    """

    def __init__(self, model: Sam2Model, capture: Capture):
        self._model = model
        self._graphs = Graphs(capture)
        self._stream = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None
        self._read = torch.cuda.Event() if self._stream else None  # the features of the image before
        self._buffers = [Buffer(model.device), Buffer(model.device)]  # one may still be copied from
        self._image: Tensor | None = None
        self._features: ImageFeatures | None = None
        self._begun: tuple[np.ndarray, ImageFeatures] | None = None

    def __len__(self) -> int:
        return len(self._graphs)

    @property
    def refused(self) -> str:
        return self._graphs.refused

    @property
    def seconds(self) -> tuple[float, ...]:
        return tuple(self._graphs.seconds)

    @property
    def patience(self) -> int:
        return self._graphs.patience

    @patience.setter
    def patience(self, times: int) -> None:
        self._graphs.patience = times

    def encode(self, image: np.ndarray) -> ImageFeatures:
        """Encode an image (H, W, 3) uint8: features at the same place every time, valid until the next call."""
        begun, self._begun = self._begun, None
        if begun is None or begun[0] is not image:
            self._mark_read()
            begun = self._begin(image)
        _, features = begun
        if self._stream:
            torch.cuda.current_stream(self._model.device).wait_stream(self._stream)
        if self._features is None:
            self._features = features.place()
        self._features.copy_(features)
        self._mark_read()
        return self._features

    def look_ahead(self, image: np.ndarray) -> None:
        """Begin with the image that `encode` will be given next: that very array. What fails is left to `encode`."""
        self._begun = None
        try:
            self._begun = self._begin(image)
        except RuntimeError:
            return

    def prepare(self) -> None:
        """Capture what the next image is encoded with, if one like it was encoded before."""
        if self._image is not None and self._graphs.wants(tuple(self._image.shape)):
            with self._beside():
                self._graphs.prepare(tuple(self._image.shape), partial(self._encode, self._image))

    def _begin(self, image: np.ndarray) -> tuple[np.ndarray, ImageFeatures]:
        with self._beside():
            if self._image is None or self._image.shape != image.shape:
                self._graphs.clear()
                self._image = torch.empty(image.shape, dtype=torch.uint8, device=self._model.device)
            self._buffers.reverse()
            self._buffers[0].send(as_tensor(image), self._image)
            encode = partial(self._encode, self._image)
            return image, self._graphs.run(image.shape, encode) if self._model.capturable else encode()

    def _encode(self, image: Tensor) -> ImageFeatures:
        return self._model.encode_image(self._model.prepare_image(image))

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Launch what is inside in this encoder's stream, once the features there were have been read."""
        if self._stream is None or self._read is None:
            yield
            return
        self._stream.wait_event(self._read)
        with torch.cuda.stream(self._stream):
            yield

    def _mark_read(self) -> None:
        if self._read:
            self._read.record(torch.cuda.current_stream(self._model.device))


class Buffer:
    """Memory of the host that a GPU copies from, or into, by itself; made anew where another shape comes."""

    def __init__(self, device: torch.device):
        self._on_cuda = device.type == "cuda"
        self._host = torch.empty(0)
        self._copied = torch.cuda.Event() if self._on_cuda else None

    def send(self, values: Tensor, to: Tensor) -> None:
        """Copy values of the host to the device; they may change afterwards."""
        host = self._like(to)
        if self._copied:
            self._copied.synchronize()  # what was sent before has gone
        to.copy_(host.copy_(values), non_blocking=True)
        if self._copied:
            self._copied.record()

    def fetch(self, values: Tensor) -> Tensor:
        """Copy values of the device, which are here when it was waited for, and until the next call."""
        return self._like(values).copy_(values, non_blocking=True)

    def _like(self, like: Tensor) -> Tensor:
        if self._host.shape != like.shape or self._host.dtype != like.dtype:
            self._host = torch.empty(like.shape, dtype=like.dtype, pin_memory=self._on_cuda)
        return self._host


class GraphedStep:
    """The two halves of a step of the newest frame, for all objects.

    capture: makes what captures a half, on a device; each has its own, since they may run at the same time
    """

    def __init__(self, model: Sam2Model, capture: Callable[[torch.device], Capture]):
        self._model = model
        self._encoder, self._trackers = GraphedEncoder(model, capture(model.device)), Graphs(capture(model.device))
        self._time = torch.zeros(2, dtype=torch.int64, device=model.device)
        self._labels = torch.zeros(255, dtype=torch.uint8, device=model.device)
        self._labels_set: list[int] = []
        self._summary, self._map = Buffer(model.device), Buffer(model.device)
        self._features: ImageFeatures | None = None  # of the image that was encoded last

    def encode(self, image: np.ndarray) -> ImageFeatures:
        """Encode an image (H, W, 3) uint8 of the host: features, valid until the next call."""
        self._features = self._encoder.encode(image)
        return self._features

    def track(
        self,
        segmenter: Segmenter,
        frame: ProcessedFrame,
        labels: Sequence[int],
        following: np.ndarray | None = None,
    ) -> tuple[Outputs, list[Prediction], np.ndarray]:
        """Track all objects into the frame that was encoded last.

        labels: of the objects, in the order of the bank's rows
        following: the image that is to be encoded next, where it is known: it is begun with meanwhile
        Returns the outputs, the prediction of each object and the label image (H, W) uint8.
        """
        ids = list(segmenter.bank.ids)
        self._time[0].fill_(frame.index)
        self._time[1].fill_(frame.stamp)
        self._set_labels(labels)
        key, track = self._tracking(segmenter, frame, ids)
        outputs, summary, label_map = self._run(key, track)
        segmenter.mark_written(frame.index)
        own = replace(outputs.copied(), object_ids=tuple(ids))
        summary, label_map = self._summary.fetch(summary), self._map.fetch(label_map)
        if following is not None:
            self._encoder.look_ahead(following)
        if self._model.device.type == "cuda":
            # the one place where a step waits; the stream is the tracker's
            torch.cuda.current_stream(self._model.device).synchronize()
        return own, predictions(summary), label_map.numpy().copy()

    def _tracking(
        self, segmenter: Segmenter, frame: ProcessedFrame, ids: list[int]
    ) -> tuple[Hashable, Callable[[], tuple[Outputs, Tensor, Tensor]]]:
        """Make the key of a step of all objects, and the step: outputs, summary and label image, on the device."""
        step = segmenter.step_time(frame.index, self._time)
        at_place, labels = replace(frame, features=self._encoded()), self._labels[: len(ids)]
        key = (segmenter.generation, len(ids), step.shapes, frame.size)
        return key, partial(segmenter.step, at_place, ids, labels, step)

    def prepare(self, segmenter: Segmenter, newest: ProcessedFrame) -> None:
        """Capture now what the next step would stop for: what was run as it is, and could be captured.

        Nothing is tracked by it. For a caller who is idle: from now on steps leave captures to it, and are launched
        kernel by kernel meanwhile, `PATIENCE` times at most.
        """
        self._encoder.patience = self._trackers.patience = PATIENCE
        self._encoder.prepare()
        ids = list(segmenter.bank.ids)
        if not ids or torch.are_deterministic_algorithms_enabled():
            return
        key, track = self._tracking(segmenter, replace(newest, index=newest.index + 1), ids)
        if self._trackers.wants(key):
            with _unnoticed(segmenter):
                self._trackers.prepare(key, track)

    def track_again(self, segmenter: Segmenter, frame: ProcessedFrame, object_ids: Sequence[int]) -> Outputs:
        """Track some objects into an earlier frame, after a prompt that came late.

        Raises ValueError where the objects' rows do not follow one another.
        """
        rows = segmenter.bank.rows(object_ids)
        if not isinstance(rows, slice):
            raise ValueError(f"the objects' rows are {rows}: expected rows that follow one another")
        self._time[0].fill_(frame.index)
        self._time[1].fill_(frame.stamp)
        step = segmenter.step_time(frame.index, self._time, rows)
        at_place = replace(frame, features=self._encoded().copy_(frame.features))
        key = "again", segmenter.generation, rows.start, rows.stop, step.shapes
        outputs = self._run(key, lambda: segmenter.track(at_place, object_ids, step))
        segmenter.mark_written(frame.index, rows)
        return replace(outputs.copied(), object_ids=tuple(object_ids))

    def _run(self, key: Hashable, track: Callable[[], Any]) -> Any:
        """Replay what was captured of a step, or run it.

        Deterministic writes to an index make the host ask for the greatest one, which no capture permits.
        """
        return track() if torch.are_deterministic_algorithms_enabled() else self._trackers.run(key, track)

    def forget(self) -> None:
        """Drop the graphs of the tracking: its segmenter is another from now on."""
        self._trackers.clear()

    @property
    def captured(self) -> int:
        """Graphs that there are."""
        return len(self._encoder) + len(self._trackers)

    @property
    def refused(self) -> str:
        """Why a half is not captured any more; "" as long as both are."""
        return self._encoder.refused or self._trackers.refused

    @property
    def capture_seconds(self) -> tuple[float, ...]:
        """S that the last captures took, of the image half and then of the tracking."""
        return (*self._encoder.seconds, *self._trackers.seconds)

    def _encoded(self) -> ImageFeatures:
        if self._features is None:
            raise RuntimeError("no image was encoded: expected `encode` before the objects are tracked")
        return self._features

    def _set_labels(self, labels: Sequence[int]) -> None:
        if list(labels) != self._labels_set:
            self._labels[: len(labels)] = torch.tensor(labels, dtype=torch.uint8)
            self._labels_set = list(labels)


@contextmanager
def _unnoticed(segmenter: Segmenter) -> Iterator[None]:
    """Forget what the host marks inside: a step that is captured has not happened."""
    bank, store = segmenter.bank, segmenter.matches.store if segmenter.matches else None
    marked = [(array, array.copy()) for array in (bank.host_frames, bank.host_pointer_frames, bank.mask_frames)]
    newest = store.newest if store else 0
    try:
        yield
    finally:
        for array, saved in marked:
            array[:] = saved
        if store:
            store.newest = newest
