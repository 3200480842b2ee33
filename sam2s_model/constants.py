"""Tensors that depend on sizes only: made once, not on every frame."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

import torch

Made = TypeVar("Made")
KEPT = 16  # of each function, those last asked for


def constant(make: Callable[..., Made]) -> Callable[..., Made]:
    """Keep what a function makes of its arguments, one of which is `device`; nobody may write to it.

    What was made in a frame serves training, too: it is no tensor of the inference mode.
    """

    @lru_cache(KEPT)
    def kept(*arguments, device: torch.device, **options) -> Made:
        with torch.inference_mode(False), torch.no_grad():
            return make(*arguments, device=device, **options)

    @wraps(make)
    def known(*arguments, device: torch.device | str | None = None, **options) -> Made:
        return kept(*arguments, device=torch.device(device or torch.get_default_device()), **options)

    return known
