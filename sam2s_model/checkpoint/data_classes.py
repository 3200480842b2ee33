"""Classes in checkpoints that hold data and can run nothing, beside those that torch knows."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import pathlib
import types
from collections.abc import Iterator

import numpy as np
import torch

CLASSES = (
    argparse.Namespace, types.SimpleNamespace, datetime.datetime, datetime.date, datetime.timedelta,
    pathlib.PurePosixPath, pathlib.PosixPath,
)  # fmt: skip
NUMPY = (
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
)


@contextlib.contextmanager
def data_classes() -> Iterator[None]:
    """Let torch read what training loops store beside the weights: numpy's scalars and arrays, options, times, paths.

    Releases of torch that cannot be told so refuse them, as before. That of 2.5 is told no other names: of numpy's
    arrays it reads those that were stored by the numpy that is here, 1 or 2.
    """
    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:
        yield
        return
    known = [*CLASSES, *_of_numpy()]
    if torch.__version__ < "2.6":
        known = list(dict.fromkeys(one[0] if isinstance(one, tuple) else one for one in known))
    with allow(known):
        yield


def _of_numpy() -> list:
    """numpy's, under the names of numpy 1 and 2 alike."""
    core = getattr(np, "_core", None) or np.core
    scalar, array = core.multiarray.scalar, core.multiarray._reconstruct
    found: list = [np.ndarray, np.dtype, *{type(np.dtype(name)) for name in NUMPY}]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found += [(scalar, f"{module}.scalar"), (array, f"{module}._reconstruct")]
    return found
