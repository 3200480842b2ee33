"""A step as two CUDA graphs: the launch of some thousand kernels, one by one, takes longer than the kernels.

A graph repeats what was launched while it was captured, on the same addresses. So what differs from one frame to the
next, image and time, is written to fixed places first, and shapes are those of the frames to come: while an object has
fewer memories than there is room for, the others are masked. A graph serves as long as the number of objects, the
greatest number of prompted frames and whether memories are missing stay what they are; each combination is captured
once, the second time that it comes. Prompts and late corrections are not captured.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from sam2s_model.constants import kept_alive
from sam2s_model.history import Frame
from sam2s_model.holes import fill_holes
from sam2s_model.image_features import ImageFeatures
from sam2s_model.model import Sam2Model
from sam2s_model.presence import Reading
from sam2s_model.segmenter import Outputs, Segmenter, compose, readings

log = logging.getLogger(__name__)
Result = TypeVar("Result")
GRAPHS = 64  # at most, those last used; one takes some MB of launches, and all share the memory of their tensors
_capturing = Lock()  # of CUDA, in all of the process


class Captured(Protocol[Result]):
    """What was captured. result: the same tensors after each replay, with new values."""

    result: Result

    def replay(self) -> None: ...


class CudaGraph(Generic[Result]):
    """What a function launched on CUDA. Its host code is not run again."""

    def __init__(self, function: Callable[[], Result], pool: Any):
        self._graph = torch.cuda.CUDAGraph()
        problem: BaseException | None = None
        try:
            # another thread may use CUDA for itself meanwhile, only not capture
            with _capturing, kept_alive() as self._constants:
                with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                    try:
                        self.result = function()
                    except BaseException as raised:
                        problem = raised
                        raise
        except RuntimeError:
            if problem is not None:  # and not what the end of the capture says of it
                raise problem from None
            raise

    def replay(self) -> None:
        self._graph.replay()


Capture = Callable[[Callable[[], Any]], Captured]


class Graphs:
    """Functions of fixed places: run as they are the first time that their key comes, from a graph ever after.

    refused: why nothing is captured any more, in words; "" as long as it is
    """

    def __init__(self, capture: Capture, most: int = GRAPHS):
        self.refused = ""
        self._capture, self._most = capture, most
        self._graphs: OrderedDict[Hashable, Captured | None] = OrderedDict()

    def run(self, key: Hashable, function: Callable[[], Result]) -> Result:
        """What the function returns. It must depend, and leave on the host, nothing that its key does not tell.

        Where it cannot be captured, it goes on to be run as it is. Raises torch.OutOfMemoryError, and what the function raises.
        """
        if self.refused:
            return function()
        if key not in self._graphs:
            result = function()  # so that what is only made once is there when it is captured
            self._graphs[key] = None
            if len(self._graphs) > self._most:
                self._graphs.popitem(last=False)
            return result
        self._graphs.move_to_end(key)
        if self._graphs[key] is None:
            try:
                self._graphs[key] = self._capture(function)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as problem:
                self.refused = str(problem)
                log.warning("a step cannot be captured as a CUDA graph, and is launched kernel by kernel: %s", problem)
                return function()
        self._graphs[key].replay()
        return self._graphs[key].result

    def clear(self) -> None:
        self._graphs.clear()

    def __len__(self) -> int:
        return sum(graph is not None for graph in self._graphs.values())


class GraphedStep:
    """The two halves of a step of the newest frame, for all objects: encode the image; track, and compose the label image.

    capture: how; None: as CUDA graphs, which share one pool of memory, since no two of them run at a time
    """

    def __init__(self, model: Sam2Model, capture: Capture | None = None):
        if capture is None:
            pool = torch.cuda.graph_pool_handle()
            capture = lambda function: CudaGraph(function, pool)  # noqa: E731
        self._model = model
        self._encoders, self._trackers = Graphs(capture), Graphs(capture)
        self._time = torch.zeros(2, dtype=torch.int64, device=model.device)
        self._labels = torch.zeros(255, dtype=torch.uint8, device=model.device)
        self._labels_set: list[int] = []
        self._image: Tensor | None = None
        self._features: ImageFeatures | None = None
        self._staged: dict[str, Tensor] = {}

    def encode(self, image: Tensor) -> ImageFeatures:
        """(H, W, 3) uint8 on the host -> features, valid until the next call."""
        if self._image is None or self._image.shape != image.shape:
            self._encoders.clear()
            self._image = torch.empty(image.shape, dtype=torch.uint8, device=self._model.device)
        self._image.copy_(self._stage("image", image).copy_(image), non_blocking=True)
        features = self._encoders.run(
            tuple(image.shape), lambda: self._model.encode_image(self._model.prepare_image(self._image))
        )
        if self._features is None:
            self._features = features.place()
        return self._features.copy_(features)  # at the same place, whether captured or not

    def track(
        self, segmenter: Segmenter, frame: Frame, labels: Sequence[int], holes: int
    ) -> tuple[Outputs, list[Reading], np.ndarray]:
        """Track all objects into the frame that was encoded last.

        labels: of the objects, in the order of the bank's rows; holes: see `fill_holes`
        Returns the outputs, the reading of each object and the label image (H, W) uint8.
        """
        bank = segmenter.bank
        ids, rows = list(bank.ids), slice(0, len(bank))
        self._time[0].fill_(frame.index)
        self._time[1].fill_(frame.stamp)
        self._set_labels(labels)
        clock = segmenter.clock(frame.index, self._time)
        at_place = replace(frame, features=self._features)

        def track() -> tuple[Outputs, Tensor, Tensor]:
            outputs = segmenter.track(at_place, ids, clock)
            mask_logits = fill_holes(outputs.logits, holes)
            label_map = compose(mask_logits, outputs.present, self._labels[: len(ids)], frame.size)
            return outputs, segmenter.summary(outputs), label_map

        key = bank.generation, len(ids), clock.shapes, frame.size
        outputs, summary, label_map = self._trackers.run(key, track)
        bank.know_tracked(rows, frame.index)
        own = Outputs(tuple(ids), *(value.clone() for value in outputs.tensors))  # the next replay overwrites the others
        on_host = [self._stage(name, value).copy_(value, non_blocking=True) for name, value in (("summary", summary), ("map", label_map))]
        if self._model.device.type == "cuda":
            torch.cuda.current_stream(self._model.device).synchronize()  # the one place where a step waits
        return own, readings(on_host[0]), on_host[1].numpy().copy()

    def forget(self) -> None:
        """Drop the graphs of the tracking: its segmenter is another from now on."""
        self._trackers.clear()

    @property
    def captured(self) -> int:
        """Graphs that there are."""
        return len(self._encoders) + len(self._trackers)

    def _set_labels(self, labels: Sequence[int]) -> None:
        if list(labels) != self._labels_set:
            self._labels[: len(labels)] = torch.tensor(labels, dtype=torch.uint8)
            self._labels_set = list(labels)

    def _stage(self, name: str, like: Tensor) -> Tensor:
        """A buffer on the host from which, or into which, a device copies by itself; one is enough, since each step waits."""
        known = self._staged.get(name)
        if known is None or known.shape != like.shape:
            pinned = self._model.device.type == "cuda"
            self._staged[name] = known = torch.empty(like.shape, dtype=like.dtype, pin_memory=pinned)
        return known
