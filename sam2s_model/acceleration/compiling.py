"""torch.compile, for inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

from sam2s_model.errors import ConfigError

Result = TypeVar("Result")
PROGRAMS = 64  # of one function in a process, for models, sizes and types; torch's own limit is 8


def compile_for_inference(
    function: Callable[..., Result], *example: Any, backend: str = "inductor"
) -> Callable[..., Result]:
    """Compile a function into one program for arguments like those of the example, with which it is run at once.

    Weights, and what each `Folding` has made of them, are inputs of the program, so that models of one kind share it.
    What was folded is not made anew: the weights must not change afterwards. The program makes no CUDA graphs of its
    own, so that it can be captured in one. Compile it without gradients, in the mode in which it will be called.

    Raises ConfigError with what torch says: no C++ compiler for a CPU, no Triton for a GPU, a function that cannot be
    one program.
    """
    function(*example)  # so that what each `Folding` makes is there when the program asks for it
    try:
        from torch._dynamo import config  # here, since it takes seconds

        with config.patch(cache_size_limit=PROGRAMS):
            compiled = torch.compile(function, fullgraph=True, dynamic=False, backend=backend)
            compiled(*example)
    except Exception as error:  # of torch's compiler, of Triton, of the compilers that they start
        raise ConfigError(f"compile is true, but torch {torch.__version__} cannot: {_reason(error)}") from error
    return compiled


def _reason(error: Exception) -> str:
    """Find the line that says what is wrong: that of the compiler, where one was started."""
    error = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "error: " in line), lines[0] if lines else type(error).__name__)
