"""Large buffers that are freed and asked for again are the same memory, in a process that nobody prepared."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from sam2s_model.acceleration.allocator import VARIABLES, resident_bytes

PROGRAM = """
import resource, sys
from sam2s_model.acceleration.allocator import keep_large_buffers
print(keep_large_buffers() if sys.argv[1] == "kept" else None)
for i in range(11):
    if i == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffer = b"x" * (40 << 20)
    del buffer
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **variables: str) -> tuple[str, int]:
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], env=env | variables, text=True, capture_output=True, check=True
    )
    answer, pages = done.stdout.split()
    return answer, int(pages)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_pages_of_large_buffers_fault_once():
    assert faults("as it comes")[1] > 5_000, "ten buffers of ten thousand pages"
    assert faults("kept") == ("True", pytest.approx(0, abs=500))
    assert faults("as it comes", **VARIABLES)[1] < 500, "the variables do the same"
    assert faults("kept", MALLOC_MMAP_THRESHOLD_="131072", MALLOC_TRIM_THRESHOLD_="131072")[1] > 5_000, (
        "what is set stays"
    )


def test_resident_bytes_is_that_of_a_python_process():
    assert 10**7 < resident_bytes() < 10**11
