"""Streams of work, and what orders them: which memory may be read and written when, and what a capture permits.

The rules are CUDA's and those of torch's allocator, without a device: the work itself is done at once, on the host.
"""

from __future__ import annotations

import gc
import os
import threading
import traceback
import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import _disable_current_modes

STREAMS = 32  # that torch has of each priority; then it gives the first again
IN_CAPTURE = "operation not permitted when stream is capturing"
WAITED_FOR_ON_PURPOSE = ("synchronize", "event", "device")
OF_PROJECT = f"{os.sep}sam2s_model{os.sep}"
OF_TESTS = f"{os.sep}test{os.sep}"

Clock = dict["Stream", int]
"""Of some streams, how much of their work is done."""


class Fault(AssertionError):
    """What CUDA would not report: it would compute with whatever is there. No RuntimeError: nothing recovers."""


def place() -> str:
    """Where in the project this is called from, innermost first."""
    frames = [f for f in traceback.extract_stack() if OF_PROJECT in f.filename and OF_TESTS not in f.filename]
    return " < ".join(f"{f.filename.rsplit(OF_PROJECT)[-1]}:{f.lineno}" for f in reversed(frames[-4:])) or "a test"


def learn(clock: Clock, other: Clock) -> None:
    """Whatever is done in `other` is done in `clock`, too."""
    for stream, count in other.items():
        if count > clock.get(stream, 0):
            clock[stream] = count


class Stream:
    """torch.cuda.Stream. knows: what is done before anything that is launched here from now on"""

    def __new__(cls, device=None, priority: int = 0, **_) -> Stream:
        taken = machine().given.setdefault(priority, [])
        if len(taken) < STREAMS:
            made = super().__new__(cls)
            made.knows, made.freed, made.priority, made.device = {}, [], priority, torch.device("cuda:0")
            taken.append(made)
            return made
        taken.append(taken.pop(0))
        return taken[-1]

    def wait_stream(self, other: Stream) -> None:
        learn(self.knows, machine().so_far(other))

    def wait_event(self, event: Event) -> None:
        learn(self.knows, event.done)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        machine().wait(machine().so_far(self), "synchronize")

    def query(self) -> bool:
        return True


class Event:
    """torch.cuda.Event"""

    def __init__(self, enable_timing: bool = False, **_):
        self.done: Clock = {}

    def record(self, stream: Stream | None = None) -> None:
        self.done = dict(machine().so_far(stream or machine().stream))

    def wait(self, stream: Stream | None = None) -> None:
        (stream or machine().stream).wait_event(self)

    def synchronize(self) -> None:
        machine().wait(self.done, "event")

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Event) -> float:
        return 1.0


class Memory:
    """A piece of memory. home: the stream it is allocated in and returns to; None: the host's, or a graph pool's"""

    def __init__(self, home: Stream | None, size: int):
        self.home, self.size = home, size
        self.wrote: tuple[Stream, int] | None = None
        self.read: Clock = {}
        if home is not None:
            try:
                machine().allocate(size)
            except BaseException:
                self.home = None  # nothing is to be given back
                raise

    def users(self, writing: bool) -> list[tuple[Stream, int]]:
        """Whom a reader, or a writer, must come after."""
        return [*([self.wrote] if self.wrote else ()), *(self.read.items() if writing else ())]

    def __del__(self):
        if self.home is not None and _machine is not None:
            _machine.allocated -= self.size
            self.home.freed += [user for user in self.users(writing=True) if user[0] is not self.home]


@dataclass
class Pool:
    """Memory that graphs share.

    users: graphs there are; kept: a cuBLAS workspace lies in it, for as long as the process lives
    last: the graph that ran last, whose results the next one of the pool may overwrite
    """

    users: int = 0
    kept: bool = False
    memory: Memory = field(default_factory=lambda: Memory(None, 0))
    last: weakref.ref | None = None


class Counts(Counter):
    """How often: kernels (replayed or not), launches (a graph is one), copies, waits, bytes (if no kernel is fused)."""

    def __sub__(self, other: Counts) -> Counts:
        return Counts({key: self[key] - other[key] for key in self if self[key] != other[key]})


