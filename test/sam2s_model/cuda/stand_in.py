"""A CUDA device whose memory is the host's: on a CPU build of torch the project's CUDA code runs on it, with values.

    with cuda() as device:
        model = on_cuda(Sam2Model(PICO, 128).eval())
        tracker = Tracker(model, "fifo")  # with its streams, events, pinned buffers and captured graphs
        device.counts

Tensors there say that they are on "cuda:0". Mixing devices raises as torch does, and so does what a capture does not
permit; captured graphs, which are torch's own `torch.cuda.graph` around a `work.Graph`, repeat their operations on
the same memory. What CUDA would not report raises `Fault`: work of two streams on the same memory that nothing
orders, a pinned buffer that is read or written while it is copied, memory that is reused too early, a graph whose
memory was freed. `counts` are kernels (about: an operation that is no view is one), launches, copies between host and
device, waits of the host, and bytes.

Not here: CUDA's own kernels and their choice, the time anything takes, and whatever a driver adds.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import torch
import work
from device_tensor import DEVICE, Dispatch
from work import Event, Graph, Machine, Stream, machine

from sam2s_model.acceleration import attention, constants, kernels
from sam2s_model.config import PICO

CUDA, META = 1, 14  # numbers of c10::DeviceType
SMALL = replace(PICO, stages=(1, 1, 2, 1), global_blocks=(3,), memory_layers=1, image_size=64)
"""Of everything one, or one of each kind: what is launched is dispatched in Python, thousands of times."""


def on_cuda(module: torch.nn.Module, dtype: torch.dtype | None = None) -> torch.nn.Module:
    """Move a module's parameters and buffers to the device, in place; meta tensors become zeros. Only inside `cuda`."""
    for part in module.modules():
        for name, value in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            wanted = dtype if dtype and value.is_floating_point() else value.dtype
            moved = (
                torch.zeros(value.shape, device=DEVICE, dtype=wanted)
                if value.is_meta
                else value.detach().to(DEVICE, wanted)
            )
            if isinstance(value, torch.nn.Parameter):
                part._parameters[name] = torch.nn.Parameter(moved, requires_grad=False)
            else:
                part._buffers[name] = moved
    return module


def _lend_device_guard() -> None:
    """Give CUDA the device guard of "meta", which does nothing: indexing asks for one, and a CPU build has none.

    It says that the current device is "meta": what asks for "cuda" without a number is given that.
    """
    library = ctypes.CDLL(os.path.join(os.path.dirname(torch.__file__), "lib", "libc10.so"))
    registry = (ctypes.c_void_p * (META + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    registry[CUDA] = registry[CUDA] or registry[META]


class _InStream:
    """torch.cuda.stream"""

    def __init__(self, stream: Stream | None):
        self._inside = stream

    def __enter__(self) -> None:
        self._before = machine().stream
        if self._inside is not None:
            machine().stream = self._inside

    def __exit__(self, *_) -> None:
        machine().stream = self._before


def _forget_what_is_kept() -> None:
    """Forget what the project makes once for a device: constants, and the measured ways of attention."""
    constants.forget_all()
    attention._fastest.clear()


@contextmanager
def _same_device(device=None) -> Iterator[None]:
    yield


def _use(stream: Stream) -> None:
    machine().stream = stream


def _limit(fraction: float, device=None) -> None:
    machine().limit = int(fraction * TOTAL) if fraction < 1 else None


def _be_strict(mode: str) -> None:
    machine().strict = mode == "error"


TOTAL = 1 << 32  # bytes of the device
PROPERTIES = SimpleNamespace(name="stand-in", major=8, minor=0, total_memory=TOTAL, multi_processor_count=1)


@contextmanager
def cuda(old: bool = True, counts_triton: bool = False) -> Iterator[Machine]:
    """The device is there inside, for this thread and those that are in `joined`. Arguments: see `Machine`"""
    _lend_device_guard()
    device, handles = Machine(old, counts_triton), itertools.count(1)
    patches = dict(
        _lazy_init=lambda: None, device_count=lambda: 1, current_device=lambda: 0, is_initialized=lambda: True,
        device=_same_device,
        get_device_name=lambda device=None: PROPERTIES.name, get_device_properties=lambda device=None: PROPERTIES,
        Stream=Stream, Event=Event, CUDAGraph=Graph, stream=_InStream, set_stream=_use,
        current_stream=lambda device=None: device_now().stream, default_stream=lambda device=None: device_now().default,
        graph_pool_handle=lambda: (0, next(handles)),
        is_current_stream_capturing=lambda: device_now().capturing is not None,
        synchronize=lambda device=None: device_now().synchronize(), empty_cache=lambda: device_now().empty_cache(),
        memory_allocated=lambda device=None: device_now().allocated,
        memory_reserved=lambda device=None: device_now().allocated,
        max_memory_allocated=lambda device=None: device_now().most, reset_peak_memory_stats=lambda device=None: None,
        mem_get_info=lambda device=None: (TOTAL - device_now().allocated, TOTAL),
        set_per_process_memory_fraction=_limit,
        set_sync_debug_mode=_be_strict, set_device=lambda device: None,
    )  # fmt: skip
    device_now = machine
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **patches))
        stack.enter_context(mock.patch.object(torch._C, "_host_emptyCache", lambda: None, create=True))
        # Triton can compile for no such device; its interpreter, where another test has asked for it, takes minutes.
        stack.enter_context(mock.patch.object(kernels, "_tried", lambda device, dtype: False))
        overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(
            True
        )  # `Module.to` makes new parameters, of this class
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        work.switch(device)
        stack.callback(work.switch, None)
        _forget_what_is_kept()
        with joined():
            yield device


@contextmanager
def joined() -> Iterator[None]:
    """For a thread of its own, inside `cuda`."""
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor` is then seen, too
    try:
        with Dispatch():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)
