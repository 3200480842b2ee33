"""CUDA graphs: the launch of some thousand kernels, one by one, takes longer than the kernels.

A graph repeats what was launched while it was captured, on the same addresses.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import torch

from sam2s_model.acceleration.constants import kept_alive

log = logging.getLogger(__name__)
Result = TypeVar("Result")
GRAPHS = (
    64  # at most, those last used; one takes some MB of launches, and those of a half share the memory of their tensors
)
_capturing = Lock()  # of CUDA, in all of the process


class Captured(Protocol[Result]):
    """What was captured. result: the same tensors after each replay, with new values."""

    result: Result

    def replay(self) -> None: ...


class CudaGraph(Generic[Result]):
    """What a function launched on CUDA. Its host code is not run again."""

    def __init__(self, function: Callable[[], Result], pool: Any, stream: torch.cuda.Stream):
        self._graph = torch.cuda.CUDAGraph()
        problem: BaseException | None = None
        try:
            # another thread may use CUDA for itself meanwhile, only not capture
            with _capturing, kept_alive() as self._constants:
                with torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local"):
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


def as_cuda_graphs(device: torch.device) -> Capture:
    """Captures graphs that share one pool of memory: no two of them may run at a time."""
    pool = torch.cuda.graph_pool_handle()
    # CUDA has few streams of a kind, given out again and again. Of this kind none is worked in, so that no other thread's work
    # is captured.
    stream = torch.cuda.Stream(device, priority=-1)
    return lambda function: CudaGraph(function, pool, stream)


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
