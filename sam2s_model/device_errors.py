"""What torch raises for a device, told by name and text: importing torch for its types takes seconds."""

from __future__ import annotations

import re

OF_DEVICE = re.compile(
    r"^(OutOfMemoryError|AcceleratorError)|(CUDA|HIP) (error|out of memory)|not enough memory|can't allocate memory"
)
# After these, each further call fails in this process: its context on the GPU is lost, see cudaError_t
LOST = re.compile(
    r"(CUDA|HIP)\b.{0,80}\b("
    r"illegal memory access|illegal instruction|misaligned address|invalid program counter|hardware stack error"
    r"|shared address space|device-side assert|unspecified launch failure|launch timed out|uncorrectable (ECC|NVLink)"
    r"|context is destroyed|unknown error)"
)


def is_of_device(error: BaseException) -> bool:
    """Tell whether it is of a GPU, or for want of memory."""
    return bool(OF_DEVICE.search(_told(error)) or LOST.search(_told(error)))


def loses_device(error: BaseException) -> bool:
    """Tell whether this process cannot use its GPU any more, and another one may: by the error, or what it follows."""
    seen: BaseException | None = error
    while seen is not None:
        if LOST.search(_told(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def first_line(error: BaseException) -> str:
    """Return what an error says, without the lines in which torch tells how to look for a faulty kernel."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__} {error}"
