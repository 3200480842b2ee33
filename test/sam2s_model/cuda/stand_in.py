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
from functools import lru_cache
from types import SimpleNamespace
from unittest import mock

import torch
import work
from torch.utils._python_dispatch import TorchDispatchMode
from work import Event, Graph, Machine, Memory, Stream, machine, place

from sam2s_model.acceleration import attention, constants

CUDA, META = 1, 14  # numbers of c10::DeviceType
DEVICE, HOST = torch.device("cuda:0"), torch.device("cpu")
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
ATTENTION = "scaled_dot_product_attention"
NO_KERNEL = {
    "empty",
    "empty_like",
    "new_empty",
    "empty_strided",
    "new_empty_strided",
    "empty_permuted",
    "lift_fresh",
    "detach_",
}
COPIES = {"_to_copy", "copy_"}
INDEXING = {"index", "index_put_", "_index_put_impl_", "index_put"}
ASKS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive"}
SORTS_INDICES = {
    "index_put_",
    "_index_put_impl_",
    "index_put",
    "index_copy_",
    "index_copy",
    "scatter_",
    "scatter",
    "scatter_add_",
    "scatter_add",
}
"""In deterministic mode these sort their indices, after the host has asked for the greatest one."""
NOT_DETERMINISTIC = {
    "median.dim": "median CUDA with indices output",
    "nanmedian.dim": "median CUDA with indices output",
}
PRODUCTS = {"addmm", "mm", "bmm", "baddbmm", "_addmm_activation", "addmv", "mv"}


class OnDevice(torch.Tensor):
    """A tensor of the device, or of pinned memory of the host. values: what it holds; memory: where that is"""

    @staticmethod
    def __new__(cls, values: torch.Tensor, device: torch.device, memory: Memory) -> OnDevice:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=device,
        )
        made.values_, made.memory_ = values, memory
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(
            f"{func} is called on a tensor of the device outside of `cuda()`, or in a thread that is not in it"
        )

    def data_ptr(self) -> int:
        return self.values_.data_ptr()

    def is_pinned(self, *_) -> bool:
        return self.device == HOST

    def tolist(self) -> list:
        return self._on_host().tolist()

    def numpy(self, **options):
        if self.device != HOST:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        return self._on_host().numpy(**options)

    def _on_host(self) -> torch.Tensor:
        if self.device != HOST:
            return self.cpu()
        machine().touch(self.memory_, writes=False)
        return self.values_

    def __repr__(self, **_) -> str:
        return f"{self.values_!r} on {self.device}"


class _Rule:
    """What is known of an operation before it is called."""

    def __init__(self, func):
        self.name = func.overloadpacket.__name__
        self.full = f"{self.name}.{func._overloadname}"
        composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE)
        self.composite = composite and self.name != ATTENTION
        written = [(i, a.name) for i, a in enumerate(func._schema.arguments) if a.alias_info and a.alias_info.is_write]
        self.written, self.mutable = written, bool(written)
        self.kernel = self.name not in NO_KERNEL


_rule = lru_cache(None)(_Rule)


def _plain(value, found: list):
    """A value with the host's tensors in place of the device's; found: all tensors in it, of either."""
    if isinstance(value, OnDevice):
        found.append(value)
        return value.values_
    if isinstance(value, torch.Tensor):
        found.append(value)
        return value
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(v, found) for v in value])
    return value