class Machine:
    """The device, and what threads have told it.

    old: as torch up to about 2.10 is: a pool whose graphs are gone cannot be captured into again, and a failed capture
        leaves the allocator as if it went on
    counts_triton: the project's own kernels are counted, with zeros for their results; otherwise Triton refuses them
    """

    def __init__(self, old: bool = True, counts_triton: bool = False):
        self.old, self.counts_triton = old, counts_triton
        self.given: dict[int, list[Stream]] = {}
        self.pools: dict[tuple, Pool] = {}
        self.counts, self.names = Counts(), Counter()
        self.copied: list[str] = []
        self.waited: list[str] = []
        self.faults: list[str] = []
        self.capture = None  # the graph that is captured, of any thread
        self.stuck = False  # the allocator believes that a capture goes on
        self.allocated, self.most, self.limit = 0, 0, None
        self.strict = False  # torch.cuda.set_sync_debug_mode("error")
        self.lock = threading.RLock()
        self.done: Clock = {}  # what some thread has waited for
        self._of_thread = threading.local()
        self._default: Stream | None = None

    # ---- threads

    @property
    def default(self) -> Stream:
        if self._default is None:
            self._default = Stream(priority=1)  # one of a kind
        return self._default

    @property
    def stream(self) -> Stream:
        return getattr(self._of_thread, "stream", None) or self.default

    @stream.setter
    def stream(self, stream: Stream) -> None:
        self._of_thread.stream = stream

    @property
    def host(self) -> Clock:
        """What this thread has waited for."""
        if not hasattr(self._of_thread, "host"):
            self._of_thread.host = {}
        return self._of_thread.host

    @property
    def capturing(self):
        """The graph that this thread captures, or None."""
        graph = self.capture
        return graph if graph is not None and graph.thread == threading.get_ident() else None

    # ---- work

    def so_far(self, stream: Stream) -> Clock:
        """What is done when all that was launched in a stream is."""
        return stream.knows

    def wait(self, clock: Clock, why: str) -> None:
        """The host waits, unless it knows that it need not."""
        if self.capturing:
            self.forbid(f"the host waits ({why})")
        if self.strict and why not in WAITED_FOR_ON_PURPOSE:
            raise RuntimeError(f"called a synchronizing CUDA operation: {why} ({place()})")
        if any(self.done.get(stream, 0) < count for stream, count in clock.items()):
            self.counts["waits"] += 1
            self.waited.append(f"{why}: {place()}")
            learn(self.done, clock)
        learn(self.host, clock)

    def forbid(self, why: str) -> None:
        """What CUDA refuses while a stream is captured."""
        self.capturing.broken = True
        raise RuntimeError(f"{IN_CAPTURE}: {why} ({place()})")

    def fault(self, what: str) -> None:
        self.faults.append(f"{what} ({place()})")
        raise Fault(self.faults[-1])

    def run(self, name: str, reads: Iterable[Memory], writes: Iterable[Memory]) -> None:
        """Something is launched in this thread's stream."""
        with self.lock:
            stream, writes = self.stream, set(writes)
            learn(stream.knows, self.done)
            now = stream.knows[stream] = stream.knows.get(stream, 0) + 1
            for memory in {*reads, *writes}:
                for other, at in memory.users(memory in writes):
                    if stream.knows.get(other, 0) < at:
                        self.fault(f"{name} races with the work of another stream")
                if memory in writes:
                    if memory.wrote is None and memory.home is stream and stream.freed:
                        self._reuse(name, stream)
                    memory.wrote, memory.read = (stream, now), {}
                else:
                    memory.read[stream] = now

    def _reuse(self, name: str, stream: Stream) -> None:
        """What is allocated may be a place that was freed while another stream still used it."""
        freed, stream.freed = stream.freed, []
        if any(stream.knows.get(other, 0) < at for other, at in freed):
            self.fault(f"{name} writes to memory that was freed while another stream used it")

    def touch(self, memory: Memory, writes: bool) -> None:
        """The host reads or writes its own memory."""
        for stream, at in memory.users(writes):
            if self.done.get(stream, 0) < at:
                self.fault(f"the host {'writes to' if writes else 'reads'} a buffer that is being copied")

    def allocate(self, size: int) -> None:
        if self.limit is not None and self.allocated + size > self.limit:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes")
        self.allocated += size
        self.most = max(self.most, self.allocated)

    def empty_cache(self) -> None:
        if self.old and (self.stuck or self.capture is not None):
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp")

    def synchronize(self, device=None) -> None:
        everything: Clock = {}
        for streams in self.given.values():
            for stream in streams:
                learn(everything, self.so_far(stream))
        self.wait(everything, "device")


