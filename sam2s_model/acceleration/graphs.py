"""CUDA graphs: the launch of some thousand kernels, one by one, takes longer than the kernels.

A graph repeats what was launched while it was captured, on the same addresses.
"""

from __future__ import annotations

import gc
import logging
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any, Generic, Protocol, TypeVar
from weakref import finalize

import torch

from sam2s_model.acceleration.constants import kept_alive

log = logging.getLogger(__name__)
Result = TypeVar("Result")
# The least recently used goes first. A graph takes some MB of launches; those of a half share their tensors' memory.
MAX_GRAPHS = 64
_capturing = RLock()  # of CUDA, in all of the process


class Captured(Protocol[Result]):
    """What was captured. result: the same tensors after each replay, with new values."""

    result: Result

    def replay(self) -> None: ...


class CudaGraph(Generic[Result]):
    """What a function launched on CUDA. Its host code is not run again."""

    def __init__(self, function: Callable[[], Result], pool: Any, stream: torch.cuda.Stream):
        self._graph = torch.cuda.CUDAGraph()
        problem: BaseException | None = None
        before = torch.cuda.current_stream(stream.device)
        try:
            # another thread may use CUDA for itself meanwhile, only not capture
            captured = torch.cuda.graph(self._graph, pool, stream, capture_error_mode="thread_local")
            with capturing(), kept_alive() as self._constants, captured:
                try:
                    self.result = function()
                except BaseException as raised:
                    problem = raised
                    raise
        except RuntimeError:
            if problem is None:
                raise
        finally:
            if torch.cuda.current_stream(stream.device) != before:  # torch leaves it only where nothing failed
                torch.cuda.set_stream(before)
                with suppress(RuntimeError):
                    before.wait_stream(stream)
        try:
            if problem is not None:
                raise problem  # what the end of the capture said of it is forgotten
        finally:
            problem = None  # its traceback holds this frame: what was half captured is not to wait for a collection

    def replay(self) -> None:
        self._graph.replay()


@contextmanager
def capturing() -> Iterator[None]:
    """Hold off other captures, and garbage collections: a graph that dies of one would invalidate what is captured.

    Also for what no other thread may do during a capture, such as emptying the allocator's cache.
    """
    with _capturing:
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()


def empty_cache() -> None:
    """Give back the GPU memory that torch keeps and does not use; a failure is logged, not raised."""
    with capturing():
        try:
            torch.cuda.empty_cache()
        except RuntimeError as problem:  # torch before 2.8, once a capture has failed
            log.warning("cached GPU memory cannot be given back: %s", problem)


Capture = Callable[[Callable[[], Any]], Captured]


class CudaCapture:
    """Captures graphs that share one pool of memory: no two of them may run at a time.

    After a failed capture nothing more is captured in the process: in many versions of torch the allocator, which all
    share, believes from then on that a capture is going on.
    """

    refused = ""  # why, of the process

    def __init__(self, device: torch.device):
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = _lent_stream(self, device)
        self._anchor: CudaGraph[None] | None = None

    def __call__(self, function: Callable[[], Result]) -> CudaGraph[Result]:
        """Capture the function.

        Raises RuntimeError where nothing can be captured, torch.OutOfMemoryError where it does not fit, and what the
        function raises.
        """
        if CudaCapture.refused:
            raise RuntimeError(f"an earlier capture failed: {CudaCapture.refused}")
        try:
            self._keep_pool()
            return CudaGraph(function, self._pool, self._stream)
        except torch.OutOfMemoryError:
            self._pool, self._anchor = torch.cuda.graph_pool_handle(), None  # what was half captured goes with its pool
            raise
        except RuntimeError as problem:
            CudaCapture.refused = str(problem)
            raise

    def _keep_pool(self) -> None:
        """Capture an empty graph and keep it: torch before 2.12 cannot capture into a pool that lost all its graphs."""
        if self._anchor is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it is empty
                self._anchor = CudaGraph(lambda: None, self._pool, self._stream)


