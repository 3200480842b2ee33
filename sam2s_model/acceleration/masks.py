"""What is measured of masks: one Triton kernel each, in place of ten to twenty by torch.

As those of `kernels`, they are operators of torch, for tensors that `kernels.serves`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sam2s_model.device import on_its_gpu

BLOCK = 2048  # pixels that a program looks at together


@torch.library.custom_op("sam2s::boxes", mutates_args=(), schema="(Tensor masks) -> Tensor")
@on_its_gpu
def boxes(masks: Tensor) -> Tensor:
    """As `evidence.boxes`: (..., h, w) bool -> (..., 4) fp32."""
    from sam2s_model.acceleration import triton_masks as kernels

    masks, out = masks.contiguous(), _room_for_boxes(masks)
    height, width = masks.shape[-2:]
    kernels.boxes[(out.numel() // 4,)](masks.view(torch.uint8), out, height, width, BLOCK)
    return out


@boxes.register_fake
def _room_for_boxes(masks: Tensor) -> Tensor:
    return masks.new_empty(*masks.shape[:-2], 4, dtype=torch.float32)


@torch.library.custom_op(
    "sam2s::agreement", mutates_args=(), schema="(Tensor logits, Tensor soft, float missed) -> Tensor"
)
@on_its_gpu
def agreement(logits: Tensor, soft: Tensor, missed: float) -> Tensor:
    """As `Correspondence.agreement`: logits (N, K, h, w) and maps (N, 1, h, w) fp32 -> (N, K) fp32."""
    from sam2s_model.acceleration import triton_masks as kernels

    logits, soft, out = logits.contiguous(), soft.contiguous(), _room_for_agreement(logits)
    kernels.agreement[(out.numel(),)](logits, soft, out, logits.shape[1], soft[0].numel(), missed, BLOCK)
    return out


@agreement.register_fake
def _room_for_agreement(logits: Tensor, soft: Tensor | None = None, missed: float = 0.0) -> Tensor:
    return logits.new_empty(*logits.shape[:2], dtype=torch.float32)
