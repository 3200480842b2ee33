"""From the words of a configuration, and the arrays of a caller, to torch's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from sam2s_model.errors import ConfigError

if TYPE_CHECKING:
    from sam2s_model.network.model import Sam2Model

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
"""What numbers are kept in; with "int8", some linear layers multiply in 8 bits."""


def resolve_device(name: str) -> torch.device:
    """Find "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N". Raises ConfigError when it is not there."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise ConfigError(f"device is {name!r}: expected auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        raise ConfigError(
            f"device is {name!r} but torch {torch.__version__} sees {count} CUDA devices: use cpu or see `sam2s doctor`"
        )
    return torch.device("cuda", int(index or 0))


class OnDevice(Protocol):
    """What has a model and, on a GPU, a stream that its work runs in."""

    @property
    def model(self) -> Sam2Model: ...

    @property
    def stream(self) -> torch.cuda.Stream | None: ...


Owner = TypeVar("Owner", bound=OnDevice)


def for_inference(
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """Let a method run without gradients and, on a GPU, on that GPU in its owner's stream.

    What its caller has launched before is done first, and what its caller launches afterwards comes after it.
    """

    @wraps(method)
    def call(self: Owner, *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        stream = self.stream
        with torch.inference_mode(), nullcontext() if stream is None else in_stream(stream, self.model.device):
            return method(self, *arguments, **options)

    return call


def as_current(device: torch.device) -> AbstractContextManager[None]:
    """Make a GPU the current one, which Triton and compiled programs launch on; a CPU needs nothing."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def on_its_gpu(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let a function run with the GPU as the current one that the first of its tensors is on."""

    @wraps(function)
    def call(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with as_current(next(x.device for x in arguments if isinstance(x, Tensor))):
            return function(*arguments, **options)

    return call


@contextmanager
def in_stream(stream: torch.cuda.Stream, device: torch.device) -> Iterator[None]:
    """Launch in another stream of a GPU, after what the current one was given, and before what it is given next."""
    with torch.cuda.device(device):
        outside = torch.cuda.current_stream(device)
        if outside == stream:
            yield
            return
        stream.wait_stream(outside)
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            outside.wait_stream(stream)


def resolve_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Choose the number type of a precision; "auto" is bf16 on CUDA and fp32 on CPU, and int8 multiplies beside fp32.

    Raises ConfigError for an unknown word, fp16 on a CPU and int8 elsewhere.
    """
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}: expected auto, {', '.join(PRECISIONS)}")
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("precision is 'fp16' on a CPU: expected fp32, bf16 or int8")
    if precision == "int8" and device.type != "cpu":
        raise ConfigError(f"precision is 'int8' on {device.type}: it is for a CPU, expected bf16, fp16 or fp32")
    return PRECISIONS[precision]


def describe_device(device: torch.device) -> str:
    """Name a device, such as "cpu (2 threads)" or "cuda:0 (NVIDIA RTX A6000)"."""
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return f"{device} ({torch.cuda.get_device_name(device)})"


def use_deterministic_algorithms(wanted: bool) -> None:
    """Make this process compute the same bits from the same input every time, at the price of some speed on CUDA.

    The same holds for the same device, torch and number of threads only. Call it before anything runs on CUDA: cuBLAS
    reads its workspace setting once.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if wanted != torch.are_deterministic_algorithms_enabled():  # the call imports torch's compiler, which takes seconds
        torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = False


def upload(values: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to a device; a GPU copies by itself, and nobody waits for it."""
    if device.type == "cpu":
        return torch.from_numpy(values.copy())
    there = torch.from_numpy(values)
    pinned = torch.empty(there.shape, dtype=there.dtype, pin_memory=True)
    return pinned.copy_(there).to(device, non_blocking=True)


def fetch(*tensors: Tensor) -> list[Tensor]:
    """Copy tensors, of one device, to the host, which waits for the device once; on a CPU they are the tensors."""
    if not tensors or tensors[0].device.type == "cpu":
        return list(tensors)
    there = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True) for t in tensors]
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return there


def as_tensor(image: np.ndarray) -> Tensor:
    """Make a tensor that shares the image's memory where torch can: not with reversed axes or read-only arrays."""
    shares = image.flags.writeable and all(stride >= 0 for stride in image.strides)
    return torch.from_numpy(image if shares else image.copy())
