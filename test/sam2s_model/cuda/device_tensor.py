"""Tensors of the stand-in's device, and what each operation of torch does there: see `stand_in`."""

from __future__ import annotations

import os
from functools import lru_cache

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from work import Memory, Stream, machine, place

OWN = "sam2s"  # namespace of the project's operators
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
        self.written, self.mutable, self.returns = written, bool(written), bool(func._schema.returns)
        self.kernel = self.name not in NO_KERNEL
        self.counted_only = _counted_only(func) if func.namespace == OWN else None


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


class Dispatch(TorchDispatchMode):
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
        if now.counts_triton and rule.counted_only:
            func = rule.counted_only
        result = func(*plain, **options)
        if name in ASKS and not isinstance(result, torch.Tensor):
            now.wait(now.so_far(now.stream), name)
            now.copied.append(f"{name} of a value: {place()}")
            now.counts["copies"] += 1
            return result
        if rule.mutable:
            made, out = written, written[0] if written and rule.returns else None
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
        lists = [t for value in plain for t in (value if isinstance(value, (list, tuple)) else (value,))]
        size = sum(t.nbytes for t in (*lists, *made) if isinstance(t, torch.Tensor))
        launched = rule.kernel and any(t.numel() for t in made)  # for no numbers torch launches nothing
        kernels = int(launched) + (rule.name == ATTENTION and _masked(plain, options))
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


def _counted_only(func):
    """Take zeros for the results of an operator of the project's own, whose kernel runs on a GPU."""
    shapes = torch._library.simple_registry.singleton.find(func.name()).fake_impl.kernel

    def zeros(*args, **kwargs):
        made = shapes(*args, **kwargs)
        for tensor in made if isinstance(made, tuple) else () if made is None else (made,):
            tensor.zero_()
        return made

    return zeros


def _masked(plain: list, options: dict) -> bool:  # its mask is made a bias first
    return (plain[3] if len(plain) > 3 else options.get("attn_mask")) is not None


def _written(rule: _Rule, args, kwargs) -> list[torch.Tensor]:
    found = [args[i] if i < len(args) else kwargs.get(name) for i, name in rule.written]
    each = [t for value in found for t in (value if isinstance(value, (list, tuple)) else (value,))]
    return [t for t in each if isinstance(t, torch.Tensor)]


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