def as_cuda_graphs(device: torch.device) -> Capture:
    """Return a capture for a device, with a memory pool of its own."""
    return CudaCapture(device)


_free_streams: dict[torch.device, list[torch.cuda.Stream]] = {}


def _lent_stream(owner: object, device: torch.device) -> torch.cuda.Stream:
    """Lend a stream to capture in, which nobody else has while its owner lives.

    CUDA has 32 streams of a priority, and torch hands them out round-robin. No work is launched in streams of this
    priority, so that no other thread's work is captured; and each owner has its own, since captures in the same stream
    would share the workspace of their matrix products.
    """
    free = _free_streams.setdefault(device, [])
    stream = free.pop() if free else torch.cuda.Stream(device, priority=-1)
    finalize(owner, free.append, stream).atexit = False
    return stream


class Graphs:
    """Functions of fixed places: run as they are the first time that their key comes, from a graph ever after.

    refused: why nothing is captured any more, in words; "" as long as it is
    patience: how often a function is run as it is before `run` captures it; `prepare` may do so earlier
    seconds: that the last captures took, each of which holds up everything on the device
    """

    def __init__(self, capture: Capture, max_graphs: int = MAX_GRAPHS):
        self.refused = ""
        self.patience = 1
        self.seconds: deque[float] = deque(maxlen=max_graphs)
        self._capture, self._max_graphs = capture, max_graphs
        self._graphs: OrderedDict[Hashable, Captured | int] = OrderedDict()  # or how often it was run as it is

    def run(self, key: Hashable, function: Callable[[], Result]) -> Result:
        """Run the function, or replay its graph, and return its result.

        All that the function depends on, and all that it leaves on the host, must follow from its key. A function that
        cannot be captured, or does not fit as a graph, is run as it is. Raises what the function raises.
        """
        if self.refused:
            return function()
        known = self._graphs.get(key, 0)
        if isinstance(known, int) and known < self.patience:
            result = function()  # so that what is only made once is there when it is captured
            self._graphs[key] = known + 1
            self._graphs.move_to_end(key)
            if len(self._graphs) > self._max_graphs:
                self._graphs.popitem(last=False)
            return result
        self._graphs.move_to_end(key)
        graph = self._keep(key, function) if isinstance(known, int) else known
        if graph is None:
            return function()
        graph.replay()
        return graph.result

    def wants(self, key: Hashable) -> bool:
        """Whether a function has been run as it is, and could be captured now."""
        return not self.refused and isinstance(self._graphs.get(key), int)

    def prepare(self, key: Hashable, function: Callable[[], Any]) -> None:
        """Capture a function for which `wants` is True, without running it.

        Raises what the function raises.
        """
        self._keep(key, function)

    def clear(self) -> None:
        self._graphs.clear()

    def __len__(self) -> int:
        return sum(not isinstance(graph, int) for graph in self._graphs.values())

    def _keep(self, key: Hashable, function: Callable[[], Any]) -> Captured | None:
        """Capture it. Returns None, and says why, where that cannot be: nothing more is captured then.

        Where there is no room for it, the graphs that there are give theirs back: none of them is replayed any more.
        """
        began = time.perf_counter()
        try:
            graph = self._graphs[key] = self._capture(function)
        except torch.OutOfMemoryError as problem:
            self.refused = str(problem)
        except RuntimeError as problem:
            self.refused = str(problem)
            log.warning("a step cannot be captured as a CUDA graph, and is launched kernel by kernel: %s", problem)
            return None
        else:
            self.seconds.append(time.perf_counter() - began)
            log.info("captured a CUDA graph in %.0f ms", 1e3 * self.seconds[-1])
            return graph
        self._graphs.clear()
        empty_cache()  # only here: what was raised holds what was made before it
        log.warning(
            "a step does not fit into the GPU's memory as a CUDA graph, and is launched kernel by kernel, as with "
            "cuda_graphs: false: %s",
            self.refused,
        )
        return None
