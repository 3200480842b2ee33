"""torch.compile, for inference."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from sam2s_model.device import on_its_gpu
from sam2s_model.errors import ConfigError
from sam2s_model.paths import user_cache

Result = TypeVar("Result")
FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # the variable in which torch's compiler is told where to keep what it makes
PROGRAMS = 64  # of one function in a process, for models, sizes and types; torch's own limit is 8


@on_its_gpu
def compile_for_inference(
    function: Callable[..., Result], *example: Any, backend: str = "inductor"
) -> Callable[..., Result]:
    """Compile a function into one program for arguments like those of the example, with which it is run at once.

    On a GPU that is the one of the first tensor among them.

    Weights, and what each `Folding` has made of them, are inputs of the program, so that models of one kind share it.
    What was folded is not made anew: the weights must not change afterwards. The program makes no CUDA graphs of its
    own, so that it can be captured in one. Compile it without gradients, in the mode in which it will be called.
    What is made is kept in `program_folder`, for processes to come.

    Raises ConfigError with what torch says: no C++ compiler for a CPU, no Triton for a GPU, a function that cannot be
    one program.
    """
    function(*example)  # so that what each `Folding` makes is there when the program asks for it
    try:
        from torch._dynamo import config  # here, since it takes seconds

        keep_programs()
        with config.patch(cache_size_limit=PROGRAMS):
            compiled = torch.compile(function, fullgraph=True, dynamic=False, backend=backend)
            compiled(*example)
    except Exception as error:  # of torch's compiler, of Triton, of the compilers that they start
        raise ConfigError(f"compile is true, but torch {torch.__version__} cannot: {_reason(error)}") from error
    return compiled


def pays_off(device: torch.device) -> bool:
    """Whether an image encoder is compiled unless somebody says otherwise: on a GPU, where Triton is.

    Not where the same bits are wanted every time: those of the layers themselves then.
    """
    if device.type != "cuda" or torch.are_deterministic_algorithms_enabled():
        return False
    from torch.utils._triton import has_triton

    return has_triton()


def program_folder() -> Path:
    """Return the folder that compiled programs are kept in: torch's own variable says it, else the user's cache."""
    return Path(os.environ.get(FOLDER) or user_cache() / "programs")


def keep_programs() -> None:
    """Tell torch's compiler to keep its programs in `program_folder`, and to look for them there.

    By itself it keeps them in a folder of /tmp, and before torch 2.5 no whole program. Where the folder cannot be
    written to, that is left as it is.
    """
    from torch._inductor import config

    config.fx_graph_cache = True
    folder = program_folder()
    if can_keep(folder):
        os.environ[FOLDER] = str(folder)


def can_keep(folder: Path) -> bool:
    """Whether programs can be kept in a folder, which is made where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _reason(error: Exception) -> str:
    """Find the line that says what is wrong: that of the compiler, where one was started."""
    error = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "error: " in line), lines[0] if lines else type(error).__name__)
