"""One run in several processes, started by `torchrun`: each draws and computes its part of every batch.

Gradients are summed here rather than by DistributedDataParallel: the model is used by its phases, not by a forward, and
which parts of it a step uses differs from step to step.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """rank: number of this process, 0 is the one that writes; size: of how many; device: on which its tensors are."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @classmethod
    def join(cls, device: torch.device) -> World:
        """Meet the other processes that `torchrun` started (gloo on CPUs, nccl on GPUs); alone where it did not."""
        size = int(os.environ.get("WORLD_SIZE", 1))
        if size == 1:
            return cls(device=device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), size, device)

    @staticmethod
    def local_device(name: str) -> str:
        """Return the GPU that is this process's: "cuda" and "auto" mean another one in each process of a machine."""
        if "LOCAL_RANK" in os.environ and name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{os.environ['LOCAL_RANK']}"
        return name

    def leave(self) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def wait(self) -> None:
        """Wait until all are here."""
        if self.size > 1:
            self.sum([0.0])

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of numbers over all processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by the sum over all processes. What nobody used keeps none."""
        if self.size == 1:
            return
        used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=self.device)
        dist.all_reduce(used)
        shared = []
        for p, count in zip(parameters, used.tolist(), strict=True):
            if count:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                shared.append(p.grad)
        if shared:
            flat = torch.cat([gradient.flatten() for gradient in shared])
            dist.all_reduce(flat)
            for gradient, part in zip(shared, flat.split([g.numel() for g in shared]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, such as the statistics of batch normalisation, by their mean over all processes."""
        if self.size == 1:
            return
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= self.size
