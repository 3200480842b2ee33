"""Tensors of a mapped file, taken over one by one: what is kept is in memory once, and what is left out never."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from sam2s_model.errors import CheckpointError

PAGEOUT = 21  # MADV_PAGEOUT of Linux 5.4: gives pages back and, unlike others of its kind, never loses what was in them
NAMED = 4  # tensors that are not finite, of which the first are named


def take_over(
    state: dict[str, Tensor],
    path: Path,
    mapped: Collection[int] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> dict[str, Tensor]:
    """Copy the tensors of a state dict, and empty it: the file that they may be views of is then needed no more.

    mapped: addresses of those that are such views; their pages are given back one after the other
    dtype: of numbers with a fraction, None: their own; device: None: the CPU
    Raises CheckpointError where numbers are not finite, as those of a run that has diverged, or are not there.
    """
    _check_numbers(state, path)
    out: dict[str, Tensor] = {}
    bad: dict[str, tuple[int, int]] = {}
    while state:
        name = next(iter(state))
        value = state.pop(name)
        if not _is_finite(value):
            bad[name] = (int((~_wide(value).isfinite()).sum()), value.numel())
        kind = dtype if dtype is not None and value.is_floating_point() else value.dtype
        out[name] = value.to(device=device or "cpu", dtype=kind, copy=True)
        if mapped and value.data_ptr() in mapped:
            _give_back(value)
    if bad:
        first = ", ".join(f"{name} ({count} of {numbers})" for name, (count, numbers) in list(bad.items())[:NAMED])
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise CheckpointError(
            f"{path} has values that are not finite (NaN or infinite) in {len(bad)} of {len(out)} tensors: "
            f"{first}{more}; the run that wrote it has diverged: take an earlier checkpoint of it"
        )
    return out


def _check_numbers(state: dict[str, Tensor], path: Path) -> None:
    """Raise CheckpointError for tensors that are not plain real numbers, naming the first of them."""
    odd = {name: _is_odd(value) for name, value in state.items()}
    named = [f"{name} ({what})" for name, what in odd.items() if what]
    if named:
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        raise CheckpointError(
            f"{path} has {len(named)} of {len(state)} tensors that are not plain numbers: "
            f"{', '.join(named[:NAMED])}{more}; save the whole model's, dense and real"
        )


def _is_odd(value: Tensor) -> str:
    if value.is_meta:
        return "its numbers were not saved, as those of a model that is partly on another device"
    if value.layout != torch.strided:
        return str(value.layout).removeprefix("torch.")
    return str(value.dtype).removeprefix("torch.") if value.is_complex() else ""


def _is_finite(value: Tensor) -> bool:
    """Tell by the least and the greatest number, NaN if one is: a mask of all of them would take memory beside each.

    It would lie between the tensors that are kept, and what it leaves is not always large enough for the next of
    them: of 113 MB that are kept, up to 55 MB more were held, by chance.
    """
    if not value.is_floating_point() or not value.numel():
        return True
    least, greatest = _wide(value).aminmax()
    return bool(least.isfinite() and greatest.isfinite())


def _wide(value: Tensor) -> Tensor:
    """Numbers of 8 bits as those that torch can look at."""
    return value.float() if value.element_size() == 1 else value


def _give_back(value: Tensor) -> None:
    """Tell the kernel that what was read of a mapped file is not needed any more; a no-op where it cannot be told."""
    if value.device.type != "cpu" or not sys.platform.startswith("linux"):
        return
    begin = value.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    end = -(-(value.data_ptr() + value.numel() * value.element_size()) // mmap.PAGESIZE) * mmap.PAGESIZE
    if value.is_contiguous() and end - begin > 16 * mmap.PAGESIZE:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), PAGEOUT)
