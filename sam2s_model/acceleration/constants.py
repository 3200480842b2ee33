"""Tensors that depend on sizes only: made once, not on every frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import TypeVar

import torch

Made = TypeVar("Made")
KEPT = 16  # of each function, those last asked for
_asked_for: ContextVar[list | None] = ContextVar("asked_for", default=None)
_caches: list[Callable[[], None]] = []  # what empties each of them


def forget_all() -> None:
    """Drop every constant; who holds one keeps it. They are made anew when they are next asked for."""
    for clear in _caches:
        clear()


@contextmanager
def kept_alive() -> Iterator[list]:
    """Yield a list that holds all constants that this thread asks for inside: a captured graph goes on reading them."""
    held: list = []
    token = _asked_for.set(held)
    try:
        yield held
    finally:
        _asked_for.reset(token)


class _NotKept(Exception):
    """What is made while a graph is captured is not there until the graph runs, and may be overwritten after it."""


def is_capturing(device: torch.device) -> bool:
    """Whether this thread's launches are captured: a tensor made then is the graph's, and is filled when it runs."""
    return device.type == "cuda" and not torch.compiler.is_compiling() and torch.cuda.is_current_stream_capturing()


def finish(device: torch.device) -> None:
    """Wait until what this thread has launched is done, so that all other streams and threads may use its results."""
    if device.type == "cuda" and not torch.compiler.is_compiling():
        torch.cuda.current_stream(device).synchronize()


def constant(make: Callable[..., Made]) -> Callable[..., Made]:
    """Keep what a function makes of its arguments, one of which is `device`; nobody may write to it.

    What was made in a frame is no inference-mode tensor, so that training can use it, too. A compiled program makes
    its own.
    """

    def made_of(*arguments, device: torch.device, **options) -> Made:
        with torch.inference_mode(False), torch.no_grad():
            return make(*arguments, device=device, **options)

    @lru_cache(KEPT)
    def kept(*arguments, device: torch.device, **options) -> Made:
        if is_capturing(device):
            raise _NotKept
        made = made_of(*arguments, device=device, **options)
        finish(device)
        return made

    _caches.append(kept.cache_clear)

    @wraps(make)
    def known(*arguments, device: torch.device | str | None = None, **options) -> Made:
        if torch.compiler.is_compiling():  # the program makes it: what is kept would be a tensor of the compiler's
            return make(*arguments, device=device, **options)
        device = torch.device(device or torch.get_default_device())
        try:
            made = kept(*arguments, device=device, **options)
        except _NotKept:
            made = made_of(*arguments, device=device, **options)
        if (held := _asked_for.get()) is not None:
            held.append(made)
        return made

    return known