class Graph:
    """torch.cuda.CUDAGraph: repeats operations on the same memory. Captured, they have not happened yet."""

    def __init__(self, *_, **__):
        self.calls, self.kernels, self.bytes, self.of_pool = [], 0, 0, None
        self.reads: set[Memory] = set()  # from outside, while it is captured; then weakly
        self.writes: set[Memory] = set()
        self.made: dict[Memory, torch.Tensor] = {}
        self.before: dict[Memory, tuple[torch.Tensor, torch.Tensor]] = {}
        self.broken, self.thread = False, 0

    def capture_begin(self, pool: tuple | None = None, capture_error_mode: str = "global", **_) -> None:
        now = machine()
        handle = pool or torch.cuda.graph_pool_handle()
        self.of_pool = now.pools.setdefault(handle, Pool())
        if now.capture is not None or now.stuck:
            raise RuntimeError(f"{IN_CAPTURE}: another capture goes on")
        if now.stream is now.default:
            raise RuntimeError("CUDA graphs must be captured on a non-default stream")
        if now.old and not self.of_pool.users and self.of_pool.kept:
            raise RuntimeError("it->second->use_count > 0 INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp")
        self.stream, self.thread = now.stream, threading.get_ident()
        self.of_pool.users += 1
        now.capture = self

    def capture_end(self) -> None:
        now = machine()
        for values, copy in self.before.values():  # nothing has happened yet
            values.copy_(copy)
        now.capture = None
        spoil(self.made.values())
        if self.broken:
            now.stuck = now.old
            raise RuntimeError("operation failed due to a previous error during capture")
        self.reads, self.writes, self.before = weakly(self.reads), weakly(self.writes), {}

    def replay(self) -> None:
        now = machine()
        reads, writes = ([memory() for memory in some] for some in (self.reads, self.writes))
        if None in reads or None in writes:
            now.fault("a graph works on memory that was freed since it was captured")
        last = self.of_pool.last and self.of_pool.last()
        if last is not None and last is not self:
            spoil(last.made.values())
        self.of_pool.last = weakref.ref(self)
        now.run("a graph", reads, [*writes, *self.made, self.of_pool.memory])
        now.counts.update(launches=1, kernels=self.kernels, bytes=self.bytes)
        with torch.inference_mode(), _disable_current_modes():
            for func, args, options, kept in self.calls:
                made = func(*args, **options)
                if kept is not None:
                    for old, new in zip(kept, made if isinstance(made, (tuple, list)) else (made,), strict=True):
                        old.copy_(new)

    def reset(self) -> None:
        if self.of_pool is not None:
            self.of_pool.users -= 1
            self.of_pool = None
            if _machine is not None and _machine.capturing:
                _machine.capturing.broken = True  # pytorch #161037

    __del__ = reset

    def pool(self) -> tuple:
        return next(handle for handle, pool in machine().pools.items() if pool is self.of_pool)


def weakly(memories: Iterable[Memory]) -> list[weakref.ref]:
    return [weakref.ref(memory) for memory in memories]


def spoil(values: Iterable[torch.Tensor]) -> None:
    """Leave in memory what may be in it when it is used for something else."""
    with torch.inference_mode():
        for tensor in values:
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
            elif tensor.dtype == torch.uint8:
                tensor.fill_(0xAB)


_machine: Machine | None = None


def machine() -> Machine:
    """The device of the moment."""
    assert _machine is not None, "there is no device: use it inside `stand_in.cuda()`"
    return _machine


def switch(to: Machine | None) -> None:
    """Plug a device in, or out."""
    global _machine
    gc.collect()  # what is of the device before goes with it
    _machine = to