class _Dispatch(TorchDispatchMode):
    """Does what is asked of the device, and says so to the machine."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # it would be imported, which takes seconds

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, rule = dict(kwargs or {}), _rule(func)
        target = kwargs.get("device") or next((a for a in args if isinstance(a, torch.device)), None)
        if target is not None and torch.device(target).type in ("cuda", "meta"):  # "meta": see `_lend_device_guard`
            target = DEVICE
        given: list[torch.Tensor] = []
        plain = [_plain(a, given) for a in args]
        options = {key: _plain(value, given) for key, value in kwargs.items()}
        pinned = options.pop("pin_memory", None)
        ours = [t for t in given if isinstance(t, OnDevice)]
        if not ours and target != DEVICE and not pinned:
            return func(*args, **kwargs)
        if rule.composite:
            with self:
                return func._op_dk(COMPOSITE, *args, **kwargs)
        if target is not None:
            options["device"] = HOST
        of_device = [t for t in ours if t.device == DEVICE]
        if target != DEVICE and not of_device:
            return self._on_host(func, rule, plain, options, args, kwargs, given, ours, pinned)
        here = target or DEVICE
        return self._launch(func, rule, plain, options, args, kwargs, given, of_device, here)

    def _on_host(self, func, rule, plain, options, args, kwargs, given, ours, pinned):
        """Of pinned memory and other memory of the host: what the host does itself."""
        written = _written(rule, args, kwargs)
        for tensor in ours:
            machine().touch(tensor.memory_, writes=any(tensor is w for w in written))
        result = func(*plain, **options)
        if rule.mutable:
            return written[0]
        if pinned:
            return OnDevice(result, HOST, Memory(None, result.nbytes))
        return _wrapped(result, HOST, given, None)

    def _launch(self, func, rule, plain, options, args, kwargs, given, of_device, here):
        now, name = machine(), rule.name
        others = [t for t in given if t.device == HOST]
        crossing = [t for t in others if t.dim()] if name not in COPIES else others
        masks = name in INDEXING and any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
        if masks and name != "index" and args[2].numel() == 1:
            masks = False  # it becomes masked_fill
        if crossing and name not in COPIES | INDEXING:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found cuda:0 and cpu: {rule.full} ({place()})"
            )
        to_host = here == HOST
        free = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        if name == "copy_" and crossing:
            to_host = args[0].device == HOST
        copies = bool(crossing) or to_host
        waits = copies and not (free and all(isinstance(t, OnDevice) for t in crossing))
        self._check(rule, waits, masks)
        written = _written(rule, args, kwargs)
        capture = now.capturing
        if capture:
            for tensor in written:
                if tensor.memory_ not in capture.before and tensor.memory_ not in capture.made:
                    whole = _whole(tensor.values_)
                    capture.before[tensor.memory_] = whole, whole.clone()
        result = func(*plain, **options)
        if name in ASKS and not isinstance(result, torch.Tensor):
            now.wait(now.so_far(now.stream), name)
            now.copied.append(f"{name} of a value: {place()}")
            now.counts["copies"] += 1
            return result
        if rule.mutable:
            made, out = written, written[0] if written else None
        elif to_host:  # a copy that was waited for, or one into memory that only this call could have pinned
            made, out = [], result
        else:
            out = _wrapped(result, DEVICE, given, None if capture else now.stream)
            made = list(out) if isinstance(out, (tuple, list)) else [out]
        before = {t.memory_ for t in given if isinstance(t, OnDevice)}
        if not rule.mutable and made and all(t.memory_ in before for t in made):
            if capture:
                capture.calls += []  # a view is one still
            return out
        self._record(
            func,
            rule,
            plain,
            options,
            of_device + [t for t in crossing if isinstance(t, OnDevice)],
            made,
            capture,
            copies,
        )
        if copies:
            now.counts["copies"] += 1
            now.copied.append(f"{name} {[tuple(t.shape) for t in crossing]}{' (waits)' if waits else ''}: {place()}")
        if waits or masks or name in ASKS:
            now.wait(now.so_far(now.stream), name)
        return out

    def _check(self, rule: _Rule, waits: bool, masks: bool) -> None:
        """Raise for what torch or CUDA refuses."""
        now = machine()
        if torch.are_deterministic_algorithms_enabled():
            if rule.full in NOT_DETERMINISTIC:
                raise RuntimeError(
                    f"{NOT_DETERMINISTIC[rule.full]} does not have a deterministic implementation ({place()})"
                )
            if rule.name in PRODUCTS and not os.environ.get("CUBLAS_WORKSPACE_CONFIG"):
                raise RuntimeError("Deterministic behavior was enabled, but CUBLAS_WORKSPACE_CONFIG is not set")
            if now.capturing and rule.name in SORTS_INDICES:
                now.forbid(f"deterministic {rule.name} asks for the greatest index")
        if now.capturing:
            if now.stream is not now.capturing.stream:
                now.forbid("work in another stream than the captured one")
            if waits or masks or rule.name in ASKS:
                now.forbid(f"the host waits for {rule.full}")

    def _record(self, func, rule, plain, options, reads, made, capture, copies) -> None:
        now = machine()
        reads, writes = [t.memory_ for t in reads], [t.memory_ for t in made]
        size = sum(t.nbytes for t in (*plain, *made) if isinstance(t, torch.Tensor))
        kernels = int(rule.kernel) + (rule.name == ATTENTION and _masked(plain, options))
        if capture is None:
            if rule.kernel:
                now.run(rule.full, reads, writes)
                now.names[rule.name] += kernels
                now.counts.update(launches=kernels, kernels=kernels, bytes=size)
            return
        values = [t.values_ for t in made]
        fresh = {} if rule.mutable else dict(zip(writes, values, strict=True))
        capture.made.update(fresh)
        capture.reads |= {memory for memory in reads if memory not in capture.made}
        capture.writes |= {memory for memory in writes if memory not in capture.made}
        capture.calls.append((func, plain, options, None if rule.mutable else values))
        capture.kernels += kernels
        capture.bytes += size if rule.kernel else 0
        capture.of_pool.kept |= rule.name in PRODUCTS


def _masked(plain: list, options: dict) -> bool:  # its mask is made a bias first
    return (plain[3] if len(plain) > 3 else options.get("attn_mask")) is not None


def _written(rule: _Rule, args, kwargs) -> list[torch.Tensor]:
    found = [args[i] if i < len(args) else kwargs.get(name) for i, name in rule.written]
    return [t for t in found if isinstance(t, torch.Tensor)]


def _whole(values: torch.Tensor) -> torch.Tensor:
    """All of the memory that a tensor is in."""
    storage = values.untyped_storage()
    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,))


def _wrapped(result, device: torch.device, given: list[torch.Tensor], stream: Stream | None):
    """Wrap results as tensors of a device: views in the memory of their base, others in new memory of the device."""
    if isinstance(result, (tuple, list)):
        return type(result)([_wrapped(r, device, given, stream) for r in result])
    if not isinstance(result, torch.Tensor):
        return result
    place = result.untyped_storage()._cdata
    for tensor in given:
        if isinstance(tensor, OnDevice) and tensor.values_.untyped_storage()._cdata == place:
            if tensor.is_inference() == torch.is_inference_mode_enabled():
                return OnDevice(result, device, tensor.memory_)
            with torch.inference_mode(tensor.is_inference()):  # a view is what its base is
                return OnDevice(result, device, tensor.memory_)
    return result if device == HOST else OnDevice(result, device, Memory(stream, result.nbytes))


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
def cuda(old: bool = True) -> Iterator[Machine]:
    """The device is there inside, for this thread and those that are in `joined`. old: see `Machine`"""
    _lend_device_guard()
    device, handles = Machine(old), itertools.count(1)
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
        with _Dispatch():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)
