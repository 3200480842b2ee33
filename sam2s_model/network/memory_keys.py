"""Keys of spatial memories that are made when the memories are, and what a frame adds to them.

The key of a layer is R (W (m + place + time) + b), of a memory m and the codes of its place and its age, by a
projection W, b and a rotation R, which its place decides. All is linear: the key is R (W (m + place) + b), which stays
as it is, and R W time, of which there is one for each age and place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam2s_model.acceleration import kernels


@dataclass(frozen=True)
class CachedKeys:
    """Keys of F spatial memories of each of N objects, without their ages, and where they are kept.

    kept: (capacity, slots, tokens, layers x dim); rows: (N,); columns: (N, F), the objects' rows and slots of it
    codes: (N, F) int, temporal code of each memory; time: the tables of those codes, (some, 1, 1, memory_dim) each
    """

    kept: Tensor
    rows: Tensor
    columns: Tensor
    codes: Tensor
    time: tuple[Tensor, ...]

    @property
    def count(self) -> int:
        """Keys of an object, in each layer."""
        return self.columns.shape[1] * self.kept.shape[2]

    def read(self, part: slice, turned: Tensor, others: Tensor) -> Tensor:
        """Read the keys of some layers, with their ages, and put others after them.

        part: the layers' channels; turned: (codes, tokens, layers x dim), see `turned_time`
        others: (N, P, channels) -> (N, F tokens + P, channels)
        """
        shape = (*self.columns.shape, self.kept.shape[2])
        keys = others.new_empty(len(others), self.count + others.shape[1], others.shape[2])
        own = self.kept[..., part][self.rows[:, None], self.columns]
        torch.add(own, turned[:, :, part][self.codes], out=keys[:, : self.count].view(*shape, -1))
        keys[:, self.count :] = others
        return keys

    def read_by_kernel(self, part: slice, time: Tensor, table: Tensor, before: int, others: Tensor) -> Tensor:
        """Compute `read` with one kernel, which turns the codes of the ages itself.

        time: (codes, layers x dim), see `time_keys`; table, before: see `KeyRotation`
        """
        keys = kernels.read_keys(
            self.kept[..., part], self.rows, self.columns, self.codes, time[:, part], table, before, others.shape[1]
        )
        keys[:, self.count :] = others
        return keys


def time_keys(*weights: Tensor, tables: int) -> Tensor:
    """Weights: as many tables of temporal codes, then the projections of the layers -> (codes, layers x dim)."""
    return _time_keys(*weights, tables=tables).to(weights[0].dtype)


def turned_time(table: Tensor, *weights: Tensor, tables: int, before: int) -> Tensor:
    """Turn `time_keys` by a table (HW, dim / 2, 2) -> (codes, before + HW, layers x dim), as its keys are turned."""
    from sam2s_model.network.memory_attention import rotate_

    keys = _time_keys(*weights, tables=tables)[:, None].repeat(1, before + len(table), 1)
    return rotate_(keys, table, before).to(weights[0].dtype)


def _time_keys(*weights: Tensor, tables: int) -> Tensor:
    codes = torch.cat([table.flatten(0, -2) for table in weights[:tables]])
    return codes.float() @ torch.cat(weights[tables:]).float().T
