"""Weights that are made of other weights, for inference: exact algebra, done once and not on every frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sam2s_model.acceleration.constants import finish, is_capturing


class Folding:
    """Keeps what a function made of some weights, and makes it anew when they were replaced or written to.

    So it follows `load_state_dict`, `to` and an optimiser; only what is written through `Tensor.data` goes unseen.
    Threads may share one: at worst two of them make equal values, which any stream of a GPU may use once they are
    kept. A compiled program reads what was kept when it was compiled, and follows no later change.
    """

    def __init__(self, make: Callable[..., Any]):
        self._make = make
        self._kept: tuple[tuple, tuple, Any] | None = None

    def __call__(self, *weights: Tensor, **options: Any) -> Any:
        """`make(*weights, **options)`, weights without their gradients."""
        if torch.compiler.is_compiling():
            if self._kept is None:  # the program makes it of the weights, on every call
                return self._make(*weights, **options)
            return self._kept[
                2
            ]  # an input of the program, as weights are; `compile_for_inference` sees to it that it is there
        state = (*(_state(weight) for weight in weights), *options.items())
        kept = self._kept
        if kept is None or kept[0] != state:
            # Weights are told apart by their addresses, and held: a new tensor could take a freed one's place.
            with torch.inference_mode(False), torch.no_grad():  # so that it serves training, too
                held = tuple(weight.detach() for weight in weights)
                kept = state, held, self._make(*held, **options)
            if is_capturing(weights[0].device):
                return kept[2]
            finish(weights[0].device)
            self._kept = kept
        return kept[2]

    def __deepcopy__(self, memo: dict) -> Folding:
        return Folding(self._make)

    def __reduce__(self) -> tuple:
        return Folding, (self._make,)


def _state(weight: Tensor) -> tuple:
    return weight.data_ptr(), weight.dtype, weight.device, 0 if weight.is_inference() else weight._version
