"""Tell glibc's malloc to keep large buffers: images and layers are allocated and freed anew on every frame.

By default it maps each of them anew, and their pages fault one by one: 8 % of a small model's step on one core.
"""

from __future__ import annotations

import ctypes
import os
import resource

_OPTIONS = {  # the variable that sets it before a process starts: its number in malloc.h, and the value
    "MALLOC_MMAP_THRESHOLD_": (-3, 1 << 30),
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
    "MALLOC_TOP_PAD_": (-2, 64 << 20),
    # One heap for all threads: with one for each, the heaps fragment, and a process grows by some percent in its
    # first minutes.
    "MALLOC_ARENA_MAX": (-8, 1),
}
VARIABLES = {name: str(value) for name, (_, value) in _OPTIONS.items()}


def keep_large_buffers() -> bool:
    """Set the options for this process, except those that its environment sets.

    Returns False where the C library has no such options.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    return all([libc.mallopt(number, value) for name, (number, value) in _OPTIONS.items() if not os.environ.get(name)])


def give_back() -> None:
    """Let the system have what is kept and not in use, where the C library can."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def resident_bytes() -> int:
    """Read the host memory of this process, as Linux counts it."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
