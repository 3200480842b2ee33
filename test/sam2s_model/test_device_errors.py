"""Which errors are of a device, and after which of them a process cannot use it any more."""

import pytest
import torch

from sam2s_model.device_errors import is_of_device, loses_device

HINT = "\nCUDA kernel errors might be asynchronously reported at some other API call\nCompile with `TORCH_USE_CUDA_DSA`"


@pytest.mark.parametrize(
    "text, of_device, lost",
    [
        ("CUDA error: an illegal memory access was encountered", True, True),
        ("CUDA error: unspecified launch failure", True, True),
        ("CUDA error: uncorrectable ECC error encountered", True, True),
        ("CUDA error: device-side assert triggered", True, True),
        ("CUDA error: operation not supported on global/shared address space", True, True),
        ("CUDA error: the launch timed out and was terminated", True, True),
        ("CUDA driver error: misaligned address", True, True),
        ("Triton Error [CUDA]: an illegal memory access was encountered", True, True),
        ("HIP error: unknown error", True, True),
        ("CUDA error: invalid configuration argument", True, False),
        ("CUDA error: operation not permitted when stream is capturing", True, False),
        ("CUDA error: out of memory", True, False),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", True, False),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes", True, False),
        ("the file has an unknown error", False, False),
        ("expected a tensor on CUDA\nunknown error", False, False),
    ],
)
def test_errors_are_told_by_their_text(text, of_device, lost):
    assert (is_of_device(RuntimeError(text)), loses_device(RuntimeError(text + HINT))) == (of_device, lost)


def test_errors_are_told_by_their_types_name():
    assert is_of_device(torch.OutOfMemoryError("2 GiB")) and not is_of_device(ValueError("2 GiB"))


def test_what_follows_from_a_lost_device_is_one_too():
    with pytest.raises(ValueError) as caught:
        try:
            raise RuntimeError("CUDA error: unspecified launch failure")
        except RuntimeError as error:
            raise ValueError("no graph was captured") from error
    assert loses_device(caught.value) and not loses_device(ValueError("no graph was captured"))
